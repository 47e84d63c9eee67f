import numpy as np
import pandas as pd
import pytest
from test_records import record

from fairlth.analysis import equal_accuracy, records


def points(method, seed, accuracies, cwvs, shifts=(0.0, 0.5)):
    """A curve made by hand, in the columns of `equal_accuracy.shifted`."""
    task = {
        "dataset": "d",
        "target": "t",
        "group_by": "g",
        "model": "m",
        "density": 0.05,
        "pressure": None,
        "cost": 2.0,
        "spent": 2.5,
    }
    rows = zip(shifts, accuracies, cwvs, strict=True)
    return [
        task | {"method": method, "seed": seed, "shift": s, "accuracy": a, "cwv": c}
        for s, a, c in rows
    ]


def test_at_equal_accuracy_by_hand():
    """Half-way between (0.6, 0.01) and (0.5, 0.0001) the control's CWV is 0.001; beyond its ends it is that of the end."""
    frame = pd.DataFrame(
        points("lth", 0, (0.6, 0.5), (0.01, 0.0001)) + points("ballot", 0, (0.55, 0.7), (0.0005, 0.02))
        + points("ballot", 1, (0.55, 0.5), (0.1, 0.1))
    )  # fmt: skip
    found = equal_accuracy.at_equal_accuracy(frame)
    assert found["method"].tolist() == ["lth", "lth", "ballot", "ballot"]  # seed 1 has no control
    assert found["relative"].tolist() == pytest.approx([1, 1, 0.5, 2])


def test_relative_means_are_geometric_with_their_interval():
    frame = pd.DataFrame(
        points("ballot", 0, (0.5,), (1.0,), (0.0,)) + points("ballot", 1, (0.7,), (1.0,), (0.0,))
    )
    [row] = equal_accuracy.relative_summary(frame.assign(relative=[0.25, 1.0])).to_dict("records")
    assert (row["relative"], row["n"], row["cost"], row["accuracy"]) == (
        pytest.approx(0.5),
        2,
        2.0,
        0.6,
    )
    half = (
        12.7062 * np.log(4) / 2
    )  # t of one degree of freedom times the standard error of the two logarithms
    assert np.log([row["relative_low"], row["relative_high"]]) == pytest.approx(
        [np.log(0.5) - half, np.log(0.5) + half], rel=1e-4
    )
    shown = equal_accuracy.readable_relative(pd.DataFrame([row]))
    assert shown["CWV at equal accuracy"].tolist() == ["0.50 (0.00 to 3341.33)"] and shown[
        "accuracy %"
    ].tolist() == [60.0]


CURVE = [row for seed in (0, 1) for row in points("lth", seed, (0.6, 0.5), (0.01, 0.001))]


def ours(*cwvs):
    """Ballot at accuracy 0.6 with a CWV per seed; the shifted point does not count."""
    return [
        row
        for seed, cwv in enumerate(cwvs)
        for row in points("ballot", seed, (0.6, 0.5), (cwv, 1.0))
    ]


def duel(*cwvs, rival="lth"):
    frame = pd.DataFrame(CURVE + ours(*cwvs)).replace({"method": {"lth": rival}})
    return equal_accuracy.duels(frame, [rival])


def test_a_duel_is_won_where_the_interval_is_below_1():
    """Against a CWV of 0.01 at accuracy 0.6: half of it in both seeds, twice, or once less and once more."""
    half, twice, mixed = duel(0.005, 0.0049), duel(0.02, 0.0201), duel(0.005, 0.02)
    assert half["dataset"].tolist() == ["all", "d"] and half["settings"].tolist() == [1, 1]
    assert half["ratio"].tolist() == pytest.approx([np.sqrt(0.5 * 0.49)] * 2) and half[
        "n"
    ].tolist() == [2, 2]
    assert [rows["verdict"].tolist() for rows in (half, twice, mixed)] == [
        ["better"] * 2,
        ["worse"] * 2,
        ["open"] * 2,
    ]
    assert mixed["ratio"].tolist() == pytest.approx([1, 1])
    assert half[["spent", "rival_spent"]].to_numpy().tolist() == [[2.5, 2.5]] * 2
    shown = equal_accuracy.readable_duels(half)
    assert shown["CWV divided by the rival's"][0] == "0.49 (0.44 to 0.56)"
    assert shown[["rival", "task", "density", "spent", "rival spent"]].to_numpy().tolist() == [
        ["lth", "all", "all", 2.5, 2.5],
        ["lth", "d t by g, m", "0.05", 2.5, 2.5],
    ]


def test_over_all_only_seeds_with_every_task_and_density_count():
    sparse = pd.DataFrame(CURVE + ours(0.005, 0.005)).assign(density=0.02)
    frame = pd.concat([pd.DataFrame(CURVE + ours(0.02, 0.02)), sparse[sparse["seed"] == 0]])
    overall = equal_accuracy.duels(frame, ["lth"]).iloc[0]
    assert (overall["dataset"], overall["settings"], overall["n"]) == ("all", 2, 1)
    assert (
        overall["ratio"] == pytest.approx(1) and overall["verdict"] == "open"
    )  # twice and half; no interval of one seed


def test_a_cwv_of_0_leaves_no_ratio_and_is_counted():
    """At equal accuracy Ballot's is 0 in one seed; in another frame the rival's is."""
    one = duel(0.0, 0.005)
    assert (
        one["n"].tolist() == [1, 1]
        and one["zeros"].tolist() == [1, 1]
        and one["ratio"][1] == pytest.approx(0.5)
    )
    curve = points("lth", 0, (0.6, 0.5, 0.4), (0.01, 0.001, 0.0), (0, 0.5, 1))
    for accuracy, relative in ((0.55, 0.01 / np.sqrt(1e-5)), (0.45, np.nan), (0.4, np.nan)):
        frame = pd.DataFrame(curve + points("ballot", 0, (accuracy,), (0.01,), (0,)))
        found = (
            equal_accuracy.at_equal_accuracy(frame).query("method == 'ballot'")["relative"].tolist()
        )
        assert found == pytest.approx([relative], nan_ok=True)
    lost = equal_accuracy.duels(frame, ["lth"])
    assert (
        lost["n"].tolist() == [0, 0]
        and lost["verdict"].tolist() == ["open"] * 2
        and lost["ratio"].isna().all()
    )
    assert (
        equal_accuracy.remarks(lost, ["lth"])
        == "1 pairs without a ratio, since a CWV is exactly 0, are left out."
    )


def test_of_two_points_with_one_accuracy_the_fairer_counts():
    curve = points("lth", 0, (0.6, 0.6), (0.01, 0.002))
    for rows in (curve, curve[::-1]):
        frame = pd.DataFrame(rows + points("ballot", 0, (0.6,), (0.001,), (0,)))
        assert equal_accuracy.at_equal_accuracy(frame)["relative"].iloc[-1] == pytest.approx(0.5)


def test_the_even_fight_is_told_by_rule_and_with_a_recipe_where_it_is_not_won():
    said = {
        rows: equal_accuracy.even_fight(duel(*rows, rival="lth_long"))
        for rows in ((0.005, 0.0049), (0.005, 0.02), (0.02, 0.0201))
    }
    won, open_, lost = said.values()
    assert won == (
        "Ballot is fairer at equal accuracy and epochs: its CWV is 0.49 (0.44 to 0.56) times that of lth_long "
        "(settings: 1, seeds: 2, dense trainings spent: 2.50 by Ballot, 2.50 by lth_long)."
    )
    assert open_.startswith(
        "Ballot is not shown to be fairer at equal accuracy and epochs: its CWV is 1.00 ("
    )
    assert lost.startswith("Ballot is less fair at equal accuracy and epochs: ")
    assert open_.endswith(equal_accuracy.RECIPE) and lost.endswith(equal_accuracy.RECIPE)
    older = duel(0.005, 0.0049, rival="lth_long").assign(rival_spent=np.nan)
    assert equal_accuracy.even_fight(older).endswith("(settings: 1, seeds: 2).")
    absent = equal_accuracy.even_fight(duel(0.005, 0.0049))
    assert absent.startswith(
        "At equal accuracy and epochs: not run, the table does not pair Ballot with lth_long. What to do today:"
    )


def test_what_a_table_lacks_is_told_in_sentences():
    rows = duel(0.005, 0.0049)
    assert equal_accuracy.remarks(rows, ["lth"]) == ""
    older = rows.assign(spent=np.nan, rival_spent=np.nan)
    assert equal_accuracy.remarks(older, ["lth", "lth_long", "fairgrape"]) == (
        "The table does not pair Ballot with lth_long, fairgrape. "
        "The table has no column `spent`, so what both took cannot be compared."
    )
    assert "spent" not in equal_accuracy.readable_duels(older)
    assert equal_accuracy.RIVALS[:3] == ("lth_long", "lth_rate", "lth")


def test_heat_cells_are_the_papers_rivals_and_the_even_fight():
    frame = pd.concat([duels_frame("m"), duels_frame("n")])
    runs = frame[frame["shift"] == 0]
    cells = equal_accuracy.heat_cells(runs, frame)
    assert list(cells) == ["task", "model", "rival", "value", "low", "high", "n"]
    assert cells[["task", "model", "rival", "n"]].to_numpy().tolist() == [
        ["d t by g", model, rival, 2] for model in ("m", "n") for rival in ("lth", "lth_long")
    ]
    lower_by, times = 0.5, 0.2
    assert cells["value"].tolist() == pytest.approx([lower_by, times] * 2)


def duels_frame(model):
    """Ballot at 0.005; lth at 0.01 and at other accuracy; lth_long's curve at 0.025 where Ballot is as accurate."""
    found = ours(0.005, 0.005)
    for seed in (0, 1):
        found += points("lth", seed, (0.9, 0.8), (0.01, 0.01))
        found += points("lth_long", seed, (0.6, 0.5), (0.025, 0.001))
    return pd.DataFrame(found).assign(model=model)


def test_a_shifted_split_is_a_point_of_its_own():
    one = record()
    one.counts["test+0.5"] = {"correct": [[7, 0], [0, 7]], "total": [[10, 0], [0, 10]]}
    found = equal_accuracy.shifted(records.table([one]))
    assert found[["shift", "cwv"]].to_numpy().tolist() == [[0.0, pytest.approx(0.01)], [0.5, 0.0]]
