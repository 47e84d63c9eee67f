import math

import numpy as np
import pytest
import torch
from torch import nn

from fairlth import metrics, retraining
from fairlth.config import Schedule
from fairlth.masks import MaskSet, prunable
from fairlth.metrics import Counts
from fairlth.models import build
from fairlth.retraining import Control, Epoch, refine, reweight
from fairlth.training import learning_rate

LATE, EARLY = Epoch(5, 0.01, 1.0, settled=True), Epoch(1, 0.1, 1.0, settled=False)


def counts(*rates, n=1000):
    """Counts of classes that are their own groups, from accuracies."""
    total = np.full(len(rates), n)
    return Counts(np.diag((np.array(rates) * n).round().astype(int)), np.diag(total))


def numbered(value):
    """A model whose state is one number."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def test_reweighting_by_hand():
    new = reweight(torch.ones(2), counts(0.9, 0.7), pressure=0.5)
    raw = [
        math.exp(0.5 * -0.1 / 0.2),
        math.exp(0.5 * 0.1 / 0.2),
    ]  # mean accuracy 0.8, mean error 0.2
    assert new.tolist() == pytest.approx([2 * value / sum(raw) for value in raw], rel=1e-5)


def test_reweighting_without_pressure_keeps_weights_and_with_much_is_clipped():
    assert reweight(torch.tensor([0.5, 1.5]), counts(0.9, 0.1), 0.0).tolist() == [0.5, 1.5]
    assert reweight(torch.ones(10), counts(*[0.9] * 9, 0.1), 50.0).tolist() == pytest.approx(
        [0.25] * 9 + [4.0]
    )


def test_a_group_without_validation_images_keeps_its_weight():
    found = counts(0.9, 0.5, 0.5)
    found.total[1, 1] = found.correct[1, 1] = 0
    new = reweight(torch.ones(3), found, 0.5)
    assert new[0] < new[1] < new[2]


def kept(*states, floor=0.0):
    """The number of the state that the control returns."""
    control = Control(floor, pressure=0.5, weights=torch.ones(2))
    for value, rates in enumerate(states):
        control.react(numbered(value), counts(*rates), LATE)
    control.finish(last := numbered(-1.0))
    return int(last.weight.item())


def test_the_fairest_state_is_kept_and_within_its_error_the_most_accurate():
    assert kept((0.9, 0.6), (0.7, 0.7)) == kept((0.9, 0.6), (0.7, 0.7), (0.9, 0.6)) == 1
    assert kept((0.70, 0.70), (0.81, 0.80)) == 1  # 1 point is chance, 10 points of accuracy are not
    assert kept((0.81, 0.80), (0.70, 0.70)) == 0


def test_small_steps_do_not_add_up_to_an_unfair_state():
    """Each state is within the error of the one before, but only those near the fairest may win."""
    drifting = [(0.80 + step / 100, 0.80 - step / 120) for step in range(8)]
    chosen = kept(*drifting)
    limit = metrics.cwv(*counts(*drifting[0]).by_group()) + metrics.cwv_error(
        *counts(*drifting[0]).by_group()
    )
    assert metrics.cwv(*counts(*drifting[chosen]).by_group()) <= limit
    assert 0 < chosen < 7


def test_an_unsettled_state_is_never_chosen_nor_rewound():
    control = Control(floor=0.5, pressure=0.5, weights=torch.ones(2))
    for rates in ((0.9, 0.9), (0.1, 0.1)):
        assert not control.react(numbered(1.0), counts(*rates), EARLY).rewound
    assert control.best is None and control.lr_scale == 1 and control.pressure == 0.5


def test_a_broken_constraint_rewinds_to_the_best_feasible_state():
    control = Control(floor=0.7, pressure=0.5, weights=torch.ones(2))
    control.react(numbered(1.0), counts(0.9, 0.7), LATE)
    broken = numbered(2.0)
    before = control.weights
    assert control.react(broken, counts(0.6, 0.6), LATE).rewound
    assert broken.weight.item() == 1.0
    assert (control.lr_scale, control.pressure) == (0.5, 0.25)
    assert torch.allclose(control.weights, before.sqrt() / before.sqrt().mean())
    refined = control.finish(last := numbered(3.0))
    assert refined.feasible and last.weight.item() == 1.0


def test_patience_halves_the_learning_rate_only():
    control = Control(floor=0.5, pressure=0.5, weights=torch.ones(2))
    for value, rates in enumerate(((0.8, 0.8), (0.9, 0.6))):
        control.react(numbered(value), counts(*rates), LATE)
    assert (control.lr_scale, control.pressure) == (0.5, 0.5)
    control.finish(last := numbered(9.0))
    assert last.weight.item() == 0.0


def test_without_a_feasible_state_the_most_accurate_is_returned_and_called_infeasible():
    control = Control(floor=0.95, pressure=0.5, weights=torch.ones(2))
    for value, rates in ((1.0, (0.6, 0.6)), (2.0, (0.9, 0.7)), (3.0, (0.7, 0.7))):
        step = control.react(numbered(value), counts(*rates), LATE)
        assert not step.rewound and not step.feasible
    assert control.pressure == 0.5 / 8  # less and less of it
    refined = control.finish(last := numbered(4.0))
    assert not refined.feasible and last.weight.item() == 2.0


@pytest.fixture
def setting(random_data):
    def train(pressure=0.5, floor=0.0, seed=0, epochs=4, start=1, warmup=1.0):
        model = build("mlp", (1, 8, 8), 3, torch.Generator().manual_seed(0))
        mask = MaskSet.from_scores(
            {name: weight.detach().abs() for name, weight in prunable(model).items()}, 500
        )
        mask.apply(model)
        schedule = Schedule(epochs=epochs, batch_size=32, lr=0.05, warmup=warmup)
        refined = refine(
            model,
            random_data,
            schedule,
            seed=seed,
            start=start,
            after_step=mask.apply,
            floor=floor,
            pressure=pressure,
        )
        return model, refined, mask

    return train


def test_refining_trains_the_remaining_epochs_and_keeps_the_mask(setting):
    model, refined, mask = setting()
    assert [(step.epoch, step.settled) for step in refined.steps] == [
        (2, False),
        (3, True),
    ] and refined.feasible
    assert all((prunable(model)[name][~kept] == 0).all() for name, kept in mask.items())


def test_a_rewind_inside_a_training_lowers_rate_and_pressure_of_the_next_epoch(
    setting, monkeypatch
):
    """Validation counts by script: the first settled epoch is feasible, the second breaks the
    constraint.
    """
    script = iter(
        [counts(0.9, 0.9)] * 4 + [counts(0.1, 0.1)] + [counts(0.9, 0.9)] * 5
    )  # epochs 2, 4, 6, 7, 8, 9
    monkeypatch.setattr(retraining, "predict", lambda model, split: next(script))
    monkeypatch.setattr(retraining, "PATIENCE", 99)
    _, refined, _ = setting(floor=0.5, epochs=10)
    steps = {step.epoch: step for step in refined.steps}
    assert [step.epoch for step in refined.steps if step.rewound] == [8]
    assert steps[9].pressure == steps[8].pressure / 2
    schedule = Schedule(epochs=10, batch_size=32, lr=0.05)
    assert steps[8].lr == pytest.approx(learning_rate(schedule, 8 + 2 / 3))
    assert steps[9].lr == pytest.approx(learning_rate(schedule, 9 + 2 / 3) / 2)


def test_same_seed_same_bits_and_every_switch_changes_something(setting):
    states = [
        setting(**change)[0].state_dict()
        for change in ({}, {}, {"seed": 1}, {"pressure": 0.0}, {"pressure": 3.0})
    ]
    equal = [all(torch.equal(states[0][name], other[name]) for name in other) for other in states]
    assert equal == [True, True, False, False, False]


def test_a_floor_out_of_reach_is_called_infeasible(setting):
    assert not setting(floor=1.01)[1].feasible


def test_a_state_within_the_warm_up_has_not_settled(setting):
    _, refined, _ = setting(epochs=10, start=0, warmup=5.0)
    assert [step.settled for step in refined.steps] == [False] * 4 + [True] * 2
    assert [step.epoch for step in refined.steps] == [1, 3, 5, 7, 8, 9]


def test_until_the_rate_has_settled_every_second_epoch_is_validated_and_feeds_back_twice(
    setting, monkeypatch
):
    """Weights after one validation of two epochs are those of pressure 2 x 0.5."""
    monkeypatch.setattr(retraining, "predict", lambda model, split: counts(0.9, 0.7))
    _, refined, _ = setting(epochs=10)
    assert [step.epoch for step in refined.steps] == [2, 4, 6, 7, 8, 9]
    assert [step.settled for step in refined.steps] == [False, False, False, True, True, True]
    assert refined.steps[1].weights == tuple(
        reweight(torch.ones(2), counts(0.9, 0.7), 1.0).tolist()
    )
