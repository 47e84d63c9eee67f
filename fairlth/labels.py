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
from numpy.typing import NDArray

DISTANCES = (7, 11, 16, 22, 30, 40, 52)  # points from a marker to its name
DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]  # right first
CLEAR = 5  # points around a marker that names keep free
LED = 14  # points from which on a line leads from the point to its name
Array = NDArray[np.float64]
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
    note = ax.annotate(text, at, color=colour, gid=kind, arrowprops=line, annotation_clip=False, fontsize=fontsize, **place)
    note.set_path_effects([withStroke(linewidth=2, foreground="white")])
    _lead(note, kind == MARGIN)
    note.set_in_layout(kind == MARGIN)  # a name inside the axes takes no room from them


def untangle(figure: Figure) -> None:
    """Moves all names of a figure so that they hide neither each other nor a marker, as far as there is room."""
    if any(_names(ax, kind) for ax in figure.axes for kind in (POINT, MARGIN)):
        figure.draw_without_rendering()  # the places of axes are known only then
    for ax in figure.axes:
        _spread(ax, _names(ax, MARGIN))
        _avoid(ax, _names(ax, POINT))


def _names(ax: Axes, kind: str) -> list[Annotation]:
    return [text for text in ax.texts if isinstance(text, Annotation) and text.get_gid() == kind]


def _lead(text: Annotation, led: bool) -> None:
    """Whether a line leads from the point to its name."""
    if text.arrow_patch is not None:
        text.arrow_patch.set_visible(led)


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
    points = np.array([ax.transData.transform(text.xy) for text in names]).reshape(-1, 2)
    marked, bars = np.vstack([points, *_markers(ax)]), np.array(list(_bars(ax))).reshape(-1, 4)
    taken = np.hstack([marked - CLEAR * scale, marked + CLEAR * scale])
    crowd = [-(np.hypot(*(points - point).T) < 60 * scale).sum() for point in points]
    for place in np.argsort(crowd, kind="stable"):
        text, words = names[place], _words(names[place])
        far, offsets, boxes = _places(points[place], np.array([words.width, words.height]), scale)
        outside = words.width * words.height - _hidden(boxes, np.array([ax.bbox.extents]))
        cost = 5 * _hidden(boxes, taken) + 0.2 * _hidden(boxes, bars) + 8 * outside + 2 * far * scale**2
        best = int(cost.round(3).argmin())
        text.set(ha="left", va="bottom")
        text.set_position(tuple(offsets[best].tolist()))
        _lead(text, bool(far[best] >= LED))
        taken = np.vstack([taken, boxes[best]])


def _words(text: Annotation) -> Bbox:
    """The box of the words, in pixels, without the line that leads to them."""
    return Text.get_window_extent(text)


def _places(point: Array, size: Array, scale: float) -> tuple[Array, Array, Array]:
    """All places that a name is tried at: distances and offsets of its lower left corner in points, and boxes in pixels."""
    far = np.repeat(DISTANCES, len(DIRECTIONS)).astype(float)
    side = np.tile(DIRECTIONS, (len(DISTANCES), 1)).astype(float)
    reach = far * np.where(side.all(1), 0.8, 1.0)
    offsets = (side * reach[:, None] + (side - 1) / 2 * size / scale).round(2)
    corners = point + offsets * scale
    return far, offsets, np.hstack([corners, corners + size])


def _hidden(boxes: Array, others: Array) -> Array:
    """How many square pixels of the others each box hides: (n, 4) and (m, 4) left, low, right, high -> (n,)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (high - low).clip(min=0).prod(2).sum(1)


def _markers(ax: Axes) -> Iterator[Array]:
    """The places in pixels of all markers."""
    for line in ax.lines:
        if line.get_marker() not in ("None", None, "|", "_"):
            yield line.get_transform().transform(line.get_xydata())


def _bars(ax: Axes) -> Iterator[Array]:
    """Error bars and level or upright lines as boxes four pixels wide."""
    for bars in ax.collections:
        if isinstance(bars, LineCollection):
            yield from (_thin(ax.transData.transform(ends)) for ends in bars.get_segments())
    for line in ax.lines:
        ends = line.get_transform().transform(line.get_xydata())
        if len(ends) == 2 and np.isclose(ends[0], ends[1]).any():
            yield _thin(ends)


def _thin(ends: Array) -> Array:
    return np.hstack([ends.min(0) - 2, ends.max(0) + 2])
