import matplotlib.pyplot as plt
import numpy as np
import pytest

from fairlth.figures import walkthrough
from fairlth.figures.style import FAMILIES
from fairlth.metrics import Counts


def test_a_trace_names_the_groups_that_moved_most_and_marks_rewinds_and_broken_constraints():
    step = {
        "epoch": 0,
        "cwv": 0.01,
        "weights": (1.0, 1.0, 2.0, 0.9, 0.5),
        "lr": 0.1,
        "rewound": False,
        "feasible": True,
    }
    axes = plt.subplots(3, 1)[1]
    walkthrough.trace(
        [step, step | {"epoch": 1, "rewound": True, "feasible": False}],
        ["a", "b", "$c$", "日", "_e"],
        axes,
    )
    named = axes[1].get_legend()
    assert [text.get_text() for text in named.get_texts()] == ["$c$", r"\u65e5", "_e"]
    colours = [line.get_color() for line in named.get_lines()]
    assert colours == [
        walkthrough.RED,
        FAMILIES["rival"],
        walkthrough.BLUE,
    ]  # c goes farthest, then e
    assert len(axes[1].lines) == 5 + 1 and axes[1].lines[-1].get_xdata() == [
        2,
        2,
    ]  # one a group and the mark of the rewind
    assert [line.get_markerfacecolor() for line in axes[0].lines[1:3]] == [walkthrough.RED, "white"]
    assert [text.get_text() for text in axes[0].texts] == ["rewind "]


def test_unit_pictures_leave_pruned_weights_blank():
    axes = plt.subplots(1, 2)[1]
    mask = np.ones((2, 8, 8), bool)
    mask[0, 0, 0] = False
    walkthrough.unit_pictures(np.ones((2, 8, 8)), mask, np.array([0.5, -0.5]), axes)
    assert [int(np.ma.getmaskarray(ax.images[0].get_array()).sum()) for ax in axes] == [1, 0]


def test_masks_show_a_dot_for_each_weight_kept_by_either():
    ours, theirs = np.zeros((2, 3), bool), np.zeros((2, 3), bool)
    ours[0, 0] = theirs[0, 0] = ours[1, 2] = True
    theirs[1, 0] = theirs[1, 1] = True
    [ax] = walkthrough.masks(
        {"w.weight": ours}, {"w.weight": theirs}, plt.subplots(squeeze=False)[1][0]
    )
    dots = [
        list(zip(*(axis.tolist() for axis in line.get_data()), strict=True)) for line in ax.lines
    ]
    assert dots == [[(0, 0)], [(2, 1)], [(0, 1), (1, 1)]]  # input, unit
    assert ax.get_title(loc="left").endswith("both 1, only Ballot 1, only plain 2")


def test_the_angle_is_drawn_as_it_is():
    ax = walkthrough.angle(120.0, plt.subplots()[1])
    assert ax.patches[0].theta2 == 120 and "120°" in [text.get_text() for text in ax.texts]
    x, y = ax.texts[2].xy  # the tip of the second arrow
    assert np.degrees(np.arctan2(y, x)) == pytest.approx(120)


def test_the_readers_ticket_stands_beside_the_curves():
    curves = {"lth": [{"accuracy": 0.8, "cwv": 0.01}, {"accuracy": 0.7, "cwv": 0.005}]}
    test, val = (
        Counts(np.array([8, 6]), np.array([10, 10])),
        Counts(np.array([9, 9]), np.array([10, 10])),
    )
    ax = walkthrough.own_ticket(curves, test, val, plt.subplots()[1], "t")
    assert ax.lines[0].get_xdata().tolist() == pytest.approx([100, 50])
    assert [axis.tolist() for axis in ax.lines[2].get_data()] == [
        pytest.approx([100, 0]),
        pytest.approx([70, 90]),
    ]
    assert [text.get_text() for text in ax.texts] == [
        "lottery ticket",
        "yours",
        "as validation images saw it",
    ]
