import pandas as pd
import pytest

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
    assert told["CWV, ratio"] == "**0.50 (0.50 to 0.50)**"
    assert told["worst, points"] == told["forgotten, points"] == "0.0 (0.0 to 0.0)"


@pytest.mark.parametrize("form", [form for pair in smaller.PAIRS for form in pair])
def test_what_is_compared_is_in_the_table(form):
    assert form in set(pd.read_csv(smaller.TABLE)["form"])
