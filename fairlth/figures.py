"""Pictures: a table and axes in, the axes out; computes nothing. One style: few colours, names beside what they name.

Colours stand for families and are told apart by colour-blind readers; each method has its own marker, for grey print.
"""

import io
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from fairlth import config, labels, metrics

plt.style.use(config.PACKAGE / "fairlth.mplstyle")

COLOURS = {  # seven of Okabe and Ito, by family; markers and names tell the members apart
    "dense": "#000000",
    **dict.fromkeys(("random", "shuffled"), "#7F7F7F"),  # controls
    **dict.fromkeys(("magnitude", "lth", "lth_fine", "lth_rate"), "#0072B2"),  # plain pruning
    "lth_bias": "#B87A00",  # the same, class biases shifted
    **dict.fromkeys(("safecompress", "fairscratch", "fairscratch_train", "fairgrape", "pw_loss", "constrained"), "#007D5C"),
    **dict.fromkeys(("ballot_select", "ballot_refine"), "#B0508A"),  # Ballot's halves
    "ballot": "#D55E00",
}
NAMES = {
    "dense": "dense",
    "random": "random mask",
    "magnitude": "magnitude",
    "lth": "lottery ticket",
    "lth_fine": "lottery ticket, fine levels",
    "lth_rate": "learning-rate rewinding",
    "lth_bias": "lottery ticket + bias shift",
    "safecompress": "SafeCompress",
    "fairscratch": "FairScratch",
    "fairscratch_train": "FairScratch, trained",
    "fairgrape": "FairGRAPE",
    "pw_loss": "performance-weighted",
    "constrained": "Balancing Act",
    "shuffled": "Ballot, shuffled mask",
    "ballot": "Ballot",
    "ballot_select": "Ballot's selection only",
    "ballot_refine": "Ballot's training only",
}
MARKERS: dict[str, Any] = {  # beside the colour, for grey print
    "dense": "*",
    "random": "x",
    "magnitude": "s",
    "lth": "p",
    "lth_fine": "H",
    "lth_rate": "d",
    "lth_bias": "D",
    "safecompress": "^",
    "fairscratch": "v",
    "fairscratch_train": "<",
    "fairgrape": "P",
    "pw_loss": "X",
    "constrained": ">",
    "shuffled": "h",
    "ballot": "o",
    "ballot_select": (4, 1, 0),
    "ballot_refine": (6, 1, 0),
}
GREY = "#6B6B6B"  # of what is said beside the numbers
SCALES = {  # metric -> factor and axis label
    "accuracy": (100, "accuracy (%)"),
    "mean_accuracy": (100, "mean of group accuracies (%)"),
    "worst_accuracy": (100, "accuracy of the worst group (%)"),
    "cwv": (1e4, "CWV × 10⁴ (0 is fair)"),
    "mcd": (100, "MCD (points, 0 is fair)"),
}


def save(figure: Figure, notebook: str, preset: str) -> str:
    """Writes figures/<preset>/<notebook>.png and .pdf, the same bytes for the same figure; returns the PNG's relative path."""
    labels.untangle(figure)
    path = config.FIGURES / preset / notebook
    for ending, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        content = io.BytesIO()
        figure.savefig(content, format=ending, metadata=metadata)
        config.write_atomically(path.with_suffix(f".{ending}"), content.getvalue())
    return str(path.with_suffix(".png").relative_to(config.HOME))


def panels(
    summary: pd.DataFrame, draw: Callable[[pd.DataFrame, Axes], Axes], width: float = 5.2, height: float = 3.2
) -> Figure:
    """A figure with one panel per task (rows) and density (columns); the dense net is in all panels of its task.

    The panel of a task and density without runs says so.

    Args:
        summary: from `results.summary`.
        draw: puts one panel's rows on its axes.
        width, height: of a panel, inches.
    """
    tasks = summary[config.TASK].drop_duplicates()
    densities = sorted(summary.loc[summary["method"] != "dense", "density"].unique(), reverse=True)
    figure, axes = plt.subplots(
        len(tasks), len(densities), figsize=(width * len(densities), height * len(tasks)), squeeze=False
    )
    for (_, task), line in zip(tasks.iterrows(), axes, strict=True):
        own = summary[(summary[config.TASK] == task).all(axis=1)]
        for density, ax in zip(densities, line, strict=True):
            here = own[(own["density"] == density) | (own["method"] == "dense")]
            if here["method"].eq("dense").all():  # nothing was run there
                ax.set_axis_off()
                titled(ax, config.task_name(task), f"density {density:g}: not run")
            else:
                draw(here, ax)
                titled(ax, config.task_name(task), f"density {density:g}, n = {_seeds(here)} seeds, 95 % t intervals")
    labels.untangle(figure)
    return figure


def rows(
    summary: pd.DataFrame, draws: list[Callable[[pd.DataFrame, Axes], Axes]], width: float = 6.4, height: float = 4.2
) -> Figure:
    """A figure with one row per task and one column per way to draw it.

    Args:
        summary: from `results.summary`.
        draws: each puts one task's rows on its axes.
        width, height: of a panel, inches.
    """
    tasks = summary[config.TASK].drop_duplicates()
    figure, axes = plt.subplots(len(tasks), len(draws), figsize=(width * len(draws), height * len(tasks)), squeeze=False)
    for (_, task), line in zip(tasks.iterrows(), axes, strict=True):
        own = summary[(summary[config.TASK] == task).all(axis=1)]
        for draw, ax in zip(draws, line, strict=True):
            draw(own, ax)
            titled(ax, config.task_name(task), f"n = {_seeds(own)} seeds, 95 % t intervals")
    labels.untangle(figure)
    return figure


def titled(ax: Axes, title: str, conditions: str) -> Axes:
    """A panel with its title and, under it, the conditions of its numbers."""
    ax.set_title(title, pad=18)
    ax.annotate(conditions, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=9, color=GREY)
    return ax


def _look(method: str) -> dict[str, Any]:
    """A method's colour and marker."""
    return {"color": COLOURS[method], "marker": MARKERS[method]}


def _seeds(rows: pd.DataFrame) -> str:
    """How many seeds are behind some rows of a summary, the dense net apart, which may have more."""
    pruned = rows[rows["method"] != "dense"]
    low, high = (pruned if len(pruned) else rows)["n"].agg(["min", "max"])
    return f"{low}" if low == high else f"{low} to {high}"


def legend_below(figure: Figure, ncols: int = 5) -> None:
    """One legend under a figure for what its panels do not name themselves, each label once; none where that is nothing."""
    found: dict[str, Any] = {}
    for ax in figure.axes:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if found:
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=ncols)
        labels.untangle(figure)


def group_accuracy(correct: Any, total: Any, names: list[str], ax: Axes, method: str, shift: float = 0.0) -> Axes:
    """Accuracy of each group as a point with its 95 % Wilson interval; `shift` moves the points beside another method's.

    Args:
        correct, total: (groups,) counts.
        names: of the groups.
    """
    points = [metrics.share_interval(c, t) for c, t in zip(correct, total, strict=True)]
    x, y = np.arange(len(names)) + shift, [point.mean for point in points]
    ends = [[p.mean - p.low for p in points], [p.high - p.mean for p in points]]
    ax.errorbar(x, y, ends, **_look(method), linestyle="none", label=NAMES[method], capsize=2, elinewidth=1)
    wide = len(names) * max(map(len, names)) > 80  # characters
    ax.set_xticks(range(len(names)), names, rotation=35 if wide else 0, ha="right" if wide else "center")
    sizes = sorted({int(t) for t in total})
    images = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    ax.set(ylabel="accuracy", xlabel=f"n = {images} images each, 95 % Wilson intervals")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="x", visible=False)
    return ax


def comparison(summary: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """One metric by method: mean and 95 % t interval over seeds, the noise floor as a grey line.

    Args:
        summary: rows of `results.summary` of one task and density.
        metric: a key of SCALES.
    """
    scale, label = SCALES[metric]
    rows = summary.iloc[::-1]
    limit = min(rows[f"{metric}_high"].fillna(rows[metric]).max() * 1.05, rows[metric].max() * 1.5) * scale
    for place, (_, row) in enumerate(rows.iterrows()):
        mean, high = row[metric] * scale, row[f"{metric}_high"] * scale
        ends = np.nan_to_num([[mean - row[f"{metric}_low"] * scale], [high - mean]])
        ax.errorbar(mean, place, xerr=ends, **_look(row["method"]), capsize=3)
        if high > limit:  # the interval goes on
            ax.plot(limit, place, ">", color=COLOURS[row["method"]], markersize=6, clip_on=False)
    ax.set_xlim(0, limit)
    if f"{metric}_floor" in summary:
        _chance(ax, summary[f"{metric}_floor"].mean() * scale)
    ax.set_yticks(range(len(rows)), [NAMES[name] for name in rows["method"]])
    ax.set(xlabel=label, ylim=(-1.1, len(rows) - 0.4))  # room for the word at the bottom
    ax.grid(axis="y", visible=False)
    return ax


def _chance(ax: Axes, floor: float) -> None:
    """The noise floor as a dotted line with its name and value."""
    ax.axvline(floor, color=GREY, linestyle=":", zorder=0)
    name = f" chance: {floor:.1f}"
    ax.annotate(name, (floor, 0.0), xycoords=("data", "axes fraction"), fontsize=8, color=GREY, va="bottom")


def tradeoff(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy against CWV, one labelled point a method with both intervals; up and to the left is better.

    Args:
        summary: rows of `results.summary` of one task and density.
    """
    for _, row in summary.iterrows():
        _point(row, ax, named=True)
    return _accuracy_against_cwv(summary, ax)


def curves(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy against CWV along each method's pressure, its points joined in its order, the name at the method's own.

    Args:
        rows: from `results.curves`, of one task.
    """
    for method, own in rows.groupby("method", sort=False):
        ax.plot(own["cwv"] * 1e4, own["accuracy"] * 100, "-", color=COLOURS[method], linewidth=1.2, alpha=0.7)
        for _, row in own.iterrows():
            _point(row, ax, named=bool(np.isnan(row["pressure"])))
    return _accuracy_against_cwv(rows, ax)


def _accuracy_against_cwv(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Labels, and limits that hold all means; an interval may leave the picture where it says no more than "anything"."""
    ax.set(xlabel=SCALES["cwv"][1], ylabel=SCALES["accuracy"][1])
    ax.set_xlim(0, rows["cwv"].max() * 1e4 * 1.2)
    ax.set_ylim(*_accuracy_limits(rows, "accuracy"))
    return ax


def _accuracy_limits(rows: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Percent, with room for the means and at most 100."""
    low, high = rows[metric].min() * 100, rows[metric].max() * 100
    room = 0.2 * max(high - low, 1.0)
    return low - room, min(100.0, high + room)


def _point(row: pd.Series, ax: Axes, named: bool) -> None:
    x, y = row["cwv"] * 1e4, row["accuracy"] * 100
    x_ends = np.nan_to_num([[x - row["cwv_low"] * 1e4], [row["cwv_high"] * 1e4 - x]])
    y_ends = np.nan_to_num([[y - row["accuracy_low"] * 100], [row["accuracy_high"] * 100 - y]])
    ax.errorbar(x, y, y_ends, x_ends, **_look(row["method"]), elinewidth=0.7)
    if named:
        labels.name(ax, NAMES[row["method"]], (x, y), COLOURS[row["method"]])


def cost(rows: pd.DataFrame, ax: Axes) -> Axes:
    """CWV over that of a plain ticket with shifted biases at equal accuracy, against cost; filled as trained, open shifted.

    Args:
        rows: from `equal.relative_summary`, of one task and density.
    """
    for (_, shift), own in rows.assign(open=rows["shift"] > 0).groupby(["cost", "open"]):
        beside = np.linspace(-0.02, 0.02, len(own)) * (len(own) - 1)  # of equal cost, to tell bars apart
        for apart, (_, row) in zip(beside, own.iterrows(), strict=True):
            _paid(row, row["cost"] * 2 ** (apart + 0.012 * shift), ax)
    ax.axhline(1, color="#000000", linewidth=0.8)
    ax.set(xlabel="cost (dense trainings)", ylabel="CWV at equal accuracy,\nplain ticket + shift = 1")
    ax.plot([], [], "o", color=GREY, label="as trained")
    ax.plot([], [], "o", color=GREY, mfc="white", label="class biases shifted half-way as well")
    _doublings(ax.xaxis, rows["cost"])
    _doublings(ax.yaxis, rows["relative"])
    return ax


def _paid(row: pd.Series, x: float, ax: Axes) -> None:
    """One point of `cost` with its interval, named where it is filled."""
    colour = COLOURS[row["method"]]
    ends = np.nan_to_num([[row["relative"] - row["relative_low"]], [row["relative_high"] - row["relative"]]])
    face = "white" if row["shift"] else colour
    ax.errorbar(x, row["relative"], ends, **_look(row["method"]), linestyle="none", mfc=face, elinewidth=0.7)
    if not row["shift"]:
        labels.name(ax, NAMES[row["method"]], (x, row["relative"]), colour)


def sweep(summary: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """One metric along densities, a named line a method with its intervals, the dense net dashed, chance dotted.

    Args:
        summary: rows of `results.summary` of one task, each method at its own pressure.
        metric: a key of SCALES.
    """
    scale, label = SCALES[metric]
    for place, (method, own) in enumerate(summary.groupby("method", sort=False)):
        if method == "dense":
            dense = float(own[metric].iloc[0]) * scale
            ax.axhline(dense, color=COLOURS["dense"], linestyle="--", linewidth=1)
            continue
        own = own.sort_values("density")
        ends = np.nan_to_num([own[metric] - own[f"{metric}_low"], own[f"{metric}_high"] - own[metric]]) * scale
        x = own["density"] * 1.02 ** (place - summary["method"].nunique() / 2)  # beside each other, to tell bars apart
        ax.errorbar(x, own[metric] * scale, ends, **_look(method), elinewidth=0.7, linewidth=1)
        labels.name_in_margin(ax, NAMES[method], (x.iloc[-1], own[metric].iloc[-1] * scale), COLOURS[method])
    if f"{metric}_floor" in summary:
        floor = summary.groupby("density")[f"{metric}_floor"].mean().drop(1.0, errors="ignore") * scale
        ax.plot(floor.index, floor, ":", color=GREY)
        labels.name_in_margin(ax, "chance", (floor.index.max(), floor.loc[floor.index.max()]), GREY)
    densities = sorted(set(summary["density"]) - {1.0})
    ends = (densities[0] / 1.3, densities[-1] * 1.3)
    if "dense" in set(summary["method"]):
        labels.name_in_margin(ax, "dense", (ends[1], dense), COLOURS["dense"])
    ax.set(xscale="log", xlabel="density", ylabel=label, xlim=ends)
    if "accuracy" in metric:
        ax.set_ylim(*_accuracy_limits(summary, metric))
    else:
        ax.set_ylim(0, summary[metric].max() * scale * 1.15)
    ax.set_xticks(densities, [f"{density:g}" for density in densities])
    ax.minorticks_off()
    return ax


def forest(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Improvements with their intervals, one a line, the paper's number as an open diamond where there is one.

    Args:
        rows: columns label, mean, low, high, and optionally paper; fractions.
    """
    for place, (_, row) in enumerate(rows.iloc[::-1].iterrows()):
        ends = np.nan_to_num([[row["mean"] - row["low"]], [row["high"] - row["mean"]]]) * 100
        ax.errorbar(row["mean"] * 100, place, xerr=ends, **_look("ballot"), capsize=3)
        if "paper" in rows and np.isfinite(row["paper"]):
            ax.plot(row["paper"] * 100, place, "D", mfc="white", color="#000000", markersize=6)
    if "paper" in rows and len(rows) and np.isfinite(rows["paper"].iloc[0]):  # what is what, at the first line
        _above(ax, "the paper", (rows["paper"].iloc[0] * 100, len(rows) - 1), "#000000")
        _above(ax, "ours", (rows["mean"].iloc[0] * 100, len(rows) - 1), COLOURS["ballot"])
    ax.axvline(0, color="#000000", linewidth=0.8)
    ax.set_yticks(range(len(rows)), rows["label"].iloc[::-1])
    ax.set(xlabel="CWV lower by (%), 95 % t intervals", ylim=(-0.6, len(rows) - 0.3))
    return ax


def pairs(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Ballot's CWV over each rival's, a dot a pair of runs, and how many pairs Ballot wins.

    A bar stands at the geometric mean of all pairs; the line through it is its 95 % t interval over seeds, whose pairs share
    images and first weights.

    Args:
        rows: from `gains.paired`.
    """
    rivals = [name for name in NAMES if name in set(rows["rival"])][::-1]
    for place, rival in enumerate(rivals):
        own = rows[rows["rival"] == rival]
        ratio, tasks = own["ours"] / own["theirs"], own.groupby([*config.TASK, "density"], sort=False).ngroup()
        heights = place + 0.4 * (tasks / max(tasks.max(), 1) - 0.5)
        ax.scatter(ratio, heights, s=14, **_look(rival), alpha=0.55, linewidths=1)
        over_seeds = metrics.mean_interval(np.log(ratio).groupby(own["seed"]).mean())
        ax.plot(np.exp([over_seeds.low, over_seeds.high]), [place, place], color="#000000", linewidth=1)
        ax.plot([np.exp(np.log(ratio).mean())] * 2, [place - 0.32, place + 0.32], color="#000000", linewidth=1.5)
        ax.annotate(f"  {(ratio < 1).sum()} of {len(own)}", (1, place), xycoords=("axes fraction", "data"), va="center")
    ax.axvline(1, color="#000000", linewidth=0.8)
    ax.set_yticks(range(len(rivals)), [NAMES[rival] for rival in rivals])
    _doublings(ax.xaxis, (rows["ours"] / rows["theirs"]).agg(["min", "max"]))
    ax.annotate("  pairs won", (1, 1), xycoords="axes fraction", va="bottom", fontsize=8, color=GREY)
    below = "bar and line: geometric mean and 95 % t interval over seeds"
    ax.set(xlabel=f"Ballot's CWV over the rival's (below 1 is fairer)\n{below}", ylim=(-0.6, len(rivals) - 0.4))
    ax.grid(axis="y", visible=False)
    return ax


def _doublings(axis: Any, ends: Any) -> None:
    """A logarithmic axis with ticks at powers of 2 between two ends and a bit beyond."""
    low, high = min(ends) / 1.5, max(ends) * 1.5
    ticks = [2.0**power for power in range(-12, 12) if low < 2.0**power < high]
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    axis.set_ticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
    axis.set_tick_params(which="minor", size=0)
    axis.set_minor_formatter("")


def effects(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Main effects of selection and of training as factors of the CWV with their intervals, a line a setting.

    Args:
        rows: from `factors.factorial`.
    """
    ax.axvline(1, color="#000000", linewidth=0.8)
    looks = {
        "selection": ("ballot_select", 0.16, "conflict in the selection"),
        "training": ("ballot", -0.16, "refined training"),
    }
    for effect, (method, shift, name) in looks.items():
        own = np.exp(rows.loc[rows["effect"] == effect, ["mean", "low", "high"]].iloc[::-1])
        ends = np.nan_to_num([own["mean"] - own["low"], own["high"] - own["mean"]])
        places = np.arange(len(own)) + shift
        ax.errorbar(own["mean"], places, xerr=ends, **_look(method), linestyle="none", capsize=3)
        _above(ax, name, (own["mean"].iloc[-1], places[-1]), COLOURS[method])
    main = np.exp(rows.loc[rows["effect"].isin(looks), ["mean", "low", "high"]])
    _doublings(ax.xaxis, (min(main.min()), max(main.max())))
    lines = [_setting(row) for _, row in rows[rows["effect"] == "training"].iloc[::-1].iterrows()]
    ax.set_yticks(range(len(lines)), lines)
    ax.set(xlabel="factor of the CWV (below 1 is fairer), 95 % t intervals", ylim=(-0.6, len(lines) - 0.2))
    ax.grid(axis="y", visible=False)
    return ax


def _setting(row: pd.Series) -> str:
    """Task and density of a row, or that it is over all of them."""
    return "all" if row["dataset"] == "all" else f"{config.task_name(row)}\ndensity {row['density']:g}"


def _above(ax: Axes, text: str, at: tuple[float, float], colour: str) -> None:
    """A few words above a point."""
    note = ax.annotate(text, at, (0, 7), textcoords="offset points", ha="center", fontsize=8, color=colour)
    note.set_path_effects([withStroke(linewidth=2, foreground="white")])


def by_group(rows: pd.DataFrame, value: str, ax: Axes) -> Axes:
    """Each group's accuracy, or what it gained on the dense net, by method: means and 95 % t intervals over seeds.

    Args:
        rows: from `subgroups.by_group`, of one task.
        value: "accuracy" or "gained".
    """
    images = rows.groupby("group", sort=False)["images"].first()
    shown = rows if value == "accuracy" else rows[rows["method"] != "dense"]
    for place, (method, own) in enumerate(shown.groupby("method", sort=False)):
        own = own.set_index("group").reindex(images.index)
        ends = own[value], own[f"{value}_low"], own[f"{value}_high"]
        _beside(str(method), place - (shown["method"].nunique() - 1) / 2, ax, *(end.to_numpy() * 100 for end in ends))
    ax.set_xticks(range(len(images)), [f"{group}\nn = {n}" for group, n in images.items()])
    ax.set_ylabel("accuracy (%)" if value == "accuracy" else "points gained on the dense net")
    if value == "gained":
        ax.axhline(0, color=COLOURS["dense"], linestyle="--", linewidth=1)
    else:
        ax.set_ylim(top=min(100.5, ax.get_ylim()[1]))
    return ax


def gaps(rows: pd.DataFrame, names: dict[str, str], ax: Axes) -> Axes:
    """Gaps between groups by method: means and 95 % t intervals over seeds, a grey bar up to what chance alone would show.

    Args:
        rows: from `subgroups.gap_summary`, of one task.
        names: gap -> what it is called, such as `subgroups.GAPS`.
    """
    for place, (_, row) in enumerate(rows.iterrows()):
        shift = place - (len(rows) - 1) / 2
        ends = (row[[f"{name}{end}" for name in names]].to_numpy(float) * 100 for end in ("", "_low", "_high"))
        _beside(row["method"], shift, ax, *ends)
        floor = row[[f"{name}_floor" for name in names]].to_numpy(float) * 100
        ax.bar(np.arange(len(names)) + 0.14 * shift, floor, 0.12, color="#dddddd", label=None if place else "chance alone")
    ax.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names.values()])
    ax.set(ylabel="gap (points, 0 is fair)", ylim=(0, None), xlim=(-0.6, len(names) - 0.4))
    return ax


def _beside(method: str, shift: float, ax: Axes, mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """A method's points at 0, 1, 2, ..., moved beside those of other methods."""
    x, ends = np.arange(len(mean)) + 0.14 * shift, np.nan_to_num([mean - low, high - mean])
    ax.errorbar(x, mean, ends, fmt=MARKERS[method], color=COLOURS[method], label=NAMES[method], capsize=2, elinewidth=1)
    ax.grid(axis="x", visible=False)
