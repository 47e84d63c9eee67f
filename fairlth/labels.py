"""Direct labels: names beside what they name instead of in a legend, moved until they hide as little as there is room for."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

DISTANCES = (7, 11, 16, 22, 30, 40, 52)  # points from a marker to its name
DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]  # right first
CLEAR = 5  # points around a marker that names keep free
LED = 14  # points from which on a line leads from the point to its name
POINT, MARGIN = "name of a point", "name in the margin"


def name(ax: Axes, text: str, at: tuple[float, float], colour: str) -> None:
    """Writes a name beside a point (data coordinates); `untangle` moves it where it is in the way of others."""
    _annotate(ax, text, at, colour, POINT, xytext=(DISTANCES[0], -4), textcoords="offset points")


def name_in_margin(ax: Axes, text: str, at: tuple[float, float], colour: str, size: float = 8) -> None:
    """Writes a line's name right of the axes, led to the line's end `at` (data coordinates); `untangle` spreads such names."""
    place = {"xytext": (1.04, 0.5), "textcoords": "axes fraction", "va": "center"}
    _annotate(ax, text, at, colour, MARGIN, fontsize=size, **place)


def _annotate(ax: Axes, text: str, at: tuple[float, float], colour: str, kind: str, fontsize: float = 8, **place: Any) -> None:
    line = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3, "color": colour}
    halo = [withStroke(linewidth=2, foreground="white")]
    note = ax.annotate(text, at, color=colour, gid=kind, arrowprops=line, annotation_clip=False, fontsize=fontsize, **place)
    note.set_path_effects(halo)
    note.arrow_patch.set_visible(kind == MARGIN)
    note.set_in_layout(kind == MARGIN)  # a name inside the axes takes no room from them


def untangle(figure: Figure) -> None:
    """Moves all names of a figure so that they hide neither each other nor a marker, as far as there is room."""
    if any(text.get_gid() in (POINT, MARGIN) for ax in figure.axes for text in ax.texts):
        figure.draw_without_rendering()  # the places of axes are known only then
    for ax in figure.axes:
        _spread(ax, [text for text in ax.texts if text.get_gid() == MARGIN])
        _avoid(ax, [text for text in ax.texts if text.get_gid() == POINT])


def spread(values: Iterable[float], gap: float) -> list[float]:
    """The values nearest to these (in squared distance) of which no two are less than `gap` apart; their order stays."""
    from scipy.optimize import isotonic_regression

    values = np.asarray(list(values), float)
    order, steps, found = np.argsort(values, kind="stable"), gap * np.arange(len(values)), np.empty_like(values)
    found[order] = isotonic_regression(values[order] - steps).x + steps
    return found.tolist()


def _spread(ax: Axes, names: list[Annotation]) -> None:
    """Names in the margin stand at the heights of what they name, as near as a line's distance between them allows."""
    if names:
        heights = ax.transAxes.inverted().transform(ax.transData.transform([text.xy for text in names]))[:, 1]
        gap = max(_words(text).height for text in names) / ax.bbox.height
        for text, height in zip(names, spread(np.clip(heights, 0, 1), 1.05 * gap), strict=True):
            text.set_position((1.04, height))


def _avoid(ax: Axes, names: list[Annotation]) -> None:
    """Each name takes the place around its point where it hides least; points in the thick of it choose first."""
    scale = ax.figure.dpi / 72  # pixels in a point
    points = [ax.transData.transform(text.xy) for text in names]
    taken = [Bbox.from_extents(*(point - CLEAR * scale), *(point + CLEAR * scale)) for point in points]
    crowd = [-sum(np.hypot(*(point - other)) < 60 * scale for other in points) for point in points]
    bars = list(_bars(ax))
    for place in np.argsort(crowd, kind="stable"):
        text, words = names[place], _words(names[place])
        costs = [
            (_hidden(box, taken) + 0.2 * _hidden(box, bars) + 3 * _outside(box, ax.bbox) + 2 * far * scale**2, far, offset, box)
            for far, offset, box in _places(points[place], words, scale)
        ]
        _, far, offset, box = min(costs, key=lambda found: found[0])
        text.set(ha="left", va="bottom")
        text.set_position(offset)
        text.arrow_patch.set_visible(far >= LED)
        taken.append(box)


def _words(text: Annotation) -> Bbox:
    """The box of the words, in pixels, without the line that leads to them."""
    return Text.get_window_extent(text)


def _places(point: np.ndarray, words: Bbox, scale: float) -> Iterator[tuple[int, tuple[float, float], Bbox]]:
    """Distance, offset of the lower left corner in points, and box in pixels of every place that a name is tried at."""
    size = np.array([words.width, words.height]) / scale
    for far in DISTANCES:
        for direction in DIRECTIONS:
            side = np.array(direction)
            offset = side * far * (0.8 if side.all() else 1) + (side - 1) / 2 * size
            yield far, tuple(offset.round(2).tolist()), Bbox.from_bounds(*(point + offset * scale), words.width, words.height)


def _hidden(box: Bbox, others: list[Bbox]) -> float:
    """How many square pixels of others a box hides."""
    shared = (Bbox.intersection(box, other) for other in others)
    return sum(part.width * part.height for part in shared if part is not None)


def _outside(box: Bbox, axes: Bbox) -> float:
    return box.width * box.height - _hidden(box, [axes])


def _bars(ax: Axes) -> Iterator[Bbox]:
    """Error bars as boxes four pixels wide."""
    for bars in ax.collections:
        if isinstance(bars, LineCollection):
            for ends in bars.get_segments():
                low, high = ax.transData.transform(ends).min(0), ax.transData.transform(ends).max(0)
                yield Bbox.from_extents(*(low - 2), *(high + 2))
