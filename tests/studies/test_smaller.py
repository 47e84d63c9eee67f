import pandas as pd
import pytest

from fairlth.analysis import equal_accuracy, records
from fairlth.config import paths
from fairlth.metrics import Interval
from studies import smaller


def test_the_page_is_what_the_tables_say():
    rows = pd.read_csv(smaller.TABLE)
    duels = pd.read_csv(smaller.DUELS)
    assert smaller.PAGE.read_text() == smaller.page(rows, duels)
    changed = rows.assign(accuracy=rows["accuracy"] + 0.01 * (rows["form"] == "dense"))
    assert smaller.PAGE.read_text() != smaller.page(changed, duels)


def test_every_task_form_and_seed_is_in_the_table_once():
    rows = pd.read_csv(smaller.TABLE)
    forms = rows["form"].nunique()
    assert forms == 1 + 4 * 2 + 1 + 2 * 3  # dense, units, unstructured, int8 of three
    assert len(rows) == len(smaller.TASKS) * 3 * forms
    assert not rows.duplicated(["dataset", "model", "form", "seed"]).any()
    assert rows[rows["seed"] == 0]["latency 32"].notna().all()


def test_forms_are_compared_seed_by_seed_over_all_tasks():
    """Seed 0 gains 2 and 4 points on its two tasks, seed 1 gains 3 and 5: means 3 and 4."""
    gains = {("a", 0): 0.02, ("b", 0): 0.04, ("a", 1): 0.03, ("b", 1): 0.05}
    rows = []
    for (dataset, seed), gain in gains.items():
        at = {"dataset": dataset, "model": "m", "seed": seed, "forgotten": 0.1}
        at |= {"worst_accuracy": 0.5}
        rows.append(at | {"form": "new", "accuracy": 0.5 + gain, "cwv": 0.02})
        rows.append(at | {"form": "old", "accuracy": 0.5, "cwv": 0.04})
    told = smaller.compared(pd.DataFrame(rows), "new", "old")
    assert told["accuracy, points"] == "3.5 (-2.9 to 9.9)"  # 0.5 * 12.706 to each side
    assert told["by task"] == "2.5 to 4.5"
    assert told["CWV, ratio"] == "**0.50 (0.50 to 0.50)**"
    assert told["ratio by task"] == "0.50 to 0.50"
    assert told["worst, points"] == told["forgotten, points"] == "0.0 (0.0 to 0.0)"


def test_an_interval_is_bold_where_it_leaves_out_no_difference_as_printed():
    assert smaller._marked(Interval(0.5, 0.01, 1.0, 3), 0, ".1f") == "0.5 (0.0 to 1.0)"
    assert smaller._marked(Interval(0.5, 0.06, 1.0, 3), 0, ".1f") == "**0.5 (0.1 to 1.0)**"


def test_no_unstructured_ticket_is_as_fast_as_one_of_units():
    """What the page says in words."""
    rows = pd.read_csv(smaller.TABLE).dropna(subset=["latency 1"])
    for _, own in rows.groupby(["dataset", "model"]):
        times = own.set_index("form")[["latency 1", "latency 32"]]
        units = times[times.index.str.startswith("units") & ~times.index.str.contains("int8")]
        unstructured = times[times.index.str.startswith("lth_rate")]
        assert (unstructured.min() > units.max()).all()
        assert unstructured["latency 32"].idxmin().startswith("lth_rate 0.02, compact, int8")


def test_duels_are_those_of_the_methods_that_units_stand_for(monkeypatch):
    monkeypatch.setattr(paths, "TABLES", paths.ROOT / "data" / "results")
    frame = records.load("small")
    frame = frame[frame["dataset"].eq("cifar10") & frame["density"].isin([0.05, 1.0])]
    names = {"ballot": "units_ballot", "lth_long": "units_long", "lth_rate": "units_norm"}
    own = frame[frame["method"].isin([*names, "dense"])]
    monkeypatch.setattr(smaller, "whole_tasks", list)
    monkeypatch.setattr(records, "table", lambda made: own.replace({"method": names}))
    found = smaller.duels().set_index("rival")
    expected = equal_accuracy.duels(equal_accuracy.shifted(own))
    expected = expected[expected["dataset"] == "all"].set_index("rival")
    assert found.loc["units_long", "ratio"] == expected.loc["lth_long", "ratio"]
    assert found.loc["units_norm", "ratio"] == expected.loc["lth_rate", "ratio"]
    assert set(found.index) == {"units_long", "units_norm"}


@pytest.mark.parametrize("form", [form for pair in smaller.PAIRS for form in pair])
def test_what_is_compared_is_in_the_table(form):
    assert form in set(pd.read_csv(smaller.TABLE)["form"])


def test_40_deploy_quotes_the_table():
    rows = pd.read_csv(smaller.TABLE)
    latency = rows.groupby("form")["latency 32"].agg(["min", "max"]).round(2)
    told = smaller.compared(rows, "units_norm 0.25", "dense")["by task"]
    low, high = told.split(" to ")
    int8 = latency.loc["dense, int8"]
    units = latency.loc["units_norm 0.25"]
    notebook = (paths.ROOT / "notebooks" / "40_deploy.ipynb").read_text()
    assert f"took {int8['min']:.2f} to {int8['max']:.2f} of its time" in notebook
    assert f"took {units['min']:.2f} to {units['max']:.2f} of it" in notebook
    assert f"{low.removeprefix('-')} points lower to {high} points higher" in notebook
    int8_pair = smaller.compared(rows, "dense, int8", "dense")
    assert "**" not in int8_pair["accuracy, points"] + int8_pair["CWV, ratio"]
