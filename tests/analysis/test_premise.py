import numpy as np
import pandas as pd
import pytest

from fairlth.analysis import premise

TASK = {"dataset": "d", "target": "label", "group_by": "class", "model": "m", "pressure": None}


def runs(pruned, dense=(1.0, 1.0), method="lth", density=0.05, **task):
    """Runs of the dense net and a pruned one with the given CWVs, a seed each."""
    rows = []
    for seed, (net, ticket) in enumerate(zip(dense, pruned, strict=True)):
        rows.append({"method": "dense", "density": 1.0, "seed": seed, "cwv": net})
        rows.append({"method": method, "density": density, "seed": seed, "cwv": ticket})
    return pd.DataFrame([TASK | task | row for row in rows])


def test_the_ratio_is_geometric_and_paired_by_seed():
    overall, one = premise.over_dense(runs((2.0, 4.0), dense=(1.0, 0.5))).to_dict("records")
    half = 12.7062 * np.log(4) / 2  # t of one degree of freedom, ratios 2 and 8
    assert (one["ratio"], one["n"], one["method"], one["density"]) == (
        pytest.approx(4),
        2,
        "lth",
        0.05,
    )
    assert np.log([one["low"], one["high"]]) == pytest.approx(
        [np.log(4) - half, np.log(4) + half], rel=1e-4
    )
    assert (overall["dataset"], overall["ratio"], overall["settings"]) == (
        "all",
        pytest.approx(4),
        1,
    )


@pytest.mark.parametrize(
    ("pruned", "verdict"),
    [
        ((2.0, 2.1), "less fair"),
        ((0.5, 0.51), "fairer"),
        ((0.5, 2.0), "not shown"),
        ((1.0, 1.0), "not shown"),
    ],
)
def test_the_verdict_follows_its_rule(pruned, verdict):
    rows = premise.over_dense(runs(pruned))
    assert rows["verdict"].tolist() == [verdict] * 2
    assert premise.in_words(rows).endswith(
        f": {verdict}; less fair in {int(verdict == 'less fair')} of 1 settings, "
        f"fairer in {int(verdict == 'fairer')}."
    )


def test_one_seed_shows_nothing():
    [overall, _] = premise.over_dense(runs((2.0,), dense=(1.0,))).to_dict("records")
    assert (overall["ratio"], overall["verdict"]) == (2.0, "not shown") and np.isnan(overall["low"])


def test_over_all_is_the_mean_of_a_seeds_settings_and_needs_them_all():
    sparse = runs((8.0, 8.0), density=0.02)
    both = pd.concat(
        [runs((2.0, 2.0)), sparse[sparse["method"].ne("dense") & sparse["seed"].eq(0)]]
    )
    overall = premise.over_dense(both).iloc[0]
    assert (overall["ratio"], overall["n"], overall["settings"]) == (pytest.approx(4), 1, 2)


@pytest.mark.parametrize("zero", ["pruned", "dense"])
def test_a_cwv_of_exactly_0_is_no_ratio_and_is_named(zero):
    made = (
        runs((0.0, 2.0, 2.1), (1, 1, 1)) if zero == "pruned" else runs((1.0, 2.0, 2.1), (0.0, 1, 1))
    )
    rows = premise.over_dense(made)
    assert rows["n"].tolist() == [2, 2] and rows["zeros"].tolist() == [1, 1]
    assert rows["ratio"].tolist() == pytest.approx([np.sqrt(4.2)] * 2)
    assert premise.in_words(rows).splitlines()[1] == (
        "Pairs without a ratio, since a CWV is exactly 0, are left out: 1 of lth on d by class, m at 0.05."
    )


def test_where_every_pair_is_0_there_is_no_ratio():
    rows = premise.over_dense(runs((0.0, 0.0)))
    assert rows["verdict"].tolist() == ["no ratio"] * 2 and rows["n"].tolist() == [0, 0]
    assert premise.readable_premise(rows)["CWV over the dense net's"].tolist() == ["–", "–"]


def test_methods_that_were_not_run_have_no_rows():
    rows = premise.over_dense(runs((2.0, 2.1), method="magnitude"))
    assert rows["method"].unique().tolist() == ["magnitude"]
    nothing = premise.over_dense(runs((2.0, 2.1)).query("method == 'lth'"))
    assert nothing.empty and premise.in_words(nothing).startswith("Pruning alone: not run")
