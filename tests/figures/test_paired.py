import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fairlth import figures

TASK = {"dataset": "digits", "target": "label", "group_by": "class", "model": "mlp"}


def test_forest_draws_what_it_is_given():
    rows = pd.DataFrame(
        {"label": ["a"], "mean": [0.2], "low": [0.1], "high": [0.3], "paper": [0.38]}
    )
    ax = figures.forest(rows, plt.subplots()[1])
    assert ax.containers[0].lines[0].get_xdata().tolist() == [20]
    assert ax.containers[0].lines[2][0].get_segments()[0][:, 0].tolist() == pytest.approx([10, 30])
    assert 38 in [float(line.get_xdata()[0]) for line in ax.lines]
    assert [text.get_text() for text in ax.texts] == ["the paper", "ours"]


def test_effects_are_factors_of_the_cwv():
    task = {
        "dataset": "digits",
        "target": "label",
        "group_by": "class",
        "model": "mlp",
        "density": 0.05,
    }
    rows = [
        {"effect": name, "mean": mean, "low": mean - 1, "high": mean + 1}
        for name, mean in (("selection", 0), ("training", -1))
    ]
    table = pd.DataFrame([task | row for row in rows] + [{"dataset": "all"} | row for row in rows])
    ax = figures.effects(table, plt.subplots()[1])
    drawn = [container.lines[0].get_xdata().tolist() for container in ax.containers]
    assert drawn == [pytest.approx([1, 1]), pytest.approx([np.exp(-1)] * 2)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "all",
        "digits by class, mlp\ndensity 0.05",
    ]


def test_pairs_shows_every_pair_and_counts_those_that_ballot_wins():
    task = {
        "dataset": "digits",
        "target": "label",
        "group_by": "class",
        "model": "mlp",
        "density": 0.05,
    }
    rows = [
        task | {"rival": "lth", "ours": ours, "theirs": 0.4, "seed": seed}
        for seed, ours in enumerate((0.1, 0.2, 0.4, 0.8))
    ]
    rows += [task | {"rival": "magnitude", "ours": 0.1, "theirs": 0.8, "seed": 0}]
    ax = figures.pairs(pd.DataFrame(rows), plt.subplots()[1])
    dots = {float(x) for collection in ax.collections for x, _ in collection.get_offsets()}
    assert dots == {0.25, 0.5, 1.0, 2.0, 0.125}
    assert [text.get_text().strip() for text in ax.texts] == ["2 of 4", "1 of 1", "pairs won"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["lottery ticket", "magnitude"]
    assert ax.get_xscale() == "log"


def test_premise_draws_ratios_to_the_dense_net_one_line_per_task_and_density():
    rows = pd.DataFrame(
        [
            TASK
            | {"density": 0.05, "method": "lth", "ratio": 1.5, "low": 1.2, "high": 1.9, "n": 3},
            TASK
            | {"density": 0.05, "method": "magnitude", "ratio": 2, "low": 1, "high": 4, "n": 5},
            TASK
            | {"density": 0.02, "method": "lth", "ratio": 0, "low": np.nan, "high": np.nan, "n": 1},
            {
                "dataset": "all",
                "density": np.nan,
                "method": "lth",
                "ratio": 1.2,
                "low": 1,
                "high": 2,
                "n": 3,
            },
        ]
    )
    ax = figures.premise(rows, plt.subplots()[1])
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "all, n = 3",
        "digits by class, mlp\ndensity 0.02, n = 1",
        "digits by class, mlp\ndensity 0.05, n = 3 to 5",
    ]
    drawn = [container.lines[0].get_xydata().tolist() for container in ax.containers]
    assert drawn == [[[1.2, pytest.approx(-0.1)]], [[0, 0.9]], [[1.5, 1.9]], [[2, 2.1]]]
    ends = [container.lines[2][0].get_segments()[0][:, 0].tolist() for container in ax.containers]
    assert ends[2:] == [pytest.approx([1.2, 1.9]), pytest.approx([1, 4])]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "magnitude",
        "lottery ticket",
    ]
    assert ax.get_xscale() == "log" and ax.get_xlim() == pytest.approx((1 / 1.5, 6))
    assert [1, 1] in [list(line.get_xdata()) for line in ax.lines]


CELLS = pd.DataFrame(
    [
        {"task": "b", "model": "m", "value": 0.75, "low": 0.5, "high": 1.0, "n": 3},
        {"task": "a $x$ 日", "model": "m", "value": -0.25, "low": -0.5, "high": 0.25, "n": 5},
        {"task": "b", "model": "k", "value": -0.1, "low": -0.2, "high": -0.05, "n": 3},
    ]
)


def test_a_heat_map_writes_values_and_intervals_and_hatches_what_is_not_shown():
    ax = figures.heat_map(CELLS, plt.subplots()[1])
    words = {text.get_text(): text for text in ax.texts}
    assert {text: note.get_position() for text, note in words.items()} == {
        "75%\n(50% to 100%)\nn = 3": (0.5, 0.5),
        "-25%\n(-50% to 25%)\nn = 5": (0.5, 1.5),
        "-10%\n(-20% to -5%)\nn = 3": (1.5, 0.5),
        "–": (1.5, 1.5),
    }
    [hatched] = ax.patches
    assert hatched.get_xy() == (0, 1) and hatched.get_hatch()
    colours = [words[text].get_color() for text in words]
    assert colours == ["white", "#4D4D4D", "black", figures.GREY]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["b", "a $x$ \\u65e5"]
    [mesh] = ax.collections
    assert mesh.get_clim() == (-1, 1)  # 0 is in the middle of the colours
    values = mesh.get_array()
    assert values.filled(np.nan).ravel().tolist() == pytest.approx(
        [0.75, -0.1, -0.25, np.nan], nan_ok=True
    )
    ax.figure.draw_without_rendering()
    assert "50%" in [tick.get_text() for tick in mesh.colorbar.ax.get_yticklabels()]
    assert "interval includes 0," in ax.get_xlabel()


def test_heat_maps_stand_below_each_other_and_the_even_fight_has_ratios():
    known = CELLS.assign(value=0.5, low=0.4, high=0.6)
    rows = pd.concat([known.assign(rival=rival) for rival in ("lth", "lth_long")])
    figure = figures.heat_maps(rows, "lth_long", "small")
    labels = {
        ax.get_title(loc="left"): ax.collections[0].colorbar.ax.get_ylabel()
        for ax in figure.axes[:2]
    }
    assert labels == {
        "Ballot against lth, any accuracy, preset small": "CWV lower by",
        "Ballot against lth_long, equal accuracy, preset small": "CWV divided by the rival's",
    }


def test_a_heat_map_of_ratios_has_1_in_the_middle_and_what_is_fairer_on_top():
    rows = CELLS.assign(value=[0.25, 1.25, 2.0], low=[0.2, 0.8, 1.2], high=[0.9, 2, 3])
    ax = figures.heat_map(rows, plt.subplots()[1], ratio=True)
    words = {text.get_text(): text.get_color() for text in ax.texts}
    assert words == {
        "0.25\n(0.20 to 0.90)\nn = 3": "white",
        "1.25\n(0.80 to 2.00)\nn = 5": "#4D4D4D",
        "2.00\n(1.20 to 3.00)\nn = 3": "black",
        "–": figures.GREY,
    }
    [hatched] = ax.patches
    assert hatched.get_xy() == (0, 1)
    [mesh] = ax.collections
    effects = [np.log(4), -np.log(2), -np.log(1.25), np.nan]
    assert mesh.get_array().filled(np.nan).ravel().tolist() == pytest.approx(effects, nan_ok=True)
    percents = figures.heat_map(CELLS, plt.subplots()[1]).collections[0]
    assert mesh.cmap == percents.cmap and mesh.norm(np.log(4)) == percents.norm(1.0) == 1
    ticks = [tick.get_text() for tick in mesh.colorbar.ax.get_yticklabels()]
    assert ticks == ["4.00", "1.00", "0.25"]  # from the bottom upwards
    assert "interval includes 1," in ax.get_xlabel()


@pytest.mark.parametrize(("ratio", "value", "ends"), [(False, 0.02, 1.0), (True, 0.98, np.log(2))])
def test_a_small_effect_has_a_pale_colour(ratio, value, ends):
    ax = figures.heat_map(CELLS.head(1).assign(value=value), plt.subplots()[1], ratio=ratio)
    assert ax.collections[0].get_clim() == pytest.approx((-ends, ends))


def test_ratios_stand_on_a_logarithmic_axis_the_first_at_the_top():
    rows = pd.DataFrame(
        {"label": ["a", "b"], "ratio": [0.5, 2], "low": [0.25, np.nan], "high": [1.0, np.nan]}
    )
    ax = figures.ratios(rows, plt.subplots()[1])
    [drawn] = ax.containers
    assert drawn.lines[0].get_xydata().tolist() == [[2, 0], [0.5, 1]]
    ends = [segment[:, 0].tolist() for segment in drawn.lines[2][0].get_segments()]
    assert ends == [pytest.approx([2, 2]), pytest.approx([0.25, 1])]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["b", "a"]
    assert ax.get_xscale() == "log" and ax.get_xlim() == pytest.approx((0.25 / 1.5, 3))
    assert [1, 1] in [list(line.get_xdata()) for line in ax.lines]


def far_from_1():
    """Rows that `ratios`, `premise`, `effects`, `pairs` and `cost` draw, all at a fifth."""
    numbers = {"ratio": 0.2, "low": 0.15, "high": 0.25, "n": 3, "mean": np.log(0.2)}
    row = TASK | numbers | {"label": "a", "density": 0.05, "method": "lth", "rival": "lth"}
    row |= {"seed": 0, "ours": 0.2, "theirs": 1.0, "cost": 4.0, "shift": 0.0}
    return pd.DataFrame([row])


def as_effects(rows):
    both = [rows.assign(effect=effect) for effect in ("selection", "training")]
    return pd.concat(both).assign(low=np.log(0.15), high=np.log(0.25))


DRAWINGS = {
    "ratios": lambda rows, ax: figures.ratios(rows, ax).xaxis,
    "premise": lambda rows, ax: figures.premise(rows, ax).xaxis,
    "effects": lambda rows, ax: figures.effects(as_effects(rows), ax).xaxis,
    "pairs": lambda rows, ax: figures.pairs(rows, ax).xaxis,
    "cost": lambda rows, ax: (
        figures.cost(rows.assign(relative=0.2, relative_low=0.15, relative_high=0.25), ax).yaxis
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_line_at_1_is_in_sight_wherever_the_ratios_are(name):
    low, high = DRAWINGS[name](far_from_1(), plt.subplots()[1]).get_view_interval()
    assert low < 0.2 and high == pytest.approx(1.5)


def test_an_interval_that_is_not_there_shows_nothing_and_no_cell_is_drawn_twice():
    alone = CELLS.head(1).assign(low=np.nan, high=np.nan, n=1)
    ax = figures.heat_map(alone, plt.subplots()[1])
    assert len(ax.patches) == 1 and [text.get_text() for text in ax.texts] == ["75%\nn = 1"]
    with pytest.raises(
        ValueError, match="b with m has two rows: a heat map takes one per task and model"
    ):
        figures.heat_map(pd.concat([CELLS, alone]), plt.subplots()[1])
