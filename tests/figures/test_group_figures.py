import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fairlth import figures


def test_group_accuracy_draws_the_points_given():
    ax = plt.subplots()[1]
    figures.group_accuracy([8, 5], [10, 10], ["a", "b"], ax, "lth", shift=0.1)
    x, y = ax.containers[0].lines[0].get_data()
    assert x.tolist() == [0.1, 1.1] and list(y) == [0.8, 0.5]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b"]


def test_a_method_without_runs_draws_nothing_and_leaves_the_names_of_others():
    ax = plt.subplots()[1]
    figures.group_accuracy([8, 5], [10, 10], ["a", "b"], ax, "lth")
    figures.group_accuracy([], [], [], ax, "ballot")
    assert len(ax.containers) == 1
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b"]


def test_groups_are_drawn_by_method_beside_each_other():
    columns = [
        "method",
        "group",
        "images",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "gained",
        "gained_low",
        "gained_high",
    ]
    rows = pd.DataFrame(
        [(m, g, n, a, a - 0.1, a + 0.1, a - 0.9, a - 1, a - 0.8) for m, a in (("dense", 0.9), ("lth", 0.7)) for g, n in (("x", 5), ("y", 6))],
        columns=columns,
    )  # fmt: skip
    ax = figures.by_group(rows, "accuracy", plt.subplots()[1])
    points = [container.lines[0].get_data() for container in ax.containers]
    assert np.allclose([x for x, _ in points], [[-0.07, 0.93], [0.07, 1.07]])
    assert [list(y) for _, y in points] == [[90, 90], [70, 70]]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["x\nn = 5", "y\nn = 6"]
    ax = figures.by_group(rows, "gained", plt.subplots()[1])
    assert [list(container.lines[0].get_ydata()) for container in ax.containers] == [
        pytest.approx([-20, -20])
    ]


def test_gaps_stand_beside_what_chance_would_show():
    row = {"method": "lth", "odds": 0.2, "odds_low": 0.1, "odds_high": 0.3, "odds_floor": 0.05}
    ax = figures.gaps(
        pd.DataFrame([row, row | {"method": "ballot"}]),
        {"odds": "equalised odds"},
        plt.subplots()[1],
    )
    assert [bar.get_height() for bar in ax.patches] == [5.0, 5.0]
    assert [bar.get_x() + bar.get_width() / 2 for bar in ax.patches] == pytest.approx([-0.07, 0.07])
    assert ax.get_xticklabels()[0].get_text() == "equalised\nodds" and ax.get_ylim()[0] == 0


def test_forgotten_images_stand_weak_groups_first_beside_those_of_training_anew():
    row = {"method": "lth", "images": 10, "forgotten_low": -0.1, "forgotten_high": 0.4}
    strong = row | {"group": "x", "right": 9, "forgotten": 0.1, "beyond_chance": 0.1}
    weak = row | {"group": "y", "right": 5, "forgotten": 0.3, "beyond_chance": 0.2}
    ax = figures.forgotten(pd.DataFrame([strong, weak]), plt.subplots()[1])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["y", "x"]
    assert list(ax.containers[0].lines[0].get_ydata()) == [30, 10]
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([10, 0])
    lows = [segment[0][1] for segment in ax.containers[0].lines[2][0].get_segments()]
    assert lows == [0, 0]


def test_pictures_stand_in_a_row_under_their_captions():
    figure = figures.pictures(np.zeros((2, 1, 3, 3), np.uint8), ["8: 3", "$5"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["8: 3", "$5"]
    assert figure.axes[0].images[0].get_array().shape == (3, 3)


def test_names_of_groups_are_written_as_they_are():
    rows = pd.DataFrame(
        {"method": "lth", "group": ["$a$", "日|_"], "images": 5, "accuracy": 0.5}
    ).assign(accuracy_low=0.4, accuracy_high=0.6)
    ax = figures.by_group(rows, "accuracy", plt.subplots()[1])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["$a$\nn = 5", "\\u65e5|_\nn = 5"]
    figures.group_accuracy([8, 5], [10, 10], ["$a$", "日|_"], ax, "lth")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["$a$", "\\u65e5|_"]
    ax.figure.draw_without_rendering()  # warnings are errors here
