"""Groups: each one's accuracy, what it gained on the dense net, and gaps between groups."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fairlth import metrics
from fairlth.figures.style import COLOURS, NAMES, legible, look, span, whiskers

APART = 0.14  # of the distance between two groups, between two methods
TOO_WIDE = 80  # characters of all names in a line; longer lines are turned


def group_accuracy(
    correct: Any, total: Any, names: Sequence[str], ax: Axes, method: str, shift: float = 0.0
) -> Axes:
    """Accuracy of each group as a point with its 95 % Wilson interval; without groups nothing.

    Args:
        correct, total: (groups,) counts of images.
        names: of the groups.
        method: whose colour, marker and name the points have.
        shift: moves the points beside another method's.
    """
    if not len(names):
        return ax
    points = [metrics.share_interval(c, t)[:3] for c, t in zip(correct, total, strict=True)]
    _beside(method, shift, np.array(points), ax)
    _name_groups(names, ax)
    ax.set(ylabel="accuracy", xlabel=f"n = {span(total)} images each, 95 % Wilson intervals")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return ax


def by_group(rows: pd.DataFrame, value: str, ax: Axes) -> Axes:
    """Each group's accuracy, or what it gained on the dense net, by method.

    Points are means, with 95 % t intervals over seeds.

    Args:
        rows: from `groups.by_group`, of one task.
        value: "accuracy" or "gained".
    """
    images = rows.groupby("group", sort=False)["images"].first()
    shown = rows if value == "accuracy" else rows[rows["method"] != "dense"]
    middle = (shown["method"].nunique() - 1) / 2
    for place, (method, own) in enumerate(shown.groupby("method", sort=False)):
        points = own.set_index("group").reindex(images.index)[
            [value, f"{value}_low", f"{value}_high"]
        ]
        _beside(str(method), APART * (place - middle), points.to_numpy() * 100, ax)
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
        rows: from `groups.gap_summary`, of one task.
        names: gap -> its name in the figure, such as `groups.GAPS`.
    """
    middle = (len(rows) - 1) / 2
    for place, (_, row) in enumerate(rows.iterrows()):
        points = [[row[name], row[f"{name}_low"], row[f"{name}_high"]] for name in names]
        shift = APART * (place - middle)
        _beside(row["method"], shift, np.array(points, float) * 100, ax)
        floor = row[[f"{name}_floor" for name in names]].to_numpy(float) * 100
        x = np.arange(len(names)) + shift
        ax.bar(x, floor, 0.12, color="#dddddd", label=None if place else "chance alone")
    ax.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names.values()])
    ax.set(ylabel="gap (points, 0 is fair)", ylim=(0, None), xlim=(-0.6, len(names) - 0.4))
    return ax


def forgotten(rows: pd.DataFrame, ax: Axes) -> Axes:
    """The share of each group's images that tickets forget, by method, weak groups first.

    Points are means with 95 % intervals. Grey bars reach what training the dense net anew forgets,
    less than nothing being drawn as nothing.

    Args:
        rows: from `audit.summary`, of one task and density.
    """
    accuracy = rows["right"] / rows["images"]
    order = rows.assign(accuracy=accuracy).groupby("group", sort=False)["accuracy"].first()
    names = list(order.sort_values(kind="stable").index)
    methods = list(dict.fromkeys(rows["method"]))
    middle = (len(methods) - 1) / 2
    for place, method in enumerate(methods):
        own = rows[rows["method"] == method].set_index("group").loc[names]
        points = own[["forgotten", "forgotten_low", "forgotten_high"]].to_numpy(float)
        shift = APART * (place - middle)
        _beside(method, shift, points.clip(0) * 100, ax)  # no share is below 0
    null = (own["forgotten"] - own["beyond_chance"]).to_numpy(float) * 100
    width = APART * (len(methods) + 1)
    ax.bar(range(len(names)), null, width, color="#dddddd", label="the dense net trained anew")
    _name_groups(names, ax)
    ax.set(ylabel="forgotten (% of what the dense net has right)")
    return ax


def pictures(images: Any, captions: Sequence[str]) -> Figure:
    """Images in a row, each under its caption.

    Args:
        images: (k, channels, side, side) uint8, one channel or three.
        captions: k of them.
    """
    figure, axes = plt.subplots(1, len(images), figsize=(1.5 * len(images), 1.9), squeeze=False)
    for image, caption, ax in zip(images, captions, axes[0], strict=True):
        ax.imshow(np.moveaxis(np.asarray(image), 0, -1), cmap="gray", vmin=0, vmax=255)
        ax.set_title(legible(caption), fontsize=8)
        ax.set_axis_off()
    return figure


def _beside(method: str, shift: float, points: np.ndarray, ax: Axes) -> None:
    """A method's points (n, 3: mean, low, high), moved beside those of other methods."""
    mean, low, high = points.T
    x = np.arange(len(points)) + shift
    style: dict[str, Any] = {"linestyle": "none", "capsize": 2, "elinewidth": 1}
    ax.errorbar(x, mean, whiskers(mean, low, high), **look(method), label=NAMES[method], **style)
    ax.grid(axis="x", visible=False)


def _name_groups(names: Sequence[str], ax: Axes) -> None:
    """Names of groups below the axis, turned where they are too wide for a line."""
    words = [legible(str(name)) for name in names]
    turned: dict[str, Any] = {"rotation": 35, "ha": "right"}
    is_wide = len(words) * max(map(len, words)) > TOO_WIDE
    ax.set_xticks(range(len(words)), words, **(turned if is_wide else {}))
