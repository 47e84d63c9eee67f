import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from fairlth import config, results


def record(method="lth", seed=0, correct=((8, 0), (0, 6)), total=((10, 0), (0, 10)), group_by="class", density=0.05):
    """A record made by hand: two classes that are their own groups."""
    run = {"dataset": "digits", "model": "mlp", "method": method, "density": density, "seed": seed, "preset": "smoke"}
    counts = {"correct": [list(row) for row in correct], "total": [list(row) for row in total]}
    return results.Record(
        run=run | {"pressure": None, "target": None, "group_by": None},
        target="label",
        group_by=group_by,
        classes=["a", "b"],
        groups=["a", "b"],
        counts={"val": counts, "test": counts},
        layers=[{"layer": "w", "kept": 5, "total": 100}],
        cost=1.0,
        feasible=None,
        trace=[],
        notes={},
        settings={},
        conditions={
            "version": "0",
            "commit": "x",
            "code": "y",
            "torch": "2",
            "device": "cpu",
            "seconds": 1.5,
            "shared_seconds": 0.0,
            "memory": 300.0,
        },
    )


def test_a_record_survives_writing_and_reading(tmp_path):
    path = tmp_path / "record.json"
    results.write(record(), path)
    assert results.read(path) == record()
    assert (record().kept, record().total) == (5, 100)
    assert results.read(path).split("test").correct.tolist() == [[8, 0], [0, 6]]


@pytest.mark.parametrize("content", ["", "{", '{"run": {}}', "[]"])
def test_a_damaged_record_is_one_sentence(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(ValueError, match="record.json is not a whole record"):
        results.read(tmp_path / "record.json")


def test_class_wise_rows_are_the_cells_that_exist():
    rows = results.rows(record())
    assert [(row["split"], row["class"], row["group"], row["correct"], row["total"]) for row in rows] == [
        ("val", "a", "a", 8, 10), ("val", "b", "b", 6, 10), ("test", "a", "a", 8, 10), ("test", "b", "b", 6, 10)
    ]  # fmt: skip
    assert set(rows[0]) == set(results.COLUMNS)


def test_group_rows_are_all_cells_and_metrics_are_over_groups():
    found = record(correct=((8, 4), (2, 6)), total=((10, 5), (10, 10)), group_by="race")
    table = results.table([found])
    assert len(table) == 2 * 4
    run = results.per_run(table).iloc[0]
    assert run["accuracy"] == 20 / 35
    assert run["mcd"] == pytest.approx(10 / 15 - 10 / 20)


def test_per_run_by_hand():
    run = results.per_run(results.table([record()])).iloc[0]
    assert run["cwv"] == pytest.approx(0.01) and run["mcd"] == pytest.approx(0.2) and run["images"] == 20
    assert run["cwv_floor"] == pytest.approx(1 / 4 * 0.7 * 0.3 * (1 / 10 + 1 / 10))


def test_a_table_survives_a_csv_file_and_its_order_is_that_of_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "TABLES", tmp_path)
    one, other = record(seed=0), record(seed=1, correct=((9, 0), (0, 9)))
    results.save_table(results.table([one, other]), "smoke")
    first = (tmp_path / "smoke.csv").read_bytes()
    results.save_table(results.table([other, one]), "smoke")
    assert (tmp_path / "smoke.csv").read_bytes() == first
    read, made = (
        results.per_run(frame).drop(columns="feasible") for frame in (results.load("smoke"), results.table([one, other]))
    )
    pd.testing.assert_frame_equal(read, made, check_dtype=False)


def test_a_table_that_is_not_there_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "TABLES", tmp_path)
    with pytest.raises(ValueError, match="small.csv is not there: run `make reproduce PRESET=small`"):
        results.load("small")


def ballot_against(*pairs):
    """Runs of Ballot and of the plain ticket with the given accuracies of the second class, by seed."""
    found = []
    for seed, (ours, theirs) in enumerate(pairs):
        for method, rate in (("ballot", ours), ("lth", theirs)):
            found.append(record(method, seed, correct=((80, 0), (0, rate)), total=((100, 0), (0, 100))))
    return results.per_run(results.table(found))


def test_improvements_are_paired_by_seed_and_by_hand():
    gains = results.improvements(ballot_against((70, 60), (60, 40)))  # CWV 25/100, 100/400 of the rival's
    assert gains["dataset"].tolist() == ["digits", "all"]
    assert gains["mean"].tolist() == pytest.approx([0.75, 0.75]) and gains["n"].tolist() == [2, 2]


def test_the_overall_improvement_averages_a_seed_before_it_counts():
    found = [
        record(method, seed, correct=((80, 0), (0, rate)), total=((100, 0), (0, 100)), density=density)
        for density, rates in ((0.05, (70, 60)), (0.02, (60, 60)))  # CWV 75 % lower, then equal
        for method, rate in zip(("ballot", "lth"), rates, strict=True)
        for seed in (0, 1)
    ]
    overall = results.improvements(results.per_run(results.table(found))).query("dataset == 'all'").iloc[0]
    assert overall["n"] == 2
    assert (overall["mean"], overall["low"], overall["high"]) == pytest.approx((0.375, 0.375, 0.375))


def test_a_seed_that_lacks_a_density_does_not_count_overall():
    found = [
        record(method, seed, correct=((80, 0), (0, rate)), total=((100, 0), (0, 100)), density=density)
        for density, seeds in ((0.05, (0, 1, 2)), (0.02, (0, 1)))
        for method, rate in (("ballot", 70), ("lth", 60))
        for seed in seeds
    ]
    gains = results.improvements(results.per_run(results.table(found)))
    assert gains[["dataset", "n"]].to_numpy().tolist() == [["digits", 2], ["digits", 3], ["all", 2]]


def test_the_probability_of_improvement_counts_pairs_and_whole_seeds():
    """Five seeds of CWVs by hand: Ballot is fairer in the first three pairs, level in the fourth, less fair in the fifth."""
    [row] = results.probability(ballot_against((70, 60), (75, 60), (80, 60), (60, 60), (50, 60))).to_dict("records")
    assert (row["rival"], row["won"], row["pairs"], row["mean"], row["n"]) == ("lth", 3, 5, 0.6, 5)
    assert (row["low"], row["high"]) == pytest.approx((0.2307, 0.8824), abs=1e-4)  # Wilson for 3 of 5


def test_a_seed_is_won_by_its_mean_gain_over_tasks():
    found = [
        record(method, seed, correct=((80, 0), (0, rate)), total=((100, 0), (0, 100)), density=density)
        for density, ours in ((0.05, (70, 70)), (0.02, (55, 40)))  # gains of 3/4 in both; then of -9/16 and -3
        for seed, rate in enumerate(ours)
        for method, rate in (("ballot", rate), ("lth", 60))
    ]
    [row] = results.probability(results.per_run(results.table(found))).to_dict("records")
    assert (row["won"], row["pairs"], row["mean"], row["n"]) == (2, 4, 0.5, 2)


@pytest.mark.parametrize("name", ["None", "NA", "0"])
def test_a_group_of_any_name_survives_a_csv_file(tmp_path, monkeypatch, name):
    monkeypatch.setattr(config, "TABLES", tmp_path)
    results.save_table(results.table([dataclasses.replace(record(), groups=[name, "b"], classes=[name, "b"])]), "smoke")
    assert set(results.load("smoke")["group"]) == {name, "b"}


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
    claims = results.claims(ballot_against(*pairs)).set_index("claim")
    assert claims["verdict"]["CWV lower than lth"] == verdict
    assert claims["verdict"]["CWV lower than safecompress"] == "not run"
    assert claims["verdict"]["CWV lower than lth_bias (control)"] == "not run"
    assert "38.0%" in results.claims_text(claims.reset_index(), "smoke")


@pytest.mark.parametrize(("pairs", "verdict"), [(((61, 60), (61, 60)), "better"), (((59, 60), (61, 60)), "not better")])
def test_the_control_is_a_row_without_a_number_of_the_papers(pairs, verdict):
    runs = ballot_against(*pairs).replace({"method": {"lth": "lth_bias"}})
    control = results.claims(runs).set_index("claim").loc["CWV lower than lth_bias (control)"]
    assert control["verdict"] == verdict and np.isnan(control["paper"]) and control["n"] == 2


def test_summaries_have_their_interval_and_n():
    summary = results.summary(ballot_against((70, 60), (60, 40)))
    ours = summary[summary["method"] == "ballot"].iloc[0]
    assert ours["n"] == 2 and ours["cwv"] == pytest.approx((0.0025 + 0.01) / 2)
    assert ours["cwv_low"] < ours["cwv"] < ours["cwv_high"]
    shown = results.readable(summary)
    assert shown["accuracy %"].iloc[0].startswith("72.5 ± ")


def test_gains_are_printed_in_percent_with_their_interval():
    shown = results.readable_gains(results.improvements(ballot_against((61, 60), (61, 60))))
    assert shown.iloc[0].to_dict() == {
        "rival": "lth", "task": "digits by class, mlp", "density": "0.05", "CWV lower by": "10%", "95 % interval": "10% to 10%", "n": 2
    }  # fmt: skip
    assert shown["task"].tolist() == ["digits by class, mlp", "all"] and shown["density"].tolist() == ["0.05", "all"]


def points(method, seed, accuracies, cwvs, shifts=(0.0, 0.5)):
    """A curve made by hand, in the columns of `results.shifted`."""
    task = {"dataset": "d", "target": "t", "group_by": "g", "model": "m", "density": 0.05, "pressure": None, "cost": 2.0}
    rows = zip(shifts, accuracies, cwvs, strict=True)
    return [task | {"method": method, "seed": seed, "shift": s, "accuracy": a, "cwv": c} for s, a, c in rows]


def test_at_equal_accuracy_by_hand():
    """Half-way between (0.6, 0.01) and (0.5, 0.0001) the control's CWV is 0.001; beyond its ends it is that of the end."""
    frame = pd.DataFrame(
        points("lth", 0, (0.6, 0.5), (0.01, 0.0001)) + points("ballot", 0, (0.55, 0.7), (0.0005, 0.02))
        + points("ballot", 1, (0.55, 0.5), (0.1, 0.1))
    )  # fmt: skip
    found = results.at_equal_accuracy(frame)
    assert found["method"].tolist() == ["lth", "lth", "ballot", "ballot"]  # seed 1 has no control
    assert found["relative"].tolist() == pytest.approx([1, 1, 0.5, 2])


def test_relative_means_are_geometric_with_their_interval():
    frame = pd.DataFrame(points("ballot", 0, (0.5,), (1.0,), (0.0,)) + points("ballot", 1, (0.7,), (1.0,), (0.0,)))
    [row] = results.relative_summary(frame.assign(relative=[0.25, 1.0])).to_dict("records")
    assert (row["relative"], row["n"], row["cost"], row["accuracy"]) == (pytest.approx(0.5), 2, 2.0, 0.6)
    half = 12.7062 * np.log(4) / 2  # t of one degree of freedom times the standard error of the two logarithms
    assert np.log([row["relative_low"], row["relative_high"]]) == pytest.approx(
        [np.log(0.5) - half, np.log(0.5) + half], rel=1e-4
    )
    shown = results.readable_relative(pd.DataFrame([row]))
    assert shown["CWV at equal accuracy"].tolist() == [0.5] and shown["accuracy %"].tolist() == [60.0]


def test_a_duel_is_won_where_the_interval_is_above_0():
    """Against a curve at CWV 0.01, 0.001 at accuracies 0.6, 0.5: ours has half of it in both seeds, or once less, once more."""
    curve = [row for seed in (0, 1) for row in points("lth", seed, (0.6, 0.5), (0.01, 0.001))]
    half = [row for seed, cwv in ((0, 0.005), (1, 0.0049)) for row in points("ballot", seed, (0.6, 0.5), (cwv, 1.0))]
    mixed = [row for seed, cwv in ((0, 0.005), (1, 0.02)) for row in points("ballot", seed, (0.6, 0.5), (cwv, 1.0))]
    [won], [open_] = (results.duels(pd.DataFrame(curve + ours), ["lth"]).to_dict("records") for ours in (half, mixed))
    assert (won["mean"], won["n"], won["verdict"]) == (pytest.approx(1 - np.sqrt(0.5 * 0.49)), 2, "better")
    assert (open_["mean"], open_["verdict"]) == (pytest.approx(0), "open")
    assert results.readable_duels(pd.DataFrame([won]))["CWV at equal accuracy lower by"].tolist() == ["51%"]


def test_the_headline_counts_verdicts():
    claims = pd.DataFrame({"claim": ["CWV lower than a", "CWV lower than b", "CWV lower than c (control)"],
                           "verdict": ["reproduced", "not reproduced", "better"]})  # fmt: skip
    duels = pd.DataFrame({"rival": ["lth", "lth", "lth_rate"], "verdict": ["better", "open", "worse"]})
    assert results.headline(claims, duels).splitlines() == [
        "Claims of the paper: 1 reproduced, 1 not reproduced.",
        "At equal accuracy against lth: better in 1 of 2 settings, open in 1, worse in 0.",
        "At equal accuracy against lth_rate: better in 0 of 1 settings, open in 0, worse in 1.",
    ]


def test_the_price_is_paired_by_seed_and_by_hand():
    rows = [("ballot", 0, 0.5), ("ballot", 1, 0.7), ("lth", 0, 0.6), ("lth", 1, 0.6), ("dense", 0, 0.9), ("dense", 1, 0.9)]
    task = {"dataset": "d", "target": "t", "group_by": "g", "model": "m", "pressure": None}
    runs = [
        task | {"method": method, "seed": seed, "accuracy": accuracy, "density": 1.0 if method == "dense" else 0.05}
        for method, seed, accuracy in rows
    ]
    found = results.price(pd.DataFrame(runs)).set_index("against")
    assert found["mean"].tolist() == pytest.approx([0.0, -0.3]) and found["n"].tolist() == [2, 2]
    assert found["low"]["lth"] == pytest.approx(-12.7062 * 0.1, rel=1e-4)


def test_costs_are_medians_with_what_was_shared():
    rows = [("dense", 1.0, 10.0, 0.0, 300.0), ("lth", 3.0, 20.0, 10.0, 400.0), ("lth", 3.0, 36.0, 0.0, 500.0)]
    runs = pd.DataFrame(rows, columns=["method", "cost", "seconds", "shared_seconds", "memory"])
    assert results.costs(runs).loc["lth"].tolist() == [3.0, 33.0, 450.0, 1.1]


def test_a_shifted_split_is_a_point_of_its_own():
    one = record()
    one.counts["test+0.5"] = {"correct": [[7, 0], [0, 7]], "total": [[10, 0], [0, 10]]}
    found = results.shifted(results.table([one]))
    assert found[["shift", "cwv"]].to_numpy().tolist() == [[0.0, pytest.approx(0.01)], [0.5, 0.0]]


def test_peak_memory_is_above_what_is_held():
    held = np.ones(25_000_000)  # 191 MiB
    before = results.peak_memory(torch.device("cpu"))
    assert before > held.nbytes / 2**20
    del held
    assert results.peak_memory(torch.device("cpu")) > 0.9 * before  # a peak does not fall, but for the kernel's rounding
