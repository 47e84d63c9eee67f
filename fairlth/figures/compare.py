"""Methods compared: one metric, accuracy against CWV, cost, densities; and grids of such panels.

Each drawing takes a table and axes and returns the axes; it computes nothing.
"""

import math
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fairlth import config
from fairlth.figures.style import (
    COLOURS,
    GREY,
    NAMES,
    SCALES,
    doublings,
    look,
    name,
    seeds,
    titled,
    whiskers,
)

Draw = Callable[[pd.DataFrame, Axes], Axes]


def panels(summary: pd.DataFrame, draw: Draw, width: float = 5.2, height: float = 3.2) -> Figure:
    """A figure with one panel per task and density that has runs.

    The dense net is in all panels of its task. The grid has one row per task and one column per
    density where every task has the same densities. Otherwise the panels follow each other without
    gaps. Names of points are placed by `save` or `place_names`.

    Args:
        summary: from `summaries.summary`.
        draw: puts one panel's rows on its axes.
        width, height: of a panel, inches.
    """
    shown = _by_task_and_density(summary)
    columns = _columns(shown)
    lines = math.ceil(len(shown) / columns)
    size = (width * columns, height * lines)
    figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False)
    axes = grid.ravel()
    for ax in axes[len(shown) :]:
        ax.remove()
    for (density, own), ax in zip(shown, axes, strict=False):
        draw(own, ax)
        conditions = f"density {density:g}, n = {seeds(own)} seeds, 95 % t intervals"
        titled(ax, config.task_name(own.iloc[0]), conditions)
    return figure


def _by_task_and_density(summary: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """Density and rows of each panel, task by task, the high density first."""
    found = []
    for _, task in summary.groupby(config.TASK, sort=False):
        dense = task["method"] == "dense"
        densities = sorted(task.loc[~dense, "density"].unique(), reverse=True)
        found += [(density, task[(task["density"] == density) | dense]) for density in densities]
    return found


def _columns(shown: list[tuple[float, pd.DataFrame]]) -> int:
    """Columns of a grid: the most densities that a task has, and two at least for many panels."""
    tasks = [tuple(own[config.TASK].iloc[0]) for _, own in shown]
    most = max((tasks.count(task) for task in tasks), default=1)
    return max(most, 2 if len(shown) > 4 else 1)


def rows(summary: pd.DataFrame, draws: list[Draw]) -> Figure:
    """A figure with one row per task and one column per way to draw it.

    A task of which only the dense net is there has no row, unless that is so of all tasks.

    Args:
        summary: from `summaries.summary`.
        draws: each puts one task's rows on its axes.
    """
    tasks = [own for _, own in summary.groupby(config.TASK, sort=False)]
    tasks = [own for own in tasks if own["method"].ne("dense").any()] or tasks
    size = (6.4 * len(draws), 4.2 * len(tasks))
    figure, axes = plt.subplots(len(tasks), len(draws), figsize=size, squeeze=False)
    for own, line in zip(tasks, axes, strict=True):
        for draw, ax in zip(draws, line, strict=True):
            draw(own, ax)
            titled(ax, config.task_name(own.iloc[0]), f"n = {seeds(own)} seeds, 95 % t intervals")
    return figure


def comparison(summary: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """One metric by method: mean and 95 % t interval over seeds, the noise floor as a grey line.

    Args:
        summary: rows of `summaries.summary` of one task and density.
        metric: a key of SCALES.
    """
    scale, label = SCALES[metric]
    shown = summary.iloc[::-1]
    farthest_end = shown[f"{metric}_high"].fillna(shown[metric]).max()
    limit = min(farthest_end * 1.05, shown[metric].max() * 1.5) * scale
    for place, (_, row) in enumerate(shown.iterrows()):
        mean = row[metric] * scale
        high = row[f"{metric}_high"] * scale
        ends = whiskers(mean, row[f"{metric}_low"] * scale, high)
        ax.errorbar(mean, place, xerr=ends, **look(row["method"]), capsize=3)
        if high > limit:  # the interval goes on
            ax.plot(limit, place, ">", color=COLOURS[row["method"]], markersize=6, clip_on=False)
    ax.set_xlim(0, limit)
    if f"{metric}_floor" in summary:
        _chance(ax, summary[f"{metric}_floor"].mean() * scale)
    ax.set_yticks(range(len(shown)), [NAMES[method] for method in shown["method"]])
    ax.set(xlabel=label, ylim=(-1.1, len(shown) - 0.4))  # room for the word at the bottom
    ax.grid(axis="y", visible=False)
    return ax


def _chance(ax: Axes, floor: float) -> None:
    """The noise floor as a dotted line with its name and value."""
    ax.axvline(floor, color=GREY, linestyle=":", zorder=0)
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "va": "bottom"}
    ax.annotate(f" chance: {floor:.1f}", (floor, 0.0), fontsize=8, color=GREY, **place)


def tradeoff(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy against CWV, one named point per method with both intervals; up and left is better.

    Args:
        summary: rows of `summaries.summary` of one task and density.
    """
    for _, row in summary.iterrows():
        _point(row, ax, named=True)
    return _accuracy_against_cwv(summary, ax)


def curves(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy against CWV along each method's pressure, its name at the method's own pressure.

    Args:
        rows: from `summaries.curves`, of one task; points are joined in their order.
    """
    for method, own in rows.groupby("method", sort=False):
        line: dict[str, Any] = {"color": COLOURS[str(method)], "linewidth": 1.2, "alpha": 0.7}
        ax.plot(own["cwv"] * 1e4, own["accuracy"] * 100, "-", **line)
        for _, row in own.iterrows():
            _point(row, ax, named=bool(np.isnan(row["pressure"])))
    return _accuracy_against_cwv(rows, ax)


def _point(row: pd.Series, ax: Axes, named: bool) -> None:
    x = row["cwv"] * 1e4
    y = row["accuracy"] * 100
    across = whiskers(x, row["cwv_low"] * 1e4, row["cwv_high"] * 1e4)
    upright = whiskers(y, row["accuracy_low"] * 100, row["accuracy_high"] * 100)
    ax.errorbar(x, y, upright, across, **look(row["method"]), elinewidth=0.7)
    if named:
        name(ax, NAMES[row["method"]], (x, y), COLOURS[row["method"]])


def _accuracy_against_cwv(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Labels, and limits that include all means; a wide interval may leave the picture."""
    ax.set(xlabel=SCALES["cwv"][1], ylabel=SCALES["accuracy"][1])
    ax.set_xlim(0, rows["cwv"].max() * 1e4 * 1.2)
    ax.set_ylim(*_accuracy_limits(rows, "accuracy"))
    return ax


def _accuracy_limits(rows: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Percent, with room around the means and at most 100."""
    low = rows[metric].min() * 100
    high = rows[metric].max() * 100
    room = 0.2 * max(high - low, 1.0)
    return low - room, min(100.0, high + room)


def cost(rows: pd.DataFrame, ax: Axes) -> Axes:
    """CWV over that of a plain ticket with shifted biases at equal accuracy, against cost.

    Filled points are as trained, open ones have shifted biases.

    Args:
        rows: from `equal_accuracy.relative_summary`, of one task and density.
    """
    for _, own in rows.groupby(["cost", rows["shift"] > 0]):
        beside = np.linspace(-0.02, 0.02, len(own)) * (
            len(own) - 1
        )  # tells bars of equal cost apart
        for apart, (_, row) in zip(beside, own.iterrows(), strict=True):
            shifted = 0.012 if row["shift"] > 0 else 0.0
            _paid(row, row["cost"] * 2 ** (apart + shifted), ax)
    ax.axhline(1, color="#000000", linewidth=0.8)
    ax.set(
        xlabel="cost (dense trainings)", ylabel="CWV at equal accuracy,\nplain ticket + shift = 1"
    )
    ax.plot([], [], "o", color=GREY, label="as trained")
    ax.plot([], [], "o", color=GREY, mfc="white", label="class biases shifted half-way as well")
    doublings(ax.xaxis, rows["cost"])
    doublings(ax.yaxis, [1, *rows["relative"]])
    return ax


def _paid(row: pd.Series, x: float, ax: Axes) -> None:
    """One point of `cost` with its interval, named where it is filled."""
    colour = COLOURS[row["method"]]
    face = "white" if row["shift"] else colour
    ends = whiskers(row["relative"], row["relative_low"], row["relative_high"])
    style: dict[str, Any] = {"linestyle": "none", "mfc": face, "elinewidth": 0.7}
    ax.errorbar(x, row["relative"], ends, **look(row["method"]), **style)
    if not row["shift"]:
        name(ax, NAMES[row["method"]], (x, row["relative"]), colour)


def sweep(summary: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """One metric along densities, one line per method with its intervals.

    Where there is only one density, methods are bars. The dense net is a dashed line, chance a
    dotted one. Names are labels for a legend, such as `legend_below`.

    Args:
        summary: rows of `summaries.summary` of one task, each method at its own pressure.
        metric: a key of SCALES.
    """
    pruned = summary[summary["method"] != "dense"]
    if len(pruned["density"].unique()) > 1:
        _along_densities(pruned, metric, ax)
    else:
        _bars(pruned, metric, ax)
    scale, label = SCALES[metric]
    ax.set_ylabel(label)
    for mean in summary.loc[summary["method"] == "dense", metric]:
        ax.axhline(
            mean * scale, color=COLOURS["dense"], linestyle="--", linewidth=1, label=NAMES["dense"]
        )
    return ax


def _along_densities(pruned: pd.DataFrame, metric: str, ax: Axes) -> None:
    """Lines of `sweep`; points of a density stand beside each other, to tell their bars apart."""
    scale, _ = SCALES[metric]
    methods = pruned["method"].nunique()
    for place, (method, own) in enumerate(pruned.groupby("method", sort=False)):
        own = own.sort_values("density")
        x = own["density"] * 1.02 ** (place - (methods - 1) / 2)
        ends = whiskers(own[metric], own[f"{metric}_low"], own[f"{metric}_high"]) * scale
        style: dict[str, Any] = {"label": NAMES[str(method)], "elinewidth": 0.7, "linewidth": 1}
        ax.errorbar(x, own[metric] * scale, ends, **look(str(method)), **style)
    if f"{metric}_floor" in pruned:
        floor = pruned.groupby("density")[f"{metric}_floor"].mean() * scale
        ax.plot(floor.index, floor, ":", color=GREY, label="chance")
    densities = sorted(pruned["density"].unique())
    ax.set(xscale="log", xlabel="density", xlim=(densities[0] / 1.3, densities[-1] * 1.3))
    ax.set_xticks(densities, [f"{density:g}" for density in densities])
    ax.minorticks_off()
    if "accuracy" in metric:
        ax.set_ylim(*_accuracy_limits(pruned, metric))
    else:
        ax.set_ylim(0, pruned[metric].max() * scale * 1.15)


def _bars(pruned: pd.DataFrame, metric: str, ax: Axes) -> None:
    """The bars of `sweep`, from 0 on."""
    scale, _ = SCALES[metric]
    ends = whiskers(pruned[metric], pruned[f"{metric}_low"], pruned[f"{metric}_high"]) * scale
    names = [NAMES[method] for method in pruned["method"]]
    colours = [COLOURS[method] for method in pruned["method"]]
    style: dict[str, Any] = {
        "width": 0.6,
        "alpha": 0.75,
        "error_kw": {"elinewidth": 0.7, "capsize": 2},
    }
    ax.bar(range(len(pruned)), pruned[metric] * scale, yerr=ends, color=colours, **style)
    if f"{metric}_floor" in pruned:
        floor = pruned[f"{metric}_floor"].mean() * scale
        ax.axhline(floor, color=GREY, linestyle=":", label="chance")
    ax.set_xticks(range(len(pruned)), names, rotation=35, ha="right", rotation_mode="anchor")
    ax.set_xlabel(" and ".join(f"density {density:g}" for density in pruned["density"].unique()))
    ax.grid(axis="x", visible=False)
