import numpy as np
import pandas as pd
import pytest
from test_records import record
from test_summaries import ballot_against

from fairlth.analysis import paired_gains, records, report, summaries


def test_improvements_are_paired_by_seed_and_by_hand():
    improved = paired_gains.improvements(
        ballot_against((70, 60), (60, 40))
    )  # CWV 25/100, 100/400 of the rival's
    assert improved["dataset"].tolist() == ["all", "digits"]
    assert improved["mean"].tolist() == pytest.approx([0.75, 0.75]) and improved["n"].tolist() == [
        2,
        2,
    ]


def test_the_overall_improvement_averages_a_seed_before_it_counts():
    found = [
        record(
            method, seed, correct=((80, 0), (0, rate)), total=((100, 0), (0, 100)), density=density
        )
        for density, rates in ((0.05, (70, 60)), (0.02, (60, 60)))  # CWV 75 % lower, then equal
        for method, rate in zip(("ballot", "lth"), rates, strict=True)
        for seed in (0, 1)
    ]
    overall = (
        paired_gains.improvements(summaries.per_run(records.table(found)))
        .query("dataset == 'all'")
        .iloc[0]
    )
    assert overall["n"] == 2
    assert (overall["mean"], overall["low"], overall["high"]) == pytest.approx(
        (0.375, 0.375, 0.375)
    )


def test_a_seed_that_lacks_a_density_does_not_count_overall():
    found = [
        record(
            method, seed, correct=((80, 0), (0, rate)), total=((100, 0), (0, 100)), density=density
        )
        for density, seeds in ((0.05, (0, 1, 2)), (0.02, (0, 1)))
        for method, rate in (("ballot", 70), ("lth", 60))
        for seed in seeds
    ]
    improved = paired_gains.improvements(summaries.per_run(records.table(found)))
    assert improved[["dataset", "n"]].to_numpy().tolist() == [
        ["all", 2],
        ["digits", 2],
        ["digits", 3],
    ]


def test_the_probability_of_improvement_counts_pairs_and_whole_seeds():
    """Five seeds of CWVs by hand: Ballot is fairer in the first three pairs, level in the fourth, less fair in the fifth."""
    [row] = paired_gains.probability(
        ballot_against((70, 60), (75, 60), (80, 60), (60, 60), (50, 60))
    ).to_dict("records")
    assert (row["rival"], row["won"], row["pairs"], row["mean"], row["n"]) == ("lth", 3, 5, 0.6, 5)
    assert (row["low"], row["high"]) == pytest.approx(
        (0.2307, 0.8824), abs=1e-4
    )  # Wilson for 3 of 5


def test_a_seed_is_won_by_its_mean_gain_over_tasks():
    found = [
        record(
            method, seed, correct=((80, 0), (0, rate)), total=((100, 0), (0, 100)), density=density
        )
        for density, ours in (
            (0.05, (70, 70)),
            (0.02, (55, 40)),
        )  # gains of 3/4 in both; then of -9/16 and -3
        for seed, rate in enumerate(ours)
        for method, rate in (("ballot", rate), ("lth", 60))
    ]
    [row] = paired_gains.probability(summaries.per_run(records.table(found))).to_dict("records")
    assert (row["won"], row["pairs"], row["mean"], row["n"]) == (2, 4, 0.5, 2)


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        (((70, 60), (60, 40)), "reproduced"),
        (((61, 60), (61, 60)), "partly"),
        (((60, 62), (70, 60)), "not reproduced"),
        (((70, 60),), "not reproduced"),
    ],
)
def test_verdicts_follow_their_rule(pairs, verdict):
    claims = paired_gains.claims(ballot_against(*pairs)).set_index("claim")
    assert claims["verdict"]["CWV lower than lth"] == verdict
    assert claims["verdict"]["CWV lower than safecompress"] == "not run"
    assert claims["verdict"]["CWV lower than lth_bias (control)"] == "not run"
    assert "38.0%" in report.readable_claims(claims.reset_index())["paper"].tolist()


@pytest.mark.parametrize(
    ("pairs", "verdict"), [(((61, 60), (61, 60)), "better"), (((59, 60), (61, 60)), "not better")]
)
def test_the_control_is_a_row_without_a_number_of_the_papers(pairs, verdict):
    runs = ballot_against(*pairs).replace({"method": {"lth": "lth_bias"}})
    control = paired_gains.claims(runs).set_index("claim").loc["CWV lower than lth_bias (control)"]
    assert control["verdict"] == verdict and np.isnan(control["paper"]) and control["n"] == 2


def test_gains_are_printed_in_percent_with_their_interval():
    shown = paired_gains.readable_gains(
        paired_gains.improvements(ballot_against((61, 60), (61, 60)))
    )
    assert shown.to_dict("records") == [
        {
            "task": task,
            "density": density,
            "rival": "lth",
            "CWV lower by": "10% (10% to 10%)",
            "n": 2,
        }
        for task, density in (("all", "all"), ("digits by class, mlp", "0.05"))
    ]


def test_whole_seeds_are_told_by_which_settings_they_have_not_by_how_many():
    """Seeds 0 and 1 lack a setting each, but not the same one; seed 2 has both."""
    cells = [(0.05, 1, 0.1), (0.05, 2, 0.2), (0.02, 0, 0.4), (0.02, 2, 0.6)]
    rows = pd.DataFrame(cells, columns=["density", "seed", "gain"])
    rows = rows.assign(dataset="d", target="t", group_by="g", model="m")
    assert paired_gains.whole_seeds(rows, "gain").to_dict() == {2: pytest.approx(0.4)}
    assert paired_gains.whole_seeds(rows[rows["seed"] < 2], "gain").empty
    lost = rows.assign(gain=rows["gain"].where(rows["gain"] < 0.5))
    assert paired_gains.whole_seeds(
        lost, "gain"
    ).empty  # a value that is nan is as one that is not there


def test_a_rival_whose_cwv_is_0_has_no_share():
    both = paired_gains.paired(ballot_against((70, 80), (60, 40)))
    assert both["gain"].tolist() == pytest.approx([np.nan, 0.75], nan_ok=True)
    improved = paired_gains.improvements(ballot_against((70, 80), (60, 40)))
    assert improved["n"].tolist() == [1, 1] and improved["mean"].tolist() == pytest.approx(
        [0.75, 0.75]
    )


def test_the_price_is_paired_by_seed_and_by_hand():
    rows = [
        ("ballot", 0, 0.5),
        ("ballot", 1, 0.7),
        ("lth", 0, 0.6),
        ("lth", 1, 0.6),
        ("dense", 0, 0.9),
        ("dense", 1, 0.9),
    ]
    task = {"dataset": "d", "target": "t", "group_by": "g", "model": "m", "pressure": None}
    runs = [
        task
        | {
            "method": method,
            "seed": seed,
            "accuracy": accuracy,
            "density": 1.0 if method == "dense" else 0.05,
        }
        for method, seed, accuracy in rows
    ]
    found = paired_gains.price(pd.DataFrame(runs)).set_index("against")
    assert found["mean"].tolist() == pytest.approx([0.0, -0.3]) and found["n"].tolist() == [2, 2]
    assert found["low"]["lth"] == pytest.approx(-12.7062 * 0.1, rel=1e-4)
