"""Ratios of CWVs: Ballot to rivals, pair by pair and over all, and pruned networks to dense ones.

Each drawing takes a table and axes and returns the axes. It computes nothing but means over what it
draws.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from fairlth import config, metrics
from fairlth.figures.style import (
    COLOURS,
    GREY,
    LOOKS,
    NAMES,
    doublings,
    legible,
    look,
    outlined,
    span,
    whiskers,
)

DARK = 0.6  # of the range of colours, from which on words are white


def forest(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Improvements with their intervals, one per line.

    The paper's number is an open diamond where there is one.

    Args:
        rows: columns label, mean, low, high, and optionally paper; fractions.
    """
    for place, (_, row) in enumerate(rows.iloc[::-1].iterrows()):
        ends = whiskers(row["mean"], row["low"], row["high"]) * 100
        ax.errorbar(row["mean"] * 100, place, xerr=ends, **look("ballot"), capsize=3)
        if "paper" in rows and np.isfinite(row["paper"]):
            ax.plot(row["paper"] * 100, place, "D", mfc="white", color="#000000", markersize=6)
    top = len(rows) - 1
    if (
        "paper" in rows and len(rows) and np.isfinite(rows["paper"].iloc[0])
    ):  # the first line names both
        _above(ax, "the paper", (rows["paper"].iloc[0] * 100, top), "#000000")
        _above(ax, "ours", (rows["mean"].iloc[0] * 100, top), COLOURS["ballot"])
    ax.axvline(0, color="#000000", linewidth=0.8)
    ax.set_yticks(range(len(rows)), [legible(label) for label in rows["label"].iloc[::-1]])
    ax.set(xlabel="CWV lower by (%), 95 % t intervals", ylim=(-0.6, len(rows) - 0.3))
    return ax


def ratios(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Ballot's CWV divided by a rival's, with its interval, one per line. The axis is logarithmic.

    Args:
        rows: columns label, ratio, low and high.
    """
    upwards = rows.iloc[::-1]
    places = range(len(rows))
    ends = whiskers(upwards["ratio"], upwards["low"], upwards["high"])
    ax.errorbar(upwards["ratio"], places, xerr=ends, **look("ballot"), linestyle="none", capsize=3)
    ax.axvline(1, color="#000000", linewidth=0.8)
    doublings(ax.xaxis, [1, *rows[["ratio", "low", "high"]].to_numpy().ravel()])
    ax.set_yticks(places, [legible(label) for label in upwards["label"]])
    label = "Ballot's CWV divided by the rival's (below 1 is fairer), 95 % t intervals"
    ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.3))
    return ax


def _above(ax: Axes, text: str, at: tuple[float, float], colour: str) -> None:
    """A few words above a point."""
    place: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
    outlined(ax.annotate(text, at, fontsize=8, color=colour, **place))


def pairs(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Ballot's CWV over each rival's, one dot per pair of runs, and how many pairs Ballot wins.

    A bar stands at the geometric mean of all pairs. The line through it is its 95 % t interval over
    seeds: the pairs of a seed share images and first weights.

    Args:
        rows: from `paired_gains.paired`.
    """
    ratios = rows.assign(ratio=rows["ours"] / rows["theirs"])
    rivals = [method for method in LOOKS if method in set(rows["rival"])][::-1]
    for place, rival in enumerate(rivals):
        _rival(ratios[ratios["rival"] == rival], rival, place, ax)
    ax.axvline(1, color="#000000", linewidth=0.8)
    ax.set_yticks(range(len(rivals)), [NAMES[rival] for rival in rivals])
    doublings(ax.xaxis, [1, *ratios["ratio"]])
    beside: dict[str, Any] = {"xycoords": "axes fraction", "va": "bottom"}
    ax.annotate("  pairs won", (1, 1), fontsize=8, color=GREY, **beside)
    below = "bar and line: geometric mean and 95 % t interval over seeds"
    ax.set_xlabel(f"Ballot's CWV over the rival's (below 1 is fairer)\n{below}")
    ax.set_ylim(-0.6, len(rivals) - 0.4)
    ax.grid(axis="y", visible=False)
    return ax


def _rival(own: pd.DataFrame, rival: str, place: int, ax: Axes) -> None:
    """One line of `pairs`: its dots in as many rows as there are tasks and densities."""
    tasks = own.groupby([*config.TASK, "density"], sort=False).ngroup()
    heights = place + 0.4 * (tasks / max(tasks.max(), 1) - 0.5)
    ax.scatter(own["ratio"], heights, s=14, **look(rival), alpha=0.55, linewidths=1)
    logs = np.log(own["ratio"])
    over_seeds = metrics.mean_interval(logs.groupby(own["seed"]).mean())
    middle = np.exp(logs.mean())
    ax.plot(np.exp([over_seeds.low, over_seeds.high]), [place, place], color="#000000", linewidth=1)
    ax.plot([middle, middle], [place - 0.32, place + 0.32], color="#000000", linewidth=1.5)
    beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
    ax.annotate(f"  {(own['ratio'] < 1).sum()} of {len(own)}", (1, place), **beside)


def effects(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Main effects of selection and of training as factors of the CWV, one line per setting.

    Args:
        rows: from `two_halves.factorial`; means and intervals are logarithms.
    """
    ax.axvline(1, color="#000000", linewidth=0.8)
    drawn = rows[rows["effect"].isin(["selection", "training"])]
    factors = drawn.assign(**np.exp(drawn[["mean", "low", "high"]]))
    _effect(factors, "selection", "ballot_select", 0.16, "conflict in the selection", ax)
    _effect(factors, "training", "ballot", -0.16, "refined training", ax)
    doublings(ax.xaxis, [1, *factors[["mean", "low", "high"]].to_numpy().ravel()])
    lines = [setting(row) for _, row in rows[rows["effect"] == "training"].iloc[::-1].iterrows()]
    ax.set_yticks(range(len(lines)), lines)
    ax.set(
        xlabel="factor of the CWV (below 1 is fairer), 95 % t intervals",
        ylim=(-0.6, len(lines) - 0.2),
    )
    ax.grid(axis="y", visible=False)
    return ax


def _effect(
    rows: pd.DataFrame, effect: str, method: str, shift: float, text: str, ax: Axes
) -> None:
    """One effect in all lines of `effects`, named at the top one."""
    upwards = rows[rows["effect"] == effect].iloc[::-1]
    places = np.arange(len(upwards)) + shift
    ends = whiskers(upwards["mean"], upwards["low"], upwards["high"])
    ax.errorbar(upwards["mean"], places, xerr=ends, **look(method), linestyle="none", capsize=3)
    _above(ax, text, (upwards["mean"].iloc[-1], places[-1]), COLOURS[method])


def setting(row: pd.Series) -> str:
    """Task and density of a row, or "all" where it is over all of them."""
    if row["dataset"] == "all":
        return "all"
    return legible(f"{config.task_name(row)}\ndensity {row['density']:g}")


def premise(rows: pd.DataFrame, ax: Axes) -> Axes:
    """The CWV of pruned networks over the dense net's, one line per task and density.

    Right of 1 the pruned network is less fair than the dense one. The axis is logarithmic.

    Args:
        rows: columns of config.TASK, density, method, ratio, low, high (95 % t interval) and n
            (seeds). Rows whose `dataset` is "all" are over all tasks.
    """
    methods = [method for method in LOOKS if method in set(rows["method"])]
    settings = rows.groupby([*config.TASK, "density"], sort=False, dropna=False)
    lines = [own for _, own in settings][::-1]  # the first at the top
    for place, own in enumerate(lines):
        for _, row in own.iterrows():
            shift = 0.2 * ((len(methods) - 1) / 2 - methods.index(row["method"]))
            ends = whiskers(row["ratio"], row["low"], row["high"])
            ax.errorbar(row["ratio"], place + shift, xerr=ends, **look(row["method"]), capsize=2)
    handles = [ax.plot([], [], linestyle="none", **look(method))[0] for method in methods]
    beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    ax.legend(handles, [NAMES[method] for method in methods], **beside)
    ax.axvline(1, color="#000000", linewidth=0.8)
    doublings(ax.xaxis, [1, *rows[["ratio", "low", "high"]].to_numpy().ravel()])
    names = [f"{setting(own.iloc[0])}, n = {span(own['n'])}" for own in lines]
    ax.set_yticks(range(len(lines)), names)
    label = "CWV over the dense net's (above 1 is less fair), 95 % t intervals"
    ax.set(xlabel=label, ylim=(-0.6, len(lines) - 0.4))
    ax.grid(axis="y", visible=False)
    return ax


def heat_map(rows: pd.DataFrame, ax: Axes, ratio: bool = False) -> Axes:
    """Ballot's CWV beside a rival's, one cell per task and model, with 95 % t intervals.

    Orange cells are fairer with Ballot, purple ones less fair. Where an interval includes no
    change, the effect is not shown: such a cell is hatched and its words are grey on white. A dash
    stands where no runs are.

    Args:
        rows: columns task, model, value, low, high and n (seeds). Values are fractions, how much
            lower Ballot's CWV is; or with `ratio` Ballot's CWV divided by the rival's.
        ax: axes.
        ratio: see `rows`.

    Raises:
        ValueError: if a task and model have two rows.
    """
    twice = rows.loc[rows.duplicated(["task", "model"]), ["task", "model"]]
    if len(twice):
        task, model = twice.iloc[0]
        raise ValueError(
            f"{task} with {model} has two rows: a heat map takes one per task and model"
        )
    rows = rows.assign(effect=-np.log(rows["value"]) if ratio else rows["value"])
    tasks = list(rows["task"].unique())
    models = list(rows["model"].unique())
    effects = pd.DataFrame(np.nan, index=tasks, columns=models)
    for _, row in rows.iterrows():
        effects.loc[row["task"], row["model"]] = row["effect"]
    limit = np.nanmax([*rows["effect"].abs(), np.log(2) if ratio else 1.0])
    seaborn.heatmap(
        effects,
        vmin=-limit,
        vmax=limit,
        cmap="PuOr_r",
        linewidths=2,
        xticklabels=[legible(model) for model in models],
        yticklabels=[legible(task) for task in tasks],
        cbar_kws={
            "label": "CWV divided by the rival's" if ratio else "CWV lower by",
            "ticks": [-limit, 0, limit] if ratio else None,
            "format": _as_ratio if ratio else PercentFormatter(1),
        },
        ax=ax,
    )
    for _, row in rows.iterrows():
        corner = (models.index(row["model"]), tasks.index(row["task"]))
        _cell(row, corner, abs(row["effect"]) > DARK * limit, ratio, ax)
    for line, column in np.argwhere(effects.isna()):
        ax.annotate("–", (column + 0.5, line + 0.5), ha="center", va="center", color=GREY)
    below = f"hatched: interval includes {1 if ratio else 0}, not shown"
    ax.set(ylabel="", xlabel=f"value, 95 % t interval and seeds; {below}")
    ax.tick_params(length=0, rotation=0)
    ax.grid(visible=False)
    return ax


def heat_maps(rows: pd.DataFrame, even: str, preset: str) -> Figure:
    """A `heat_map` per rival, one below the other.

    Args:
        rows: from `equal_accuracy.heat_cells`, one at least.
        even: the rival that is compared at equal accuracy, whose values are ratios.
        preset: for the titles.
    """
    rivals = list(rows["rival"].unique())
    width = 4.5 + 2.2 * rows["model"].nunique()
    height = (1.4 + 0.7 * rows["task"].nunique()) * len(rivals)
    figure, axes = plt.subplots(len(rivals), 1, figsize=(width, height), squeeze=False)
    for rival, ax in zip(rivals, axes[:, 0], strict=True):
        heat_map(rows[rows["rival"] == rival], ax, ratio=rival == even)
        accuracy = "equal" if rival == even else "any"
        ax.set_title(f"Ballot against {rival}, {accuracy} accuracy, preset {preset}")
    return figure


def _as_ratio(effect: float, _place: int) -> str:
    """The ratio of CWVs whose logarithm, with the other sign, is an effect."""
    return f"{np.exp(-effect):.2f}"


def _cell(row: pd.Series, corner: tuple[int, int], dark: bool, ratio: bool, ax: Axes) -> None:
    """The words of a cell of `heat_map`, and hatching where the effect is not shown."""
    if np.isnan(row["value"]):
        return
    interval = metrics.Interval(row["value"], row["low"], row["high"], row["n"])
    value, *ends = f"{interval:{'.2f' if ratio else '.0%'}}".split(" ", 1)
    words = "\n".join([value, *ends, f"n = {row['n']:.0f}"])
    place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
    note = ax.annotate(words, (corner[0] + 0.5, corner[1] + 0.5), **place)
    no_change = 1 if ratio else 0
    if row["low"] > no_change or row["high"] < no_change:
        note.set_color("white" if dark else "black")
    else:  # there is no interval, too, where there is one seed
        note.set_color("#4D4D4D")
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
        ax.add_patch(
            Rectangle(corner, 1, 1, fill=False, hatch="//", edgecolor="white", linewidth=0)
        )
