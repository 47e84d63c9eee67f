"""The look of all figures: methods, scales, titles, names beside points, legends and saved files.

Colours stand for families of methods and colour-blind readers can tell them apart. Each method has
its own marker, for grey print. The style sheet switches formulas in texts off: a class named `$5`
is drawn as it is written.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike, NDArray

from fairlth import config
from fairlth.config import paths

plt.style.use(Path(__file__).with_name("fairlth.mplstyle"))


class Look(NamedTuple):
    """How figures show a method."""

    name: str
    colour: str
    marker: Any  # of matplotlib; beside the colour, for grey print


FAMILIES = {  # seven colours of Okabe and Ito, some of them darker
    "dense": "#000000",
    "control": "#7F7F7F",
    "plain": "#0072B2",  # plain pruning
    "shifted": "#B87A00",  # plain pruning with shifted class biases
    "rival": "#007D5C",  # fair pruning of others
    "half": "#B0508A",  # one half of Ballot
    "ballot": "#D55E00",
}
LOOKS = {
    method: Look(row.title, FAMILIES[row.family], row.marker)
    for method, row in config.METHOD_TABLE.items()
}
NAMES = {method: look.name for method, look in LOOKS.items()}
COLOURS = {method: look.colour for method, look in LOOKS.items()}

GREY = "#6B6B6B"  # of notes beside the numbers
SCALES = {  # metric -> factor and axis label
    "accuracy": (100, "accuracy (%)"),
    "mean_accuracy": (100, "mean of group accuracies (%)"),
    "worst_accuracy": (100, "accuracy of the worst group (%)"),
    "cwv": (1e4, "CWV × 10⁴ (0 is fair)"),
    "mcd": (100, "MCD (points, 0 is fair)"),
}

POINT = "name of a point"
LEADER = "line from a point to its name"
CLEAR = 5  # points around a marker that names are pushed off
MARKER = 2.5  # points from a marker's middle to its edge
LED = 8  # points from a marker to its name above which a line joins them
ROUNDS = 400  # of pushing names apart, at most
Push = dict[str, tuple[float, float]]  # forces of adjustText, across and upright
PUSHES: list[Push] = [  # in the order of trying
    {"force_text": (0.3, 0.5), "force_static": (0.2, 0.4), "force_explode": (0.5, 1.0)},
    {"force_text": (0.3, 0.5), "force_static": (0.5, 1.0), "force_explode": (0.5, 1.0)},
    {"force_text": (0.3, 1.0), "force_static": (0.1, 0.4), "force_explode": (0.2, 2.0)},
    {"force_text": (0.1, 0.2), "force_static": (0.5, 0.2), "force_explode": (0.2, 0.5)},
    {"force_text": (0.1, 1.0), "force_static": (0.2, 1.0), "force_explode": (0.2, 1.0)},
]
Array = NDArray[np.float64]


def look(method: str) -> dict[str, Any]:
    """Colour and marker of a method, as matplotlib's drawing functions take them."""
    return {"color": LOOKS[method].colour, "marker": LOOKS[method].marker}


def whiskers(mean: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    """Distances (2, n) from n means to the ends of their intervals; 0 without an interval."""
    means = np.atleast_1d(np.asarray(mean, float))
    below = means - np.asarray(low, float)
    above = np.asarray(high, float) - means
    return np.nan_to_num(np.stack([below, above]))


def doublings(axis: Any, ends: Iterable[float]) -> None:
    """Makes an axis logarithmic, a bit longer than its values, with some ten ticks at powers of 2.

    Args:
        axis: `ax.xaxis` or `ax.yaxis`.
        ends: values that the axis has to show; those that no logarithm has are left out.
    """
    shown = [end for end in ends if np.isfinite(end) and end > 0] or [1.0]
    low = min(shown) / 1.5
    high = max(shown) * 1.5
    powers = [power for power in range(-12, 12) if low < 2.0**power < high]
    every = 1 + len(powers) // 10
    ticks = [2.0**power for power in powers if power % every == 0]
    texts = [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks]
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    axis.set_ticks(ticks, texts)
    axis.set_tick_params(which="minor", size=0)
    axis.set_minor_formatter("")


def seeds(rows: pd.DataFrame) -> str:
    """The number of seeds behind some rows, such as "3" or "3 to 5", from their column `n`.

    The dense net does not count where there are other methods: it may have more seeds.
    """
    pruned = rows[rows["method"] != "dense"]
    return span(pruned["n"] if len(pruned) else rows["n"])


def span(counts: Iterable[int]) -> str:
    """The lowest and the highest of some numbers, such as "3 to 5", or the only one."""
    return " to ".join(dict.fromkeys(f"{end:,}" for end in (min(counts), max(counts))))


def titled(ax: Axes, title: str, conditions: str) -> Axes:
    """Gives a panel its title and, below it, the conditions of its numbers."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.set_title(legible(title), pad=18)
    ax.annotate(legible(conditions), (0, 1), (0, 5), fontsize=9, color=GREY, **place)
    return ax


def legible(text: str) -> str:
    r"""The text with escapes, such as `\u65e5`, for characters that the fonts of figures lack."""
    families = plt.rcParams["font.family"]
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in families]
    known = [any(font.get_char_index(ord(character)) for font in fonts) for character in text]
    escaped = [character.encode("unicode_escape").decode() for character in text]
    return "".join(
        character if has_glyph or character == "\n" else escape
        for character, has_glyph, escape in zip(text, known, escaped, strict=True)
    )


def outlined(note: Annotation) -> Annotation:
    """A text with a thin white outline, legible on lines."""
    note.set_path_effects([withStroke(linewidth=2, foreground="white")])
    return note


def name(ax: Axes, text: str, at: tuple[float, float], colour: str) -> None:
    """Writes a name at a point (data coordinates); `place_names` moves it to where it fits."""
    place: dict[str, Any] = {"ha": "center", "va": "center"}
    note = ax.annotate(legible(text), at, at, color=colour, gid=POINT, fontsize=8, **place)
    outlined(note)
    note.set_in_layout(False)  # a name inside the axes takes no room from them


def place_names(figure: Figure) -> None:
    """Moves the names of points where they hide neither each other nor a marker.

    A line leads from a name to its point where they are far from each other. The same figure gives
    the same places each time. `save` calls this.
    """
    figure.draw_without_rendering()  # the places of axes are known only then
    for ax in figure.axes:
        names = [note for note in ax.texts if note.get_gid() == POINT]
        if names:
            _place(ax, names)


def _place(ax: Axes, names: list[Any]) -> None:
    """Places one panel's names by the first push that leaves no collision, else by the best one."""
    found = []
    for push in PUSHES:
        _push_apart(ax, names, push)
        found.append(collisions(ax, names))
        if found[-1] == 0:
            return
    _push_apart(ax, names, PUSHES[int(np.argmin(found))])


def _push_apart(ax: Axes, names: list[Any], push: Push) -> None:
    """Lets adjustText move names from their points on; lines of an earlier call go."""
    for patch in [patch for patch in ax.patches if patch.get_gid() == LEADER]:
        patch.remove()
    for note in names:
        note.set_position(note.xy)
    to_data = ax.transData.inverted()
    pixels = ax.figure.dpi / 72  # per point
    leader = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3, "gid": LEADER}
    _, lines = adjust_text(
        names,
        ax=ax,
        objects=[box.transformed(to_data) for box in _markers(ax, CLEAR)],
        avoid_self=False,
        min_arrow_len=LED * pixels,
        iter_lim=ROUNDS,  # and no limit in seconds: the places would depend on the machine
        arrowprops=leader,
        **push,
    )
    for line in lines:
        line.set_color(line.patchA.get_color())


def collisions(ax: Axes, names: list[Any]) -> int:
    """How many pairs of names, or of a name and a marker, overlap."""
    boxes = [Text.get_window_extent(note) for note in names]
    others = _markers(ax, MARKER)
    found = 0
    for place, box in enumerate(boxes):
        found += box.count_overlaps(boxes[place + 1 :])
        found += box.count_overlaps(others)
    return found


def _markers(ax: Axes, reach: float) -> list[Bbox]:
    """Boxes (pixels) around all markers, `reach` points to each side."""
    pixels = reach * ax.figure.dpi / 72
    boxes = []
    for line in ax.lines:
        if line.get_marker() not in ("None", None, "|", "_"):
            for place in line.get_transform().transform(line.get_xydata()):
                boxes.append(Bbox([place - pixels, place + pixels]))
    return boxes


def legend_below(figure: Figure, ncols: int = 5) -> None:
    """Puts one legend under a figure, each label once, where panels have labels for a legend."""
    found: dict[str, Any] = {}
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if found:
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=ncols)


def save(figure: Figure, name: str, preset: str, folder: Path | None = None) -> str:
    """Places names, then writes figures/<preset>/<name>.png and .pdf.

    The same figure gives the same bytes. Returns the PNG's path, relative to the folder of results.

    Args:
        figure: any.
        name: of the notebook, or what else the file is to be called.
        preset: whose figure it is.
        folder: in the folder of results, in place of figures/<preset>.
    """
    place_names(figure)
    path = (folder or paths.FIGURES / preset) / name
    for ending, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"CreationDate": None, "Producer": None}),
    ):
        content = io.BytesIO()
        figure.savefig(content, format=ending, metadata=metadata)
        paths.write_atomically(path.with_name(f"{name}.{ending}"), content.getvalue())
    return str(path.with_name(f"{name}.png").relative_to(paths.HOME))
