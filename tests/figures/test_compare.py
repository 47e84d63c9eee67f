import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fairlth import config, figures
from fairlth.analysis import summaries


def test_comparison_puts_each_method_at_its_mean_and_names_it(summary):
    ax = figures.comparison(summary.iloc[:2], "cwv", plt.subplots()[1])
    assert [
        float(container.lines[0].get_xdata()[0]) for container in ax.containers
    ] == pytest.approx([0.04 * 0.05 * 1e3, 40])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["lottery ticket", "dense"]


def test_panels_are_tasks_by_densities_with_the_dense_net_in_each(summary):
    drawn = []
    figure = figures.panels(summary, lambda rows, ax: drawn.append(list(rows["method"])) or ax)
    assert drawn == [["dense", "lth", "ballot"]] * 2
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["digits by class, mlp"] * 2
    assert [ax.texts[-1].get_text() for ax in figure.axes] == [
        f"density {density}, n = 3 seeds, 95 % t intervals" for density in ("0.05", "0.02")
    ]


def test_tradeoff_draws_the_means_and_names_them(summary):
    ax = figures.tradeoff(summary.iloc[:2], plt.subplots()[1])
    drawn = [container.lines[0].get_xydata().tolist() for container in ax.containers]
    assert drawn == [[[40, 80]], [[pytest.approx(2), 80]]]
    assert [text.get_text() for text in ax.texts] == ["dense", "lottery ticket"]


def with_pressure(summary):
    """One density, Ballot at three pressures of which the middle one is its own."""
    own = summary[summary["density"].isin([0.05, 1.0])].assign(pressure=np.nan)
    ballot = own[own["method"] == "ballot"]
    weaker, stronger = (
        ballot.assign(pressure=p, cwv=c, cwv_low=c, cwv_high=c)
        for p, c in ((0.1, 0.01), (1.0, 0.001))
    )
    return pd.concat([own, stronger, weaker])


def test_curves_join_the_points_of_a_method_in_the_order_of_its_pressure(summary):
    rows = summaries.curves(with_pressure(summary), 0.05)
    assert list(rows.loc[rows["method"] == "ballot", "knob"]) == [
        config.KNOBS["ballot"].default,
        0.1,
        1.0,
    ]
    ax = figures.curves(rows, plt.subplots()[1])
    [line] = [
        line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3
    ]
    assert line.get_xdata().tolist() == pytest.approx([2, 100, 10])


def test_a_sweep_draws_a_line_per_method_along_densities_and_the_dense_net_across(summary):
    ax = figures.sweep(summary, "cwv", plt.subplots()[1])
    lines = [container.lines[0].get_ydata().tolist() for container in ax.containers]
    assert lines == [pytest.approx([0.8, 2.0])] * 2  # lth and ballot, sparse first
    assert ax.get_xticks().tolist() == [0.02, 0.05]
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [40]
    names = ["chance", "dense", "lottery ticket", "Ballot"]
    assert ax.get_legend_handles_labels()[1] == names and not ax.texts


def test_a_sweep_over_one_density_draws_bars(summary):
    ax = figures.sweep(summary[summary["density"] != 0.02], "cwv", plt.subplots()[1])
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([2.0, 2.0])
    assert [bar.get_y() for bar in ax.patches] == [0, 0] and ax.get_ylim()[0] == 0
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["lottery ticket", "Ballot"]
    assert ax.get_xlabel() == "density 0.05"
    [whiskers] = [found for found in ax.collections if len(found.get_segments()) == 2]
    assert whiskers.get_segments()[0][:, 1].tolist() == pytest.approx([1.8, 2.2])
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [40]
    assert ax.get_legend_handles_labels()[1] == ["chance", "dense"]


def test_rows_are_tasks_and_name_their_points_themselves(summary):
    other = summary.assign(dataset="cifar10", n=[3, 3, 3, 5, 5])
    figure = figures.rows(pd.concat([summary, other]), [figures.tradeoff, figures.tradeoff])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["digits by class, mlp"] * 2 + [
        "cifar10 by class, mlp"
    ] * 2
    assert [ax.texts[-1].get_text() for ax in figure.axes] == [
        "n = 3 seeds, 95 % t intervals"
    ] * 2 + ["n = 3 to 5 seeds, 95 % t intervals"] * 2
    assert {text.get_text() for text in figure.axes[0].texts[:-1]} == {
        "dense",
        "lottery ticket",
        "Ballot",
    }
    figures.legend_below(figure)
    assert not figure.legends


def test_a_task_with_the_dense_net_alone_has_no_row(summary):
    dense = summary[summary["method"] == "dense"].assign(dataset="cifar10")
    figure = figures.rows(pd.concat([summary, dense]), [figures.tradeoff])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["digits by class, mlp"]
    alone = figures.rows(dense, [figures.tradeoff])
    assert [ax.get_title(loc="left") for ax in alone.axes] == ["cifar10 by class, mlp"]


def test_the_legend_below_has_what_is_not_named_once(summary):
    paid = summary[summary["density"] == 0.05].assign(
        relative=1.0, relative_low=0.5, relative_high=2.0, cost=2.0
    )
    paid = pd.concat([paid.assign(shift=0.0), paid.assign(shift=0.5)])
    figure = figures.panels(pd.concat([paid, paid.assign(dataset="other")]), figures.cost)
    figures.legend_below(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("as trained", "class biases shifted half-way as well")
    ]
    xs = [float(container.lines[0].get_xdata()[0]) for container in figure.axes[0].containers]
    assert (
        len(set(xs)) == 4 and max(xs) / min(xs) < 1.1
    )  # beside each other though their cost is the same


def test_an_interval_that_leaves_the_picture_ends_in_an_arrow(summary):
    wide = summary.iloc[:2].assign(cwv_high=[0.004, 1.0])
    ax = figures.comparison(wide, "cwv", plt.subplots()[1])
    [arrow] = [line for line in ax.lines if line.get_marker() == ">"]
    assert arrow.get_xdata() == [ax.get_xlim()[1]] and arrow.get_ydata() == [0]


def test_a_task_without_runs_at_a_density_has_no_panel_there(summary):
    lacking = summary[summary["density"] != 0.02].assign(dataset="other")
    figure = figures.panels(pd.concat([summary, lacking]), figures.tradeoff)
    assert [ax.texts[-1].get_text().split(",")[0] for ax in figure.axes] == [
        *("density 0.05", "density 0.02", "density 0.05")
    ]
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 2)


def test_panels_of_many_tasks_leave_no_gaps(summary):
    one = summary[summary["density"] != 0.02]
    many = pd.concat([summary, *(one.assign(dataset=f"other {place}") for place in range(6))])
    figure = figures.panels(many, lambda rows, ax: ax)
    assert len(figure.axes) == 8 and figure.axes[0].get_gridspec().get_geometry() == (4, 2)
