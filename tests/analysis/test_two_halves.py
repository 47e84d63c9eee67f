import numpy as np
import pandas as pd
import pytest

from fairlth import metrics
from fairlth.analysis import two_halves


def four_tickets(*seeds, density=0.05):
    """Runs of the 2 x 2 with the given logarithms of the CWV: plain, selection alone, training alone, both; a tuple a seed."""
    task = {
        "dataset": "digits",
        "target": "label",
        "group_by": "class",
        "model": "mlp",
        "density": density,
        "pressure": None,
    }
    methods = ("lth_rate", "ballot_select", "ballot_refine", "ballot")
    return pd.DataFrame(
        task | {"method": method, "seed": seed, "cwv": np.exp(log)}
        for seed, logs in enumerate(seeds)
        for method, log in zip(methods, logs, strict=True)
    )


def test_the_effects_of_a_2_x_2_are_those_worked_by_hand():
    rows = two_halves.factorial(four_tickets((0, -1, -2, -3), (0, 1, -4, -5)))
    one = rows[rows["dataset"] == "digits"].set_index("effect")
    means = {
        "selection": -0.5,
        "training": -3.5,
        "interaction": -0.5,
        "both": -4.0,
    }  # of (-1, 0), (-2, -5), (0, -1), (-3, -5)
    assert one["mean"].to_dict() == pytest.approx(means) and (one["n"] == 2).all()
    assert one["high"]["training"] == pytest.approx(
        -3.5 + 12.7062 * 1.5, abs=1e-4
    )  # Student's t of one degree of freedom
    assert one.loc["both", ["low", "high"]].to_list() == pytest.approx(
        [-4 - 12.7062, -4 + 12.7062], abs=1e-4
    )
    assert one["share"].isna().all()  # both may be nothing at all


def test_shares_have_fiellers_interval():
    rows = two_halves.factorial(four_tickets((0, -1, -2, -3), (0, 0, -3, -3))).set_index(
        ["dataset", "effect"]
    )
    selection, training = rows.loc[("digits", "selection")], rows.loc[("digits", "training")]
    assert (selection["share"], training["share"]) == pytest.approx((1 / 6, 5 / 6))
    assert selection["share_high"] - 1 / 6 == pytest.approx(
        12.7062 * 0.5 / 3, abs=1e-4
    )  # the whole is -3 in both seeds
    assert training["share_low"] == pytest.approx(1 - selection["share_high"])
    assert rows.loc[
        ("digits", "both"), ["share", "share_low", "share_high"]
    ].to_list() == pytest.approx([1, 1, 1])
    low, high = two_halves.part_of([1, 1, 4], [10, 12, 11])[1:3]
    for share in (low, high):  # at its ends the interval of part - share * whole touches 0
        rest = metrics.mean_interval(np.array([1, 1, 4]) - share * np.array([10, 12, 11]))
        assert min(abs(rest.low), abs(rest.high)) == pytest.approx(0, abs=1e-9)


def test_over_all_a_seed_is_averaged_over_its_settings_and_has_to_have_them_all():
    dense, sparse = (
        four_tickets((0, 0, -1, -1), (0, 0, -2, -2)),
        four_tickets((0, 0, -3, -3), density=0.02),
    )
    rows = two_halves.factorial(pd.concat([dense, sparse]))
    overall = rows[(rows["dataset"] == "all") & (rows["effect"] == "training")].iloc[0]
    assert (overall["mean"], overall["n"]) == (-2.0, 1)
    assert (
        list(rows["effect"])[:4] == ["selection", "training", "interaction", "both"]
        and len(rows) == 3 * 4
    )


def test_a_seed_that_lacks_another_setting_is_not_whole_either():
    both = pd.concat(
        [four_tickets(*[(0, 0, -1, -1)] * 3), four_tickets(*[(0, 0, -3, -3)] * 3, density=0.02)]
    )
    lacks = (both["density"].eq(0.05) & both["seed"].eq(0)) | (
        both["density"].eq(0.02) & both["seed"].eq(1)
    )
    rows = two_halves.factorial(both[~lacks])
    overall = rows[(rows["dataset"] == "all") & (rows["effect"] == "training")].iloc[0]
    assert (overall["mean"], overall["n"]) == (-2.0, 1)
    assert two_halves.halves(both[~lacks])["settings"].tolist() == [2, 2]


def test_a_cwv_of_exactly_0_leaves_its_seed_out_and_is_no_missing_run():
    runs = four_tickets((0, 0, -1, -1), (0, 0, -3, -3))
    runs.loc[(runs["method"] == "ballot") & (runs["seed"] == 1), "cwv"] = 0.0
    rows = two_halves.factorial(runs)
    training = rows[rows["effect"] == "training"]
    assert training["n"].tolist() == [1, 1] and training["mean"].tolist() == [-1.0, -1.0]
    runs.loc[runs["method"] == "ballot", "cwv"] = 0.0
    halves = two_halves.halves(runs)
    assert halves["n"].tolist() == [0, 0] and set(halves["verdict"]) == {"not shown"}


def test_main_effects_are_told_by_rule():
    rows = two_halves.factorial(four_tickets((0, 0.01, -1, -1), (0, -0.01, -1, -1.01)))
    selection, training = two_halves.in_words(rows).splitlines()
    assert selection.startswith("selection is not shown to change the CWV: 0.00 (-0.")
    assert training.startswith("training lowers the CWV: -1.00 (-1.") and training.endswith(
        ") of the whole"
    )
    worse = two_halves.in_words(two_halves.factorial(four_tickets((0, 0, 1, 1), (0, 0, 1, 1))))
    assert worse.splitlines()[1].startswith("training raises the CWV: +1.00 (+1.00 to +1.00)")


@pytest.mark.parametrize(
    "lacking",
    [
        "method == 'ballot_refine'",
        "method in ['lth_rate', 'ballot_select', 'ballot_refine', 'ballot']",
        "method == 'ballot' and seed == 0 or method == 'ballot_refine' and seed == 1",  # none shared
    ],
)
def test_a_2_x_2_that_no_seed_has_whole_has_no_rows_and_says_why(lacking):
    runs = four_tickets((0, 0, -1, -1), (0, 0, -1, -1))
    whole = two_halves.factorial(runs)
    runs = runs.drop(runs.query(lacking).index)
    rows = two_halves.factorial(runs)
    assert rows.empty and list(rows) == list(whole)
    assert two_halves.readable_factorial(rows).empty
    assert two_halves.in_words(rows) == (
        "Selection and training cannot be compared: no seed has runs of all of "
        "lth_rate, ballot_select, ballot_refine, ballot."
    )
    assert two_halves.halves(runs)["verdict"].tolist() == ["not run"] * 2


def test_effects_are_printed_with_their_intervals():
    shown = two_halves.readable_factorial(
        two_halves.factorial(four_tickets((0, 0, -1, -1), (0, 0, -1, -1)))
    )
    assert shown.iloc[1].to_list() == [
        *(
            "digits by class, mlp",
            "0.05",
            "training",
            "-1.00 (-1.00 to -1.00)",
            "0.37 (0.37 to 0.37)",
        ),
        *("100% (100% to 100%)", 2),
    ]
    alone = two_halves.readable_factorial(two_halves.factorial(four_tickets((0, 0, -1, -1))))
    assert alone["share of both"].eq("–").all()


def test_a_half_is_shown_where_its_interval_is_above_0():
    rows = two_halves.halves(four_tickets((0, 0.1, -1, -0.9), (0, -0.1, -1, -1.1)))
    selection, training = rows.to_dict("records")
    assert (
        training["ours"] == pytest.approx(1 - np.exp(-1))
        and training["verdict"] == "shown"
        and training["n"] == 2
    )
    assert selection["ours"] == pytest.approx(0) and selection["verdict"] == "not shown"
    assert two_halves.verdict(rows).endswith("partly, shown for refined training alone.")
    assert two_halves.verdict(
        two_halves.halves(four_tickets((0, -1, -1, -2), (0, -1, -1, -2)))
    ).endswith("training: reproduced.")
    assert two_halves.verdict(two_halves.halves(four_tickets((0, 1, 1, 2), (0, 1, 1, 2)))).endswith(
        "neither was shown."
    )


def test_halves_without_their_runs_are_not_run():
    rows = two_halves.halves(four_tickets((0, 0, -1, -1)).query("method != 'ballot_select'"))
    assert rows["verdict"].tolist() == ["not run"] * 2 and two_halves.verdict(rows).endswith(
        "training: not run."
    )
