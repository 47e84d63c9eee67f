"""Groups: each one's accuracy, what it gained on the dense net, and gaps between groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from fairlth import metrics
from fairlth.figures.style import COLOURS, NAMES, legible, look, whiskers

APART = 0.14  # of the distance between two groups, between two methods
TOO_WIDE = 80  # characters of all names in a line; longer lines are turned


def group_accuracy(
    correct: Any, total: Any, names: Sequence[str], ax: Axes, method: str, shift: float = 0.0
) -> Axes:
    """Accuracy of each group as a point with its 95 % Wilson interval.

    Args:
        correct, total: (groups,) counts of images.
        names: of the groups.
        method: whose colour, marker and name the points have.
        shift: moves the points beside another method's.
    """
    points = [metrics.share_interval(c, t) for c, t in zip(correct, total, strict=True)]
    x = np.arange(len(names)) + shift
    means = [point.mean for point in points]
    ends = whiskers(means, [point.low for point in points], [point.high for point in points])
    style: dict[str, Any] = {"linestyle": "none", "capsize": 2, "elinewidth": 1}
    ax.errorbar(x, means, ends, **look(method), label=NAMES[method], **style)
    words = [legible(text) for text in names]
    if len(words) * max(map(len, words)) > TOO_WIDE:
        ax.set_xticks(range(len(words)), words, rotation=35, ha="right")
    else:
        ax.set_xticks(range(len(words)), words)
    sizes = sorted({int(t) for t in total})
    images = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    ax.set(ylabel="accuracy", xlabel=f"n = {images} images each, 95 % Wilson intervals")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="x", visible=False)
    return ax


def by_group(rows: pd.DataFrame, value: str, ax: Axes) -> Axes:
    """Each group's accuracy, or what it gained on the dense net, by method.

    Points are means, with 95 % t intervals over seeds.

    Args:
        rows: from `subgroups.by_group`, of one task.
        value: "accuracy" or "gained".
    """
    images = rows.groupby("group", sort=False)["images"].first()
    shown = rows if value == "accuracy" else rows[rows["method"] != "dense"]
    middle = (shown["method"].nunique() - 1) / 2
    for place, (method, own) in enumerate(shown.groupby("method", sort=False)):
        points = own.set_index("group").reindex(images.index)[
            [value, f"{value}_low", f"{value}_high"]
        ]
        _beside(str(method), place - middle, points.to_numpy() * 100, ax)
    ax.set_xticks(
        range(len(images)), [f"{legible(str(group))}\nn = {n}" for group, n in images.items()]
    )
    if value == "gained":
        ax.set_ylabel("points gained on the dense net")
        ax.axhline(0, color=COLOURS["dense"], linestyle="--", linewidth=1)
    else:
        ax.set_ylabel("accuracy (%)")
        ax.set_ylim(top=min(100.5, ax.get_ylim()[1]))
    return ax


def gaps(rows: pd.DataFrame, names: dict[str, str], ax: Axes) -> Axes:
    """Gaps between groups by method: means and 95 % t intervals over seeds.

    Grey bars reach what chance alone shows.

    Args:
        rows: from `subgroups.gap_summary`, of one task.
        names: gap -> its name in the figure, such as `subgroups.GAPS`.
    """
    middle = (len(rows) - 1) / 2
    for place, (_, row) in enumerate(rows.iterrows()):
        points = [[row[name], row[f"{name}_low"], row[f"{name}_high"]] for name in names]
        _beside(row["method"], place - middle, np.array(points, float) * 100, ax)
        floor = row[[f"{name}_floor" for name in names]].to_numpy(float) * 100
        x = np.arange(len(names)) + APART * (place - middle)
        ax.bar(x, floor, 0.12, color="#dddddd", label=None if place else "chance alone")
    ax.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names.values()])
    ax.set(ylabel="gap (points, 0 is fair)", ylim=(0, None), xlim=(-0.6, len(names) - 0.4))
    return ax


def _beside(method: str, shift: float, points: np.ndarray, ax: Axes) -> None:
    """A method's points (n, 3: mean, low, high), moved beside those of other methods."""
    mean, low, high = points.T
    x = np.arange(len(points)) + APART * shift
    style: dict[str, Any] = {"linestyle": "none", "capsize": 2, "elinewidth": 1}
    ax.errorbar(x, mean, whiskers(mean, low, high), **look(method), label=NAMES[method], **style)
    ax.grid(axis="x", visible=False)
