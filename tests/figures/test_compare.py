import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fairlth import config, figures, results
from fairlth.methods import METHODS


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def summary():
    """Two methods and the dense net at two densities, as `results.summary` gives them."""
    rows = []
    for method, density in (("dense", 1.0), ("lth", 0.05), ("lth", 0.02), ("ballot", 0.05), ("ballot", 0.02)):
        row = {
            "dataset": "digits",
            "target": "label",
            "group_by": "class",
            "model": "mlp",
            "method": method,
            "density": density,
            "n": 3,
            "cwv_floor": 0.0002,
        }
        for name, mean in (("accuracy", 0.8), ("cwv", 0.004 * density), ("mcd", 0.2)):
            row |= {name: mean, f"{name}_low": mean * 0.9, f"{name}_high": mean * 1.1}
        rows.append(row)
    return pd.DataFrame(rows)


def test_every_method_has_its_own_marker_and_name_and_its_familys_colour():
    assert set(figures.COLOURS) == set(figures.NAMES) == set(figures.MARKERS) == set(METHODS)
    assert len(set(figures.MARKERS.values())) == len(set(figures.NAMES.values())) == len(METHODS)
    assert len(set(figures.COLOURS.values())) <= 7  # families: no reader tells more apart


def test_group_accuracy_draws_the_points_given():
    ax = plt.subplots()[1]
    figures.group_accuracy([8, 5], [10, 10], ["a", "b"], ax, "lth", shift=0.1)
    x, y = ax.containers[0].lines[0].get_data()
    assert x.tolist() == [0.1, 1.1] and list(y) == [0.8, 0.5]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b"]


def test_comparison_puts_each_method_at_its_mean_and_names_it(summary):
    ax = figures.comparison(summary.iloc[:2], "cwv", plt.subplots()[1])
    assert [float(container.lines[0].get_xdata()[0]) for container in ax.containers] == pytest.approx([0.04 * 0.05 * 1e3, 40])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["lottery ticket", "dense"]


def test_panels_are_tasks_by_densities_with_the_dense_net_in_each(summary):
    drawn = []
    figure = figures.panels(summary, lambda rows, ax: drawn.append(list(rows["method"])) or ax)
    assert drawn == [["dense", "lth", "ballot"]] * 2
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["digits by class, mlp"] * 2
    assert [ax.texts[-1].get_text() for ax in figure.axes] == [
        f"density {density}, n = 3 seeds, 95 % t intervals" for density in ("0.05", "0.02")
    ]


def test_tradeoff_and_forest_draw_what_they_are_given(summary):
    ax = figures.tradeoff(summary.iloc[:2], plt.subplots()[1])
    assert [float(container.lines[0].get_ydata()[0]) for container in ax.containers] == [80, 80]
    rows = pd.DataFrame({"label": ["a"], "mean": [0.2], "low": [0.1], "high": [0.3], "paper": [0.38]})
    ax = figures.forest(rows, plt.subplots()[1])
    assert 38 in [float(line.get_xdata()[0]) for line in ax.lines]
    assert [text.get_text() for text in ax.texts] == ["the paper", "ours"]


def with_pressure(summary):
    """One density, Ballot at three pressures of which the middle one is its own."""
    own = summary[summary["density"].isin([0.05, 1.0])].assign(pressure=np.nan)
    ballot = own[own["method"] == "ballot"]
    weaker, stronger = (ballot.assign(pressure=p, cwv=c, cwv_low=c, cwv_high=c) for p, c in ((0.1, 0.01), (1.0, 0.001)))
    return pd.concat([own, stronger, weaker])


def test_curves_join_the_points_of_a_method_in_the_order_of_its_pressure(summary):
    rows = results.curves(with_pressure(summary), 0.05)
    assert list(rows.loc[rows["method"] == "ballot", "knob"]) == [config.KNOBS["ballot"].default, 0.1, 1.0]
    ax = figures.curves(rows, plt.subplots()[1])
    [line] = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    assert line.get_xdata().tolist() == pytest.approx([2, 100, 10])


def test_a_sweep_draws_a_line_a_method_along_densities_and_the_dense_net_across(summary):
    ax = figures.sweep(summary, "cwv", plt.subplots()[1])
    lines = [container.lines[0].get_ydata().tolist() for container in ax.containers]
    assert lines == [pytest.approx([0.8, 2.0])] * 2  # lth and ballot, sparse first
    assert ax.get_xticks().tolist() == [0.02, 0.05]
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [40]
    assert [text.get_text() for text in ax.texts] == ["lottery ticket", "Ballot", "chance", "dense"]


def test_rows_are_tasks_and_name_their_points_themselves(summary):
    other = summary.assign(dataset="cifar10", n=[3, 3, 3, 5, 5])
    figure = figures.rows(pd.concat([summary, other]), [figures.tradeoff, figures.tradeoff])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["digits by class, mlp"] * 2 + ["cifar10 by class, mlp"] * 2
    assert [ax.texts[-1].get_text() for ax in figure.axes] == ["n = 3 seeds, 95 % t intervals"] * 2 + [
        "n = 3 to 5 seeds, 95 % t intervals"
    ] * 2
    assert {text.get_text() for text in figure.axes[0].texts[:-1]} == {"dense", "lottery ticket", "Ballot"}
    figures.legend_below(figure)
    assert not figure.legends


def test_the_legend_below_has_what_is_not_named_once(summary):
    paid = summary[summary["density"] == 0.05].assign(relative=1.0, relative_low=0.5, relative_high=2.0, cost=2.0)
    paid = pd.concat([paid.assign(shift=0.0), paid.assign(shift=0.5)])
    figure = figures.panels(pd.concat([paid, paid.assign(dataset="other")]), figures.cost)
    figures.legend_below(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("as trained", "class biases shifted half-way as well")
    ]
    xs = [float(container.lines[0].get_xdata()[0]) for container in figure.axes[0].containers]
    assert len(set(xs)) == 4 and max(xs) / min(xs) < 1.1  # beside each other though their cost is the same


def test_effects_are_factors_of_the_cwv(summary):
    task = {"dataset": "digits", "target": "label", "group_by": "class", "model": "mlp", "density": 0.05}
    rows = [
        {"effect": name, "mean": mean, "low": mean - 1, "high": mean + 1} for name, mean in (("selection", 0), ("training", -1))
    ]
    table = pd.DataFrame([task | row for row in rows] + [{"dataset": "all"} | row for row in rows])
    ax = figures.effects(table, plt.subplots()[1])
    drawn = [container.lines[0].get_xdata().tolist() for container in ax.containers]
    assert drawn == [pytest.approx([1, 1]), pytest.approx([np.exp(-1)] * 2)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["all", "digits by class, mlp\ndensity 0.05"]


def test_an_interval_that_leaves_the_picture_ends_in_an_arrow(summary):
    wide = summary.iloc[:2].assign(cwv_high=[0.004, 1.0])
    ax = figures.comparison(wide, "cwv", plt.subplots()[1])
    [arrow] = [line for line in ax.lines if line.get_marker() == ">"]
    assert arrow.get_xdata() == [ax.get_xlim()[1]] and arrow.get_ydata() == [0]


def test_a_saved_figure_has_the_same_bytes_again(tmp_path, monkeypatch, summary):
    monkeypatch.setattr(config, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(config, "HOME", tmp_path)
    contents = []
    for _ in range(2):
        figure = figures.panels(summary, figures.tradeoff)
        assert figures.save(figure, "10_test", "smoke") == "figures/smoke/10_test.png"
        contents.append([(tmp_path / "figures/smoke/10_test").with_suffix(end).read_bytes() for end in (".png", ".pdf")])
    assert contents[0] == contents[1]


def test_pairs_shows_every_pair_and_counts_those_that_ballot_wins():
    task = {"dataset": "digits", "target": "label", "group_by": "class", "model": "mlp", "density": 0.05}
    rows = [
        task | {"rival": "lth", "ours": ours, "theirs": 0.4, "seed": seed} for seed, ours in enumerate((0.1, 0.2, 0.4, 0.8))
    ]
    rows += [task | {"rival": "magnitude", "ours": 0.1, "theirs": 0.8, "seed": 0}]
    ax = figures.pairs(pd.DataFrame(rows), plt.subplots()[1])
    dots = {float(x) for collection in ax.collections for x, _ in collection.get_offsets()}
    assert dots == {0.25, 0.5, 1.0, 2.0, 0.125}
    assert [text.get_text().strip() for text in ax.texts] == ["2 of 4", "1 of 1", "pairs won"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["lottery ticket", "magnitude"]
    assert ax.get_xscale() == "log"


def test_a_task_without_runs_at_a_density_has_an_empty_panel(summary):
    lacking = summary[summary["density"] != 0.02].assign(dataset="other")
    figure = figures.panels(pd.concat([summary, lacking]), figures.tradeoff)
    assert [ax.axison for ax in figure.axes] == [True, True, True, False]
    assert figure.axes[-1].texts[0].get_text() == "density 0.02: not run"


def test_groups_are_drawn_by_method_beside_each_other():
    columns = ["method", "group", "images", "accuracy", "accuracy_low", "accuracy_high", "gained", "gained_low", "gained_high"]
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
    assert [list(container.lines[0].get_ydata()) for container in ax.containers] == [pytest.approx([-20, -20])]


def test_gaps_stand_beside_what_chance_would_show():
    row = {"method": "lth", "odds": 0.2, "odds_low": 0.1, "odds_high": 0.3, "odds_floor": 0.05}
    ax = figures.gaps(pd.DataFrame([row, row | {"method": "ballot"}]), {"odds": "equalised odds"}, plt.subplots()[1])
    assert [bar.get_height() for bar in ax.patches] == [5.0, 5.0]
    assert [bar.get_x() + bar.get_width() / 2 for bar in ax.patches] == pytest.approx([-0.07, 0.07])
    assert ax.get_xticklabels()[0].get_text() == "equalised\nodds" and ax.get_ylim()[0] == 0
