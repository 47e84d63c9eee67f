"""Pictures of one network and of one training, for the walkthrough: units, gradients, masks, what a refined training did."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Arc
from matplotlib.ticker import MaxNLocator

from fairlth import labels, metrics
from fairlth.figures import COLOURS, GREY, MARKERS, NAMES
from fairlth.metrics import Counts

BLUE, RED = COLOURS["lth"], COLOURS["ballot"]


def masks(ours: Any, theirs: Any, axes: Any, names: tuple[str, str] = ("Ballot", "plain")) -> Any:
    """Two masks layer by layer, a dot a kept weight: row is the unit, column its input; shared dots are black.

    Args:
        ours, theirs: name -> (units, inputs) bool, of the same layers.
        axes: one per layer.
        names: of the two masks.
    """
    for ax, (layer, kept) in zip(axes, ours.items(), strict=True):
        mine, other = np.asarray(kept), np.asarray(theirs[layer])
        for where, marker, colour in ((mine & other, "o", "#000000"), (mine & ~other, "^", RED), (other & ~mine, "v", BLUE)):
            ax.plot(*np.nonzero(where)[::-1], marker, color=colour, markersize=3.5, clip_on=False)
        counts = (
            f"both {(mine & other).sum()}, only {names[0]} {(mine & ~other).sum()}, only {names[1]} {(other & ~mine).sum()}"
        )
        ax.set_title(f"{layer.removesuffix('.weight')}, {mine.size:,} weights\n{counts}", fontsize=8)
        ax.set(xlim=(-1, mine.shape[1]), ylim=(mine.shape[0], -1), xlabel="input", ylabel="unit")
        ax.grid(visible=False)
    return axes


def angle(degrees: float, ax: Axes) -> Axes:
    """Two directions of steepest descent in the plane that they span, accuracy's to the right, and the angle between them.

    Args:
        degrees: between the two gradients, 0 ... 180; above 90 they are in conflict.
    """
    turn, colour = np.deg2rad(degrees), RED if degrees > 90 else BLUE
    for x, y, goal in ((1, 0, "accuracy"), (np.cos(turn), np.sin(turn), "fairness")):
        ax.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "linewidth": 1.8, "color": "#000000", "shrinkA": 0})
        ax.annotate(goal, (1.1 * x, 1.1 * y + 0.12 * (y > 0)), ha="center" if y else "left", va="center", fontsize=9)
    ax.add_patch(Arc((0, 0), 0.7, 0.7, theta2=degrees, color=colour, linewidth=1.5))
    middle = turn / 2
    ax.plot([0, 0], [0, 1.05], ":", color=GREY, linewidth=1)
    at, clear = (0.55 * np.cos(middle), 0.55 * np.sin(middle)), {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    ax.annotate(f"{degrees:.0f}°", at, ha="center", va="center", color=colour, bbox=clear)
    ax.set(xlim=(-1.25, 1.6), ylim=(-0.15, 1.3), aspect="equal")
    ax.set_axis_off()
    return ax


def trace(steps: list[dict[str, Any]], groups: list[str], axes: Any) -> Any:
    """A refined training in three panels: validation CWV, group weights, learning rate; rewinds and settled epochs marked.

    Args:
        steps: rows of a record's trace.
        groups: names; the three whose weights end furthest from 1 are named and coloured.
        axes: three axes that share x.
    """
    epochs = [step["epoch"] + 1 for step in steps]
    axes[0].plot(epochs, [step["cwv"] * 1e4 for step in steps], "-", color=RED)
    for step in steps:  # filled where the state keeps the constraint
        face = RED if step.get("feasible", True) else "white"
        axes[0].plot(step["epoch"] + 1, step["cwv"] * 1e4, "o", color=RED, mfc=face)
    axes[0].set(ylabel="validation\nCWV × 10⁴", ylim=(0, None))
    _group_weights(epochs, np.array([step["weights"] for step in steps]), groups, axes[1])
    axes[2].plot(epochs, [step["lr"] for step in steps], "o-", color="#000000")
    axes[2].set(ylabel="learning\nrate", xlabel="epoch", ylim=(0, None))
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    for epoch in (step["epoch"] + 1 for step in steps if step["rewound"]):
        for ax in axes:
            ax.axvline(epoch, color=GREY, linestyle=":", zorder=0)
        axes[0].annotate(
            "rewind ", (epoch, 1), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right", fontsize=7
        )
    return axes


def _group_weights(epochs: list[int], weights: Any, groups: list[str], ax: Axes) -> None:
    """Lines of the groups' weights (epochs, groups), the three that end furthest from 1 in colour and named."""
    far = np.argsort(-np.abs(np.log(weights[-1])), kind="stable")[:3].tolist()
    colours = dict(zip(far, (RED, BLUE, COLOURS["safecompress"]), strict=False))
    for group, column in enumerate(weights.T):
        ax.plot(epochs, column, color=colours.get(group, "#C4C4C4"), linewidth=1.2, zorder=3 if group in far else 2)
        if group in far:
            labels.name_in_margin(ax, groups[group], (epochs[-1], column[-1]), colours[group])
    ax.set(ylabel="loss weight\nof a group")


def unit_pictures(weights: Any, mask: Any, conflict: Any, axes: Any) -> Any:
    """Incoming weights of first-layer units as pictures, pruned ones in grey, each unit's conflict as its title.

    Args:
        weights: (units, side, side).
        mask: the same shape, bool.
        conflict: (units,) in [-1, 1].
        axes: one per unit.
    """
    top, colours = float(np.abs(weights).max()), plt.get_cmap("RdBu_r").with_extremes(bad="#eeeeee")
    for ax, weight, kept, kappa in zip(np.ravel(axes), weights, mask, conflict, strict=True):
        ax.imshow(np.ma.masked_where(~np.asarray(kept), np.asarray(weight)), cmap=colours, vmin=-top, vmax=top)
        ax.set_title(f"κ = {kappa:+.2f}", fontsize=8, loc="center", color=RED if kappa > 0 else "#333333")
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    return axes


def own_ticket(curves: dict[str, Any], test: Counts, val: Counts, ax: Axes, title: str) -> Axes:
    """Accuracy against CWV of tickets along the shift of their class biases, and the reader's own; up and left is better.

    Args:
        curves: method -> rows with `accuracy` and `cwv` (fractions), from none of the shift on.
        test, val: the reader's ticket, arrays (groups,); the first filled with a 95 % Wilson interval of its accuracy and the
            standard error of its CWV, the second hollow.
    """
    for method, rows in curves.items():
        x, y = [row["cwv"] * 1e4 for row in rows], [row["accuracy"] * 100 for row in rows]
        ax.plot(x, y, "-", marker=MARKERS[method], color=COLOURS[method], linewidth=1, mfc="white")
        ax.plot(x[0], y[0], marker=MARKERS[method], color=COLOURS[method])
        labels.name(ax, NAMES[method], (x[0], y[0]), COLOURS[method])
    x, y = (
        [scale * measure(*counts) for counts in (test, val)] for measure, scale in ((metrics.cwv, 1e4), (metrics.accuracy, 100))
    )
    ends = metrics.share_interval(test.correct.sum(), test.total.sum())
    around = [[y[0] - ends.low * 100], [ends.high * 100 - y[0]]]
    ax.plot(x, y, ":o", color=RED, mfc="white", markersize=7, linewidth=1)
    ax.errorbar(
        x[0], y[0], around, metrics.cwv_error(*test) * 1e4, fmt="o", color=RED, markersize=8, capsize=3, elinewidth=1, zorder=5
    )
    labels.name(ax, "yours", (x[0], y[0]), RED)
    labels.name(ax, "as validation images saw it", (x[1], y[1]), RED)
    ax.set(title=title, xlabel=f"CWV × 10⁴ (0 is fair), n = {test.total.sum()} test images", ylabel="accuracy (%)")
    ax.set_xlim(-2, None)
    return ax
