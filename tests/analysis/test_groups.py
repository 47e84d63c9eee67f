import pandas as pd
import pytest
from test_records import record

from fairlth import metrics
from fairlth.analysis import groups, records


def groups_table():
    """A binary task by race, two seeds: the dense net right in 80 % of each group, a ticket worse in one group only."""
    total, whole = ((10, 20), (10, 20)), ((8, 16), (8, 16))
    made = [record("dense", seed, whole, total, "race", density=1.0) for seed in (0, 1)]
    made += [
        record("lth", seed, ((right, 16), (8, 16)), total, "race")
        for seed, right in ((0, 6), (1, 4))
    ]
    return records.table(made)


def test_groups_are_compared_with_the_dense_net_of_their_seed():
    rows = groups.by_group(groups_table())
    assert rows[["method", "group", "images", "n"]].to_numpy().tolist() == [
        ["dense", "a", 20, 2], ["dense", "b", 40, 2], ["lth", "a", 20, 2], ["lth", "b", 40, 2]
    ]  # fmt: skip
    assert rows["accuracy"].tolist() == pytest.approx([0.8, 0.8, 0.65, 0.8])
    assert rows["gained"].tolist() == pytest.approx([0, 0, -0.15, 0])
    ends = metrics.mean_interval([-0.1, -0.2])
    assert (rows["gained_low"][2], rows["gained_high"][2]) == pytest.approx((ends.low, ends.high))
    alone = groups_table()
    assert groups.by_group(alone[alone["method"] == "lth"])["gained"].isna().all()


def test_the_smallest_group_is_told_in_points():
    [row] = groups.readable_smallest(groups.by_group(groups_table())).to_dict("records")
    assert (row["dataset"], row["smallest group"], row["images"], row["method"]) == (
        "digits",
        "a",
        20,
        "lth",
    )
    assert row["points gained on the dense net"] == "-15.0 (-78.5 to +48.5)" and row["n"] == 2


def test_gaps_of_a_binary_task_by_hand():
    found = groups.gaps(groups_table())
    first = found[(found["method"] == "lth") & (found["seed"] == 0)].iloc[0]
    assert first["equal_opportunity"] == pytest.approx(0)  # 8 of 10 and 16 of 20
    assert first["equalized_odds"] == pytest.approx(4 / 10 - 4 / 20)
    assert first["demographic_parity"] == pytest.approx((8 + 4) / 20 - (16 + 4) / 40)
    assert first["equal_opportunity_floor"] == metrics.mcd_floor([8, 16], [10, 20])
    assert first["demographic_parity_floor"] == metrics.mcd_floor([12, 20], [20, 40])
    assert first["equalized_odds_floor"] > max(
        metrics.mcd_floor([8, 16], [10, 20]), metrics.mcd_floor([6, 16], [10, 20])
    )
    row = groups.gap_summary(found).iloc[1]
    assert row["equalized_odds"] == pytest.approx((0.2 + 0.4) / 2) and row["n"] == 2
    shown = groups.readable_gaps(groups.gap_summary(found))
    assert (
        shown["equalised odds"][1] == "30.0 ± 127.1" and shown["chance opportunity"].dtype == float
    )


def test_tasks_by_class_and_of_more_classes_have_no_gaps():
    assert groups.gaps(records.table([record()])).empty
    more = groups_table()
    assert groups.gaps(pd.concat([more, more.assign(**{"class": "c"})])).empty
    assert groups.readable_gaps(groups.gap_summary(groups.gaps(records.table([record()])))).empty


def test_groups_of_one_seed_have_wilson_intervals():
    shown = groups.readable_groups(groups_table(), seed=1)
    ends = metrics.share_interval(12, 20)
    assert shown[["task", "density", "group", "images"]].to_numpy().tolist() == [
        ["digits by race, mlp", 0.05, "a", 20], ["digits by race, mlp", 0.05, "b", 40]
    ]  # fmt: skip
    assert (
        shown["lth"][0]
        == f"60.0 ({100 * ends.low:.1f} to {100 * ends.high:.1f})"
        == "60.0 (38.7 to 78.1)"
    )


def test_the_positive_class_is_named_and_does_not_depend_on_the_order_of_rows():
    """Women are found in 8 of 10 and 10 of 20 images, men in 6 of 10 and 12 of 20."""
    table = records.table([record("lth", 0, ((6, 12), (8, 10)), ((10, 20), (10, 20)), "race")])
    faces = table.assign(target="gender").replace({"class": {"a": "male", "b": "female"}})
    for rows in (faces, faces.iloc[::-1]):
        [row] = groups.gaps(rows).to_dict("records")
        assert (row["positive"], row["equal_opportunity"]) == ("female", pytest.approx(0.3))
    [other] = groups.gaps(faces.assign(target="sex")).to_dict("records")
    assert (other["positive"], other["equal_opportunity"]) == ("male", pytest.approx(0.0))
