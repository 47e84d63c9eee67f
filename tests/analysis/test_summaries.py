import pandas as pd
import pytest
from test_records import record

from fairlth.analysis import records, summaries


def test_group_rows_are_all_cells_and_metrics_are_over_groups():
    found = record(correct=((8, 4), (2, 6)), total=((10, 5), (10, 10)), group_by="race")
    table = records.table([found])
    assert len(table) == 2 * 4
    run = summaries.per_run(table).iloc[0]
    assert run["accuracy"] == 20 / 35
    assert run["mcd"] == pytest.approx(10 / 15 - 10 / 20)


def test_per_run_by_hand():
    run = summaries.per_run(records.table([record()])).iloc[0]
    assert (
        run["cwv"] == pytest.approx(0.01)
        and run["mcd"] == pytest.approx(0.2)
        and run["images"] == 20
    )
    assert run["cwv_floor"] == pytest.approx(1 / 4 * 0.7 * 0.3 * (1 / 10 + 1 / 10))


def ballot_against(*pairs):
    """Runs of Ballot and of the plain ticket with the given accuracies of the second class, by seed."""
    found = []
    for seed, (ours, theirs) in enumerate(pairs):
        for method, rate in (("ballot", ours), ("lth", theirs)):
            found.append(
                record(method, seed, correct=((80, 0), (0, rate)), total=((100, 0), (0, 100)))
            )
    return summaries.per_run(records.table(found))


def test_summaries_have_their_interval_and_n():
    summary = summaries.summary(ballot_against((70, 60), (60, 40)))
    ours = summary[summary["method"] == "ballot"].iloc[0]
    assert ours["n"] == 2 and ours["cwv"] == pytest.approx((0.0025 + 0.01) / 2)
    assert ours["cwv_low"] < ours["cwv"] < ours["cwv_high"]
    shown = summaries.readable(summary)
    assert shown["accuracy %"].iloc[0].startswith("72.5 ± ")


def test_costs_are_medians_with_what_was_shared():
    rows = [
        ("dense", 1.0, 1.0, 10.0, 0.0, 300.0),
        ("lth", 3.0, 4.0, 20.0, 10.0, 400.0),
        ("lth", 3.0, 4.0, 36.0, 0.0, 500.0),
    ]
    runs = pd.DataFrame(
        rows, columns=["method", "cost", "spent", "seconds", "shared_seconds", "memory"]
    )
    whole = summaries.costs(runs).set_index("method").loc["lth"]
    assert whole.to_dict() == {
        "cost": 3.0,
        "spent": 4.0,
        "seconds": 33.0,
        "peak MiB": 450.0,
        "overhead": 0.82,
    }
    older = summaries.costs(runs.assign(spent=float("nan"))).set_index("method").loc["lth"]
    assert older.to_dict() == {"cost": 3.0, "seconds": 33.0, "peak MiB": 450.0, "overhead": 1.1}


def test_spent_is_told_where_the_table_has_it():
    table = records.table([record(seed=seed) for seed in (0, 1)])
    older = summaries.per_run(table.drop(columns="spent", errors="ignore"))
    assert older["spent"].isna().all()
    assert "spent" not in summaries.readable(summaries.summary(older))
    newer = summaries.summary(summaries.per_run(table.assign(spent=3.456)))
    assert newer["spent"].tolist() == [pytest.approx(3.456)]
    assert summaries.readable(newer)["spent"].tolist() == [3.46]


def test_a_split_that_a_table_lacks_has_no_runs():
    assert summaries.per_run(records.table([record()]), "test+0.5").empty


def test_the_noise_floor_does_not_depend_on_the_order_of_groups():
    table = records.table([record(correct=((80, 0), (0, 6)), total=((100, 0), (0, 10)))])
    first, second = (
        summaries.per_run(rows)["mcd_floor"].tolist() for rows in (table, table.iloc[::-1])
    )
    assert first == second
