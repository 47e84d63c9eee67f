import numpy as np
import pandas as pd
import pytest
from test_results import record

from fairlth import equal, results


def points(method, seed, accuracies, cwvs, shifts=(0.0, 0.5)):
    """A curve made by hand, in the columns of `equal.shifted`."""
    task = {"dataset": "d", "target": "t", "group_by": "g", "model": "m", "density": 0.05, "pressure": None, "cost": 2.0}
    rows = zip(shifts, accuracies, cwvs, strict=True)
    return [task | {"method": method, "seed": seed, "shift": s, "accuracy": a, "cwv": c} for s, a, c in rows]


def test_at_equal_accuracy_by_hand():
    """Half-way between (0.6, 0.01) and (0.5, 0.0001) the control's CWV is 0.001; beyond its ends it is that of the end."""
    frame = pd.DataFrame(
        points("lth", 0, (0.6, 0.5), (0.01, 0.0001)) + points("ballot", 0, (0.55, 0.7), (0.0005, 0.02))
        + points("ballot", 1, (0.55, 0.5), (0.1, 0.1))
    )  # fmt: skip
    found = equal.at_equal_accuracy(frame)
    assert found["method"].tolist() == ["lth", "lth", "ballot", "ballot"]  # seed 1 has no control
    assert found["relative"].tolist() == pytest.approx([1, 1, 0.5, 2])


def test_relative_means_are_geometric_with_their_interval():
    frame = pd.DataFrame(points("ballot", 0, (0.5,), (1.0,), (0.0,)) + points("ballot", 1, (0.7,), (1.0,), (0.0,)))
    [row] = equal.relative_summary(frame.assign(relative=[0.25, 1.0])).to_dict("records")
    assert (row["relative"], row["n"], row["cost"], row["accuracy"]) == (pytest.approx(0.5), 2, 2.0, 0.6)
    half = 12.7062 * np.log(4) / 2  # t of one degree of freedom times the standard error of the two logarithms
    assert np.log([row["relative_low"], row["relative_high"]]) == pytest.approx(
        [np.log(0.5) - half, np.log(0.5) + half], rel=1e-4
    )
    shown = equal.readable_relative(pd.DataFrame([row]))
    assert shown["CWV at equal accuracy"].tolist() == [0.5] and shown["accuracy %"].tolist() == [60.0]


def test_a_duel_is_won_where_the_interval_is_above_0():
    """Against a curve at CWV 0.01, 0.001 at accuracies 0.6, 0.5: ours has half of it in both seeds, or once less, once more."""
    curve = [row for seed in (0, 1) for row in points("lth", seed, (0.6, 0.5), (0.01, 0.001))]
    half = [row for seed, cwv in ((0, 0.005), (1, 0.0049)) for row in points("ballot", seed, (0.6, 0.5), (cwv, 1.0))]
    mixed = [row for seed, cwv in ((0, 0.005), (1, 0.02)) for row in points("ballot", seed, (0.6, 0.5), (cwv, 1.0))]
    [won], [open_] = (equal.duels(pd.DataFrame(curve + ours), ["lth"]).to_dict("records") for ours in (half, mixed))
    assert (won["mean"], won["n"], won["verdict"]) == (pytest.approx(1 - np.sqrt(0.5 * 0.49)), 2, "better")
    assert (open_["mean"], open_["verdict"]) == (pytest.approx(0), "open")
    assert equal.readable_duels(pd.DataFrame([won]))["CWV at equal accuracy lower by"].tolist() == ["51%"]


def test_a_shifted_split_is_a_point_of_its_own():
    one = record()
    one.counts["test+0.5"] = {"correct": [[7, 0], [0, 7]], "total": [[10, 0], [0, 10]]}
    found = equal.shifted(results.table([one]))
    assert found[["shift", "cwv"]].to_numpy().tolist() == [[0.0, pytest.approx(0.01)], [0.5, 0.0]]
