import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from fairlth.analysis import audit, records
from fairlth.analysis.audit import Answers
from fairlth.images import Split

CLASSES = np.array([0, 0, 0, 0, 1, 1])
NAMES = ["cat", "dog"]
VALIDATED = {"cat": 0.9, "dog": 0.8}


def said(predicted, confidence=None, classes=CLASSES, groups=CLASSES):
    if confidence is None:
        confidence = np.ones(len(classes))
    return Answers(np.array(predicted), np.array(confidence, float), classes, groups)


DENSE = {0: said([0, 0, 0, 1, 1, 1]), 1: said([0, 0, 1, 0, 1, 0]), 2: said([0, 1, 1, 0, 1, 1])}
TICKETS = {0: said([1, 1, 1, 0, 0, 1]), 1: said([1, 1, 0, 0, 1, 1]), 2: said([1, 1, 1, 0, 0, 1])}


def test_forgotten_are_images_that_the_dense_net_has_right_and_other_seeds_tickets_wrong():
    found = audit.forgotten(DENSE, TICKETS, seed=0)
    assert found.tolist() == [True, True, False, False, False, False]
    null = audit.forgotten(DENSE, DENSE, seed=0)
    assert null.tolist() == [False, False, True, False, False, False]


def test_a_seeds_own_ticket_does_not_count():
    other = TICKETS | {0: said(CLASSES)}
    assert (audit.forgotten(DENSE, other, 0) == audit.forgotten(DENSE, TICKETS, 0)).all()


def test_changed_is_the_share_of_other_seeds_that_predict_another_class():
    assert audit.changed(DENSE, TICKETS, 0).tolist() == [1, 1, 0.5, 1, 0.5, 0]


def test_rows_by_seed_are_those_worked_by_hand():
    rows = audit.by_seed(DENSE, TICKETS, NAMES, NAMES, VALIDATED).set_index(["seed", "group"])
    cat = rows.loc[(0, "cat")]
    assert (cat["images"], cat["right"]) == (4, 3)
    assert cat["forgotten"] == pytest.approx(2 / 3)
    assert cat["beyond_chance"] == pytest.approx(2 / 3 - 1 / 3)
    assert cat["changed"] == pytest.approx(3.5 / 4)
    assert cat["changed_beyond"] == pytest.approx(3.5 / 4 - (0.5 + 1 + 1) / 4)
    assert cat["ece"] == pytest.approx(3 / 4)  # always sure, right in one of four
    assert cat["ece_gained"] == pytest.approx(3 / 4 - 1 / 4)
    assert cat["brier"] == pytest.approx(3 / 4)
    everyone = rows.loc[(0, audit.EVERYONE)]
    assert (everyone["images"], everyone["right"]) == (6, 5)
    assert everyone["forgotten"] == pytest.approx(2 / 5)
    assert len(rows) == 3 * 3


def test_what_a_card_says_of_each_group_is_that_worked_by_hand():
    """Cats: sure of one right and three wrong ones, of which the dense net has two right."""
    found = audit.of_groups(TICKETS[0], 3, DENSE[1])
    assert found["ece"][:2] == pytest.approx([3 / 4, 1 / 2])
    assert found["brier"][:2] == pytest.approx([3 / 4, 1 / 2])
    assert found["lost"][:2] == pytest.approx([2 / 3, 1 / 1])
    assert found["changed"][:2] == pytest.approx([2 / 4, 2 / 2])
    assert all(np.isnan(values[2]) for values in found.values())  # a group without images
    assert list(audit.of_groups(TICKETS[0], 2)) == ["ece", "brier"]


def test_tickets_like_the_dense_nets_are_at_chance():
    rows = audit.by_seed(DENSE, DENSE, NAMES, NAMES, VALIDATED)
    zeros = rows[["beyond_chance", "changed_beyond", "ece_gained", "brier_gained"]]
    assert (zeros.abs() < 1e-12).all(axis=None)


def test_calibration_error_and_brier_score_are_those_worked_by_hand():
    right = [1, 0, 1, 1]
    confidence = [0.9, 0.9, 0.6, 0.52]  # 0.52 and 0.6 are in different bins of a fifteenth
    expected = (abs(1.8 - 1) + abs(0.6 - 1) + abs(0.52 - 1)) / 4
    assert audit.calibration_error(right, confidence) == pytest.approx(expected)
    assert audit.brier(right, confidence) == pytest.approx((0.01 + 0.81 + 0.16 + 0.48**2) / 4)
    assert audit.calibration_error([1, 1], [1.0, 1.0]) == 0
    assert np.isnan(audit.calibration_error([], [])) and np.isnan(audit.brier([], []))


def test_bias_amplification_is_that_worked_by_hand():
    classes = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    groups = np.array([0, 0, 0, 1, 0, 1, 1, 1])  # class 0 goes with group 0, class 1 with group 1
    same = said(classes, classes=classes, groups=groups)
    assert audit.amplification(same, 2, 2) == 0
    by_group = said(groups, classes=classes, groups=groups)
    assert audit.amplification(by_group, 2, 2) == pytest.approx(0.25)  # from 3/4 to 1, both
    assert np.isnan(audit.amplification(said(CLASSES), 2, 2))  # groups are the classes
    never_0 = said(np.ones(8, int), classes=classes, groups=groups)
    assert audit.amplification(never_0, 2, 2) == pytest.approx(4 / 8 - 3 / 4)  # of class 1 alone


def test_nothing_forgotten_of_few_images_is_no_certainty():
    """The rule of three: none of five images allows up to three in five."""
    rows = audit.by_seed(
        dict.fromkeys(range(3), said(CLASSES)),
        dict.fromkeys(range(3), said(CLASSES)),
        NAMES,
        NAMES,
        VALIDATED,
    )
    cat = rows[rows["group"] == "cat"]
    assert (cat["forgotten"] == 0).all()
    assert [*cat["forgotten_error"]] == pytest.approx([3 / 1.96 / 4] * 3)


def test_validation_images_say_which_groups_are_weak():
    counts = {"correct": [[1, 0], [0, 2]], "total": [[2, 0], [0, 2]]}
    made = dataclasses.replace(record(counts, {}), counts={"val": counts})
    assert audit.validated([made, made]) == {"a": 0.5, "b": 1.0}


def table(beyond, error=0.0):
    """Rows of three seeds and four groups, of which the first two are weak."""
    names = ["a", "b", "c", "d"]
    right = dict(zip(names, [40, 30, 20, 10], strict=True))  # which decides nothing
    head = {"dataset": "x", "target": "y", "group_by": "class", "model": "m", "method": "lth"}
    validated = dict(zip(names, [0.1, 0.2, 0.3, 0.4], strict=True))
    rows = [
        head
        | {"density": 0.1, "seed": seed, "group": name, "images": 50, "right": right[name]}
        | {"validated": validated[name]}
        | {"beyond_chance": value, "beyond_chance_error": error}
        for seed, values in enumerate(beyond)
        for name, value in zip(names, values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_weak_groups_are_compared_with_strong_ones():
    told = audit.weak_groups(table([(0.4, 0.2, 0.1, 0.1), (0.4, 0.2, 0.2, 0.0), (0.3, 0.3, 0, 0)]))
    [row] = told.to_dict("records")
    assert row["weak"] == "a, b" and row["n"] == 3 and row["verdict"] == "more"
    assert row["more"] == pytest.approx((0.2 + 0.2 + 0.3) / 3)
    [row] = audit.weak_groups(table([(0.1, 0, 0.4, 0.2), (0.2, 0, 0.4, 0.2)])).to_dict("records")
    assert row["more"] == pytest.approx(-0.225) and row["verdict"] == "not shown"


def test_groups_without_a_rate_are_left_out():
    rows = table([(0.4, 0.2, 0.1, np.nan)] * 3)
    [row] = audit.weak_groups(rows).to_dict("records")
    assert row["weak"] == "a" and row["more"] == pytest.approx(0.3)  # a less c, b is the middle
    [row] = audit.weak_groups(table([(0.4, np.nan, np.nan, np.nan)] * 3)).to_dict("records")
    assert np.isnan(row["more"]) and row["verdict"] == "not shown"


def test_an_interval_is_the_wider_of_that_over_seeds_and_that_over_images():
    agreeing = [(0.4, 0.2, 0.1, 0.1)] * 3  # three seeds that agree by chance
    [row] = audit.weak_groups(table(agreeing, error=0.1)).to_dict("records")
    half = 1.96 * 0.1 * 2 / 2  # the root of four squared errors over two groups
    assert (row["more_low"], row["more_high"]) == pytest.approx((0.2 - half, 0.2 + half))
    [row] = audit.weak_groups(table(agreeing, error=0.2)).to_dict("records")
    assert row["verdict"] == "not shown"


def test_errors_over_images_are_those_worked_by_hand():
    rows = audit.by_seed(DENSE, TICKETS, NAMES, NAMES, VALIDATED)
    cat = rows[rows["group"] == "cat"]
    assert len(set(cat["changed_error"])) == 1
    moved = np.array([audit.changed(DENSE, TICKETS, seed)[:4] for seed in (0, 1, 2)]).mean(0)
    expected = max(np.sqrt(((moved - moved.mean()) ** 2).sum()), 3 / 1.96) / 4
    assert cat["changed_error"].iloc[0] == pytest.approx(expected)
    told = audit.summary(
        rows.assign(dataset="x", target="y", group_by="class", model="m", method="lth", density=1)
    )
    changed = told[told["group"] == "cat"].iloc[0]
    assert changed["changed"] == pytest.approx(cat["changed"].mean())
    assert changed["n"] == 3 and changed["images"] == 4
    assert changed["changed_high"] >= changed["changed"] + 1.96 * expected - 1e-12


def split(classes):
    y = torch.tensor(classes)
    return Split(torch.zeros(len(y), 1, 2, 2, dtype=torch.uint8), y, y, 2, 2)


def record(counts, predictions):
    return records.Record(
        run={"dataset": "x", "method": "lth", "density": 0.1, "seed": 0},
        target="label",
        group_by="class",
        classes=["a", "b"],
        groups=["a", "b"],
        counts={"test": counts},
        layers=[],
        cost=1.0,
        spent=1.0,
        feasible=None,
        predictions=predictions,
        trace=[],
        notes={},
        settings={},
        conditions={},
    )


def test_a_record_gives_its_answers_only_on_its_own_images():
    predicted = np.array([0, 1, 1, 1])
    kept = records.pack_predictions(predicted, np.array([0.9, 0.8, 0.7, 0.6]))
    counts = {"correct": [[1, 0], [0, 2]], "total": [[2, 0], [0, 2]]}
    made = record(counts, kept)
    found = audit.answers(made, split([0, 0, 1, 1]))
    assert found.right.tolist() == [True, False, True, True]
    assert found.confidence == pytest.approx([0.9, 0.8, 0.7, 0.6], abs=1e-5)
    for other in ([0, 1, 1, 1], [0, 0, 1]):
        with pytest.raises(ValueError, match="was made with other test images than these"):
            audit.answers(made, split(other))
    without = dataclasses.replace(made, predictions={})
    with pytest.raises(ValueError, match="keeps no predictions: move it away and run again"):
        audit.answers(without, split([0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("dense", "tickets", "sentence"),
    [
        ({0: DENSE[0]}, {0: TICKETS[0]}, "expected the same ones, two or more"),
        (DENSE, {0: TICKETS[0], 1: TICKETS[1]}, r"\[0, 1, 2\] of the dense net and \[0, 1\] of"),
        (
            DENSE,
            TICKETS | {1: said([0, 0, 0], classes=CLASSES[:3], groups=CLASSES[:3])},
            "one task",
        ),
    ],
)
def test_networks_that_cannot_be_compared_are_refused(dense, tickets, sentence):
    with pytest.raises(ValueError, match=sentence):
        audit.by_seed(dense, tickets, NAMES, NAMES, VALIDATED)
