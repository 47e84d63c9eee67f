"""The method on one page: without any sharing, and its last step."""

import numpy as np
import pytest
import torch

from fairlth import ballot, config, data, methods, metrics
from fairlth.config import Run, paths
from fairlth.lottery import train_dense
from fairlth.methods.sharing import dense_once, fresh
from fairlth.selection import conflict_aware
from fairlth.training import count, logits


def run_of(method="ballot", **change):
    fields = {"dataset": "digits", "model": "mlp", "density": 0.1, "seed": 0, "preset": "smoke"}
    return Run(method=method, **fields | change)


def assert_same_ticket(one, other):
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    assert list(one.mask) == list(other.mask)
    assert all(torch.equal(kept, other.mask[name]) for name, kept in one.mask.items())
    assert (one.cost, one.feasible, one.trace) == (other.cost, other.feasible, other.trace)
    assert one.notes == other.notes


@pytest.mark.parametrize("model", ["mlp", "convnet"])
def test_without_sharing_it_is_bit_by_bit_the_ticket_that_shares(
    model, random_data, tmp_path, monkeypatch
):
    """Made from scratch, made with files that others may read, and read from those files."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    run = run_of(model=model)
    dense = train_dense(run, random_data, fresh(run, random_data))
    alone = ballot.ballot(run, random_data, dense)
    assert not list(tmp_path.iterdir())
    made = methods.make(run, random_data)
    kinds = sorted(path.name.partition("_")[0] for path in tmp_path.rglob("*.safetensors"))
    assert kinds == ["ballot", "dense"]
    read = methods.make(run, random_data)
    assert_same_ticket(alone, made)
    assert_same_ticket(alone, read)


def test_its_score_is_that_of_all_readings_so_far(random_data, monkeypatch):
    """The first level is scored by the dense training's readings, each later one by more."""
    run = run_of(density=0.5)
    dense = dense_once(run, random_data)
    seen = []

    def remember(weights, conflict, strength):
        seen.append(({name: value.clone() for name, value in conflict.items()}, strength))
        return conflict_aware(weights, conflict, strength)

    monkeypatch.setattr(ballot, "conflict_aware", remember)
    found = ballot.find(run, random_data, dense)
    readings = int(dense.conflict["counts"][1])
    even = dense.conflict["even/linear1.weight"]
    odd = dense.conflict["odd/linear1.weight"]
    assert torch.equal(seen[0][0]["linear1.weight"], (even + odd) / readings)
    assert len(seen) == 4  # levels of four fifths to one half
    assert not torch.equal(seen[0][0]["linear1.weight"], seen[1][0]["linear1.weight"])
    assert {strength for _, strength in seen} == {ballot.STRENGTH}
    assert set(found.notes) == {"agreement"}


def test_it_ends_with_a_shift_that_accuracy_can_pay(monkeypatch):
    """The notes keep the shift. With nothing to give, validation accuracy does not fall.

    A ticket that may give more is fairer on validation images.
    """
    run = run_of("ballot_refine", density=0.005)
    loaded = data.load(run)
    val = loaded.val
    found = {}
    for give in (0.0, 0.5):
        monkeypatch.setattr(ballot, "GIVE", give)
        ticket = methods.make(run, loaded)
        outputs = logits(ticket.model, val)
        shift = torch.tensor(ticket.notes["shift"])
        before = count(outputs - shift, val)
        after = count(outputs, val)
        assert metrics.accuracy(*after) >= metrics.accuracy(*before) - give - 1e-9
        assert metrics.cwv(*after.by_group()) <= metrics.cwv(*before.by_group())
        found[give] = metrics.cwv(*after.by_group())
    assert found[0.5] < found[0.0]


def test_what_a_shift_may_cost_is_not_rounded_down(random_data, monkeypatch):
    """7 images of 50 less 0.02 are 6, of which the floats make more."""
    asked = []

    def remember(outputs, split, floor):
        asked.append(floor)
        return torch.zeros(3)

    monkeypatch.setattr(ballot, "affordable_shift", remember)
    monkeypatch.setattr(ballot, "count", lambda outputs, split: (np.array(7), np.array(50)))
    assert 7 / 50 - ballot.GIVE > 6 / 50
    ballot.settle(fresh(run_of(), random_data), random_data, required=0.0)
    assert 5 / 50 < asked[0] < 6 / 50


def test_pressure_is_that_of_the_run():
    assert run_of().knob == config.KNOBS["ballot"].default
    assert run_of(pressure=0.3).knob == 0.3
