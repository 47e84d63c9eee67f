"""Pictures: a table and axes in, the axes out; computes nothing. One style, colours that colour-blind readers tell apart."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fairlth import config, metrics

plt.style.use(config.PACKAGE / "fairlth.mplstyle")

COLOURS = {  # after Okabe and Ito: blues are plain pruning, greens and browns rivals, warm colours ours; controls are grey
    "dense": "#000000",
    "random": "#999999",
    "magnitude": "#56B4E9",
    "lth": "#0072B2",
    "lth_fine": "#004B75",
    "lth_rate": "#5E3C99",
    "lth_bias": "#E69F00",
    "safecompress": "#009E73",
    "fairscratch": "#B8A200",
    "fairscratch_train": "#7A6A00",
    "fairgrape": "#66428C",
    "pw_loss": "#8C564B",
    "constrained": "#2CA6A4",
    "shuffled": "#666666",
    "ballot": "#D55E00",
    "ballot_select": "#CC79A7",
    "ballot_refine": "#F28E7C",
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
MARKERS = {  # beside the colour, for grey print
    **dict.fromkeys(NAMES, "o"),
    "dense": "*",
    "random": "x",
    "magnitude": "s",
    "lth_fine": "p",
    "lth_rate": "d",
    "lth_bias": "D",
    "safecompress": "^",
    "fairscratch": "v",
    "fairscratch_train": "<",
    "fairgrape": "P",
    "pw_loss": "X",
    "constrained": ">",
    "shuffled": "h",
}
SCALES = {  # metric -> factor and axis label
    "accuracy": (100, "accuracy (%)"),
    "mean_accuracy": (100, "mean of group accuracies (%)"),
    "worst_accuracy": (100, "accuracy of the worst group (%)"),
    "cwv": (1e4, "CWV × 10⁴ (0 is fair)"),
    "mcd": (100, "MCD (points, 0 is fair)"),
}


def save(figure: Figure, notebook: str, preset: str) -> str:
    """Writes figures/<preset>/<notebook>.png and .pdf, the same bytes for the same figure; returns the PNG's relative path."""
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

    The panel of a task and density without runs stays empty.

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
                continue
            draw(here, ax)
            ax.set_title(f"{config.task_name(task)}, density {density:g}, n = {_seeds(here)} seeds")
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
            ax.set_title(f"{config.task_name(task)}, n = {_seeds(own)} seeds")
    return figure


def _seeds(rows: pd.DataFrame) -> str:
    """How many seeds are behind some rows of a summary, the dense net apart, which may have more."""
    pruned = rows[rows["method"] != "dense"]
    low, high = (pruned if len(pruned) else rows)["n"].agg(["min", "max"])
    return f"{low}" if low == high else f"{low} to {high}"


def legend_below(figure: Figure, ncols: int = 5) -> None:
    """One legend under a figure for all of its panels, each label once."""
    found: dict[str, Any] = {}
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=ncols)


def group_accuracy(correct: Any, total: Any, names: list[str], ax: Axes, method: str, shift: float = 0.0) -> Axes:
    """Accuracy of each group as a point with its 95 % Wilson interval; `shift` moves the points beside another method's.

    Args:
        correct, total: (groups,) counts.
        names: of the groups.
    """
    points = [metrics.share_interval(c, t) for c, t in zip(correct, total, strict=True)]
    x, y = np.arange(len(names)) + shift, [point.mean for point in points]
    ends = [[p.mean - p.low for p in points], [p.high - p.mean for p in points]]
    ax.errorbar(x, y, ends, fmt="o", color=COLOURS[method], label=NAMES[method], capsize=2, elinewidth=1)
    ax.set_xticks(
        range(len(names)),
        names,
        rotation=35 if max(map(len, names)) > 3 else 0,
        ha="right" if max(map(len, names)) > 3 else "center",
    )
    ax.set(ylabel="accuracy", xlabel="")
    ax.grid(axis="x", visible=False)
    return ax


def comparison(summary: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """One metric by method: mean and 95 % t interval over seeds, the noise floor as a grey line.

    Args:
        summary: rows of `results.summary` of one task and density.
        metric: a key of SCALES.
    """
    scale, label = SCALES[metric]
    for place, (_, row) in enumerate(summary.iloc[::-1].iterrows()):
        mean, ends = (
            row[metric] * scale,
            [[(row[metric] - row[f"{metric}_low"]) * scale], [(row[f"{metric}_high"] - row[metric]) * scale]],
        )
        marker = MARKERS[row["method"]]
        ax.errorbar(mean, place, xerr=np.nan_to_num(ends), fmt=marker, color=COLOURS[row["method"]], capsize=3)
    if f"{metric}_floor" in summary:
        ax.axvline(summary[f"{metric}_floor"].mean() * scale, color="#999999", linestyle=":", zorder=0)
        chance = (summary[f"{metric}_floor"].mean() * scale, 0.0)
        ax.annotate(" chance", chance, xycoords=("data", "axes fraction"), fontsize=8, color="#777777", va="bottom")
        ax.set_xlim(0, summary[metric].max() * scale * 1.3)
    ax.set_yticks(range(len(summary)), [NAMES[name] for name in summary["method"].iloc[::-1]])
    ax.set(xlabel=label, ylim=(-0.6, len(summary) - 0.4))
    ax.grid(axis="y", visible=False)
    return ax


def tradeoff(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy against CWV, one labelled point a method with both intervals; up and to the left is better.

    Args:
        summary: rows of `results.summary` of one task and density.
    """
    for _, row in summary.iterrows():
        _point(row, ax, label=NAMES[row["method"]])
    return _accuracy_against_cwv(summary, ax)


def curves(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy against CWV along each method's pressure, its points joined in the order of the pressure.

    Args:
        rows: from `results.curves`, of one task.
    """
    for method, own in rows.groupby("method", sort=False):
        ax.plot(own["cwv"] * 1e4, own["accuracy"] * 100, "-", color=COLOURS[method], linewidth=1.2, alpha=0.7)
        for place, (_, row) in enumerate(own.iterrows()):
            _point(row, ax, label=None if place else NAMES[method])
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


def _point(row: pd.Series, ax: Axes, label: str | None) -> None:
    x, y = row["cwv"] * 1e4, row["accuracy"] * 100
    x_ends = np.nan_to_num([[x - row["cwv_low"] * 1e4], [row["cwv_high"] * 1e4 - x]])
    y_ends = np.nan_to_num([[y - row["accuracy_low"] * 100], [row["accuracy_high"] * 100 - y]])
    marker, colour = MARKERS[row["method"]], COLOURS[row["method"]]
    ax.errorbar(x, y, y_ends, x_ends, fmt=marker, color=colour, elinewidth=0.7, label=label)


def cost(rows: pd.DataFrame, ax: Axes) -> Axes:
    """CWV over that of a plain ticket with shifted biases at equal accuracy, against cost; filled as trained, open shifted.

    Args:
        rows: from `results.relative_summary`, of one task and density.
    """
    for _, row in rows.iterrows():
        marker, colour = MARKERS[row["method"]], COLOURS[row["method"]]
        ends = np.nan_to_num([[row["relative"] - row["relative_low"]], [row["relative_high"] - row["relative"]]])
        face, label = ("white", None) if row["shift"] else (colour, NAMES[row["method"]])
        ax.errorbar(row["cost"], row["relative"], ends, fmt=marker, color=colour, mfc=face, elinewidth=0.7, label=label)
    ax.axhline(1, color="#000000", linewidth=0.8)
    ax.set(xlabel="cost (dense trainings)", ylabel="CWV at equal accuracy,\nplain ticket + shift = 1")
    _doublings(ax.xaxis, rows["cost"])
    _doublings(ax.yaxis, rows["relative"])
    return ax


def sweep(summary: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """One metric along densities, a line a method with its intervals, the dense net as a dashed line, chance dotted.

    Args:
        summary: rows of `results.summary` of one task, each method at its own pressure.
        metric: a key of SCALES.
    """
    scale, label = SCALES[metric]
    for place, (method, own) in enumerate(summary.groupby("method", sort=False)):
        if method == "dense":
            ax.axhline(float(own[metric].iloc[0]) * scale, color=COLOURS["dense"], linestyle="--", linewidth=1, label="dense")
            continue
        own = own.sort_values("density")
        ends = np.nan_to_num([own[metric] - own[f"{metric}_low"], own[f"{metric}_high"] - own[metric]]) * scale
        x = own["density"] * 1.02 ** (place - summary["method"].nunique() / 2)  # beside each other, to tell bars apart
        ax.errorbar(
            x, own[metric] * scale, ends, fmt=f"{MARKERS[method]}-", color=COLOURS[method], elinewidth=0.7, label=NAMES[method]
        )
    if f"{metric}_floor" in summary:
        floor = summary.groupby("density")[f"{metric}_floor"].mean().drop(1.0, errors="ignore") * scale
        ax.plot(floor.index, floor, ":", color="#999999", label="chance")
    densities = sorted(set(summary["density"]) - {1.0})
    ax.set(xscale="log", xlabel="density", ylabel=label)
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
        ax.errorbar(row["mean"] * 100, place, xerr=ends, fmt="o", color=COLOURS["ballot"], capsize=3)
        if "paper" in rows and np.isfinite(row["paper"]):
            ax.plot(row["paper"] * 100, place, "D", mfc="white", color="#000000", markersize=6)
    ax.axvline(0, color="#000000", linewidth=0.8)
    ax.set_yticks(range(len(rows)), rows["label"].iloc[::-1])
    ax.set(xlabel="CWV lower by (%)", ylim=(-0.6, len(rows) - 0.4))
    return ax


def pairs(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Ballot's CWV over each rival's, one dot a pair of runs, a bar at the geometric mean, and how many pairs Ballot wins.

    Args:
        rows: from `results.paired`.
    """
    rivals = [name for name in NAMES if name in set(rows["rival"])][::-1]
    for place, rival in enumerate(rivals):
        own = rows[rows["rival"] == rival]
        ratio, tasks = own["ours"] / own["theirs"], own.groupby([*config.TASK, "density"], sort=False).ngroup()
        heights = place + 0.4 * (tasks / max(tasks.max(), 1) - 0.5)
        ax.scatter(ratio, heights, s=14, color=COLOURS[rival], marker=MARKERS[rival], alpha=0.8, linewidths=1)
        ax.plot([np.exp(np.log(ratio).mean())] * 2, [place - 0.32, place + 0.32], color="#000000", linewidth=1.5)
        ax.annotate(f"  {(ratio < 1).sum()} of {len(own)}", (1, place), xycoords=("axes fraction", "data"), va="center")
    ax.axvline(1, color="#000000", linewidth=0.8)
    ax.set_yticks(range(len(rivals)), [NAMES[rival] for rival in rivals])
    _doublings(ax.xaxis, (rows["ours"] / rows["theirs"]).agg(["min", "max"]))
    ax.set(xlabel="Ballot's CWV over the rival's (below 1 is fairer)", ylim=(-0.6, len(rivals) - 0.4))
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


def layers(report: list[dict[str, Any]], ax: Axes, method: str, shift: float = 0.0) -> Axes:
    """Share of weights that each layer keeps, on a logarithmic axis.

    Args:
        report: rows of `MaskSet.layers`.
    """
    places = np.arange(len(report)) + shift
    ax.plot(places, [row["density"] for row in report], "o", color=COLOURS[method], label=NAMES[method])
    names = [f"{row['layer'].removesuffix('.weight')}\n{row['total']:,}" for row in report]
    ax.set_xticks(range(len(report)), names, fontsize=8)
    ax.set(yscale="log", ylabel="density", xlabel="layer and its weights")
    return ax


def trace(steps: list[dict[str, Any]], groups: list[str], axes: Any) -> Any:
    """A refined training in three panels: accuracy and CWV on validation data, group weights, learning rate; rewinds marked.

    Args:
        steps: rows of a record's trace.
        axes: three axes that share x.
    """
    epochs = [step["epoch"] + 1 for step in steps]
    axes[0].plot(epochs, [step["cwv"] * 1e4 for step in steps], "o-", color=COLOURS["ballot"])
    axes[0].set(ylabel="validation\nCWV × 10⁴", ylim=(0, None))
    weights = np.array([step["weights"] for step in steps])
    for name, column, colour in zip(groups, weights.T, plt.get_cmap("viridis")(np.linspace(0, 0.95, len(groups))), strict=True):
        axes[1].plot(epochs, column, color=colour, linewidth=1.2, label=name)
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7, ncols=2 if len(groups) > 5 else 1)
    axes[1].set(ylabel="loss weight\nof a group")
    axes[2].plot(epochs, [step["lr"] for step in steps], "o-", color="#555555")
    axes[2].set(ylabel="learning\nrate", xlabel="epoch")
    for step in steps:
        if step["rewound"]:
            for ax in axes:
                ax.axvline(step["epoch"] + 1, color="#D55E00", linestyle=":", zorder=0)
    return axes


def unit_pictures(weights: Any, mask: Any, conflict: Any, axes: Any) -> Any:
    """Incoming weights of first-layer units as pictures, pruned ones hatched out in grey, each unit's conflict as its title.

    Args:
        weights: (units, side, side).
        mask: the same shape, bool.
        conflict: (units,) in [-1, 1].
        axes: one per unit.
    """
    import seaborn as sns  # takes seconds to import, and only this picture needs it

    top = float(np.abs(weights).max())
    for ax, weight, kept, kappa in zip(np.ravel(axes), weights, mask, conflict, strict=True):
        sns.heatmap(
            np.where(kept, weight, np.nan),
            ax=ax,
            cmap="RdBu_r",
            vmin=-top,
            vmax=top,
            cbar=False,
            square=True,
            xticklabels=False,
            yticklabels=False,
        )
        ax.set_facecolor("#eeeeee")
        ax.set_title(f"κ = {kappa:+.2f}", fontsize=8, loc="center", color=COLOURS["ballot"] if kappa > 0 else "#333333")
        ax.grid(visible=False)
    return axes


def by_group(rows: pd.DataFrame, value: str, ax: Axes) -> Axes:
    """Each group's accuracy, or what it gained on the dense net, by method: means and 95 % t intervals over seeds.

    Args:
        rows: from `results.by_group`, of one task.
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
        rows: from `results.gap_summary`, of one task.
        names: gap -> what it is called, such as `results.GAPS`.
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
