"""The walkthrough's pictures of one network and one training: units, gradients, masks, epochs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Arc
from matplotlib.ticker import MaxNLocator

from fairlth import metrics
from fairlth.figures.style import COLOURS, FAMILIES, GREY, NAMES, legible, look, name
from fairlth.metrics import Counts

BLUE = FAMILIES["plain"]
RED = FAMILIES["ballot"]
PALE = "#C4C4C4"  # of groups that have no colour


def masks(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], axes: Iterable[Axes]
) -> Iterable[Axes]:
    """Two masks layer by layer, one dot per kept weight: its row is the unit, its column the input.

    Dots of both masks are black. A mask's own dots have its colour and point up (ours) or down
    (theirs).

    Args:
        ours, theirs: layer -> (units, inputs) bool, of the same layers.
        axes: one per layer.
    """
    for ax, (layer, kept) in zip(axes, ours.items(), strict=True):
        mine = np.asarray(kept)
        other = np.asarray(theirs[layer])
        _dots(mine & other, "o", "#000000", ax)
        _dots(mine & ~other, "^", RED, ax)
        _dots(other & ~mine, "v", BLUE, ax)
        both = (mine & other).sum()
        only = f"only Ballot {(mine & ~other).sum()}, only plain {(other & ~mine).sum()}"
        title = f"{layer.removesuffix('.weight')}, {mine.size:,} weights\nboth {both}, {only}"
        ax.set_title(title, fontsize=8)
        units, inputs = mine.shape
        ax.set(xlim=(-1, inputs), ylim=(units, -1), xlabel="input", ylabel="unit")
        ax.grid(visible=False)
    return axes


def _dots(where: np.ndarray, marker: str, colour: str, ax: Axes) -> None:
    """A dot at each True of a matrix."""
    unit, source = np.nonzero(where)
    ax.plot(source, unit, marker, color=colour, markersize=3.5, clip_on=False)


def angle(degrees: float, ax: Axes) -> Axes:
    """Two directions of steepest descent and the angle between them, in the plane that they span.

    Accuracy's direction points right.

    Args:
        degrees: between the two gradients, 0 to 180; above 90 they are in conflict.
    """
    turn = np.deg2rad(degrees)
    colour = RED if degrees > 90 else BLUE
    _arrow("accuracy", 1.0, 0.0, ax)
    _arrow("fairness", np.cos(turn), np.sin(turn), ax)
    ax.add_patch(Arc((0, 0), 0.7, 0.7, theta2=degrees, color=colour, linewidth=1.5))
    ax.plot([0, 0], [0, 1.05], ":", color=GREY, linewidth=1)
    middle = (0.55 * np.cos(turn / 2), 0.55 * np.sin(turn / 2))
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    ax.annotate(f"{degrees:.0f}°", middle, ha="center", va="center", color=colour, bbox=clear)
    ax.set(xlim=(-1.25, 1.6), ylim=(-0.15, 1.3), aspect="equal")
    ax.set_axis_off()
    return ax


def _arrow(goal: str, x: float, y: float, ax: Axes) -> None:
    """An arrow from 0 to a point, and at its tip what it is good for."""
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "linewidth": 1.8,
        "color": "#000000",
        "shrinkA": 0,
    }
    ax.annotate("", (x, y), (0, 0), arrowprops=style)
    above = 0.12 if y > 0 else 0.0
    ax.annotate(
        goal, (1.1 * x, 1.1 * y + above), ha="center" if y else "left", va="center", fontsize=9
    )


def trace(
    steps: Sequence[Mapping[str, Any]], groups: Sequence[str], axes: Sequence[Axes]
) -> Sequence[Axes]:
    """A refined training in three panels: validation CWV, the groups' loss weights, learning rate.

    Dotted lines are rewinds. Filled points are epochs that keep the constraint.

    Args:
        steps: rows of a record's trace.
        groups: names; a legend names the three whose weights end farthest from 1.
        axes: three axes that share x.
    """
    epochs = [step["epoch"] + 1 for step in steps]
    cwv = [step["cwv"] * 1e4 for step in steps]
    axes[0].plot(epochs, cwv, "-", color=RED)
    for step, epoch, value in zip(steps, epochs, cwv, strict=True):
        face = RED if step.get("feasible", True) else "white"
        axes[0].plot(epoch, value, "o", color=RED, mfc=face)
    axes[0].set(ylabel="validation\nCWV × 10⁴", ylim=(0, None))
    _group_weights(epochs, np.array([step["weights"] for step in steps]), groups, axes[1])
    axes[2].plot(epochs, [step["lr"] for step in steps], "o-", color="#000000")
    axes[2].set(ylabel="learning\nrate", xlabel="epoch", ylim=(0, None))
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    at_top: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "rotation": 90,
        "va": "top",
        "ha": "right",
    }
    for epoch in [step["epoch"] + 1 for step in steps if step["rewound"]]:
        for ax in axes:
            ax.axvline(epoch, color=GREY, linestyle=":", zorder=0)
        axes[0].annotate("rewind ", (epoch, 1), fontsize=7, **at_top)
    return axes


def _group_weights(epochs: list[int], weights: np.ndarray, groups: Sequence[str], ax: Axes) -> None:
    """Lines of the groups' weights (epochs, groups), the three that end farthest from 1 named."""
    farthest = np.argsort(-np.abs(np.log(weights[-1])), kind="stable")[:3].tolist()
    colours = dict(zip(farthest, (RED, BLUE, FAMILIES["rival"]), strict=False))
    lines = {}
    for group, column in enumerate(weights.T):
        above = 3 if group in colours else 2
        [lines[group]] = ax.plot(
            epochs, column, color=colours.get(group, PALE), linewidth=1.2, zorder=above
        )
    named = sorted(
        farthest, key=lambda group: -weights[-1, group]
    )  # as the lines end, the highest first
    beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "fontsize": 8}
    ax.legend(
        [lines[group] for group in named], [legible(groups[group]) for group in named], **beside
    )
    ax.set(ylabel="loss weight\nof a group")


def unit_pictures(weights: Any, mask: Any, conflict: Any, axes: Any) -> Any:
    """Incoming weights of first-layer units as pictures, pruned ones in grey, titled by conflict.

    Args:
        weights: (units, side, side).
        mask: the same shape, bool.
        conflict: (units,) in [-1, 1].
        axes: one per unit.
    """
    top = float(np.abs(weights).max())
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="#eeeeee")
    for ax, weight, kept, kappa in zip(np.ravel(axes), weights, mask, conflict, strict=True):
        shown = np.ma.masked_where(~np.asarray(kept), np.asarray(weight))
        ax.imshow(shown, cmap=colours, vmin=-top, vmax=top)
        ax.set_title(
            f"κ = {kappa:+.2f}", fontsize=8, loc="center", color=RED if kappa > 0 else "#333333"
        )
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    return axes


def own_ticket(
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    test: Counts,
    val: Counts,
    ax: Axes,
    title: str,
) -> Axes:
    """Accuracy against CWV of tickets along the shift of their class biases, and of the reader's.

    Up and left is better.

    Args:
        curves: method -> rows with `accuracy` and `cwv` (fractions); the first row has no shift.
        test: of the reader's ticket, arrays (groups,); filled, with a 95 % Wilson interval of its
            accuracy and the standard error of its CWV.
        val: the same on validation images; hollow.
        title: of the axes.
    """
    for method, rows in curves.items():
        x = [row["cwv"] * 1e4 for row in rows]
        y = [row["accuracy"] * 100 for row in rows]
        ax.plot(x, y, "-", **look(method), linewidth=1, mfc="white")
        ax.plot(x[0], y[0], **look(method))
        name(ax, NAMES[method], (x[0], y[0]), COLOURS[method])
    seen = (metrics.cwv(*test) * 1e4, metrics.accuracy(*test) * 100)
    expected = (metrics.cwv(*val) * 1e4, metrics.accuracy(*val) * 100)
    ax.plot(
        *zip(seen, expected, strict=True), ":o", color=RED, mfc="white", markersize=7, linewidth=1
    )
    share = metrics.share_interval(test.correct.sum(), test.total.sum())
    ends = [[seen[1] - share.low * 100], [share.high * 100 - seen[1]]]
    style: dict[str, Any] = {
        "fmt": "o",
        "color": RED,
        "markersize": 8,
        "capsize": 3,
        "elinewidth": 1,
        "zorder": 5,
    }
    ax.errorbar(*seen, ends, metrics.cwv_error(*test) * 1e4, **style)
    name(ax, "yours", seen, RED)
    name(ax, "as validation images saw it", expected, RED)
    ax.set_title(legible(title))
    ax.set_xlabel(f"CWV × 10⁴ (0 is fair), n = {test.total.sum()} test images")
    ax.set_ylabel("accuracy (%)")
    ax.set_xlim(-2, None)
    return ax
