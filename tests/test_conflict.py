import math

import pytest
import torch
from torch.nn import functional as F

from fairlth.conflict import (
    ConflictMeter,
    fairness_loss,
    fairness_weights,
    group_means,
    unit_conflict,
)
from fairlth.images import as_float
from fairlth.masks import MaskSet, prunable
from fairlth.models import build
from fairlth.training import snapshot


def net(dtype=torch.float32):
    return build("mlp", (1, 8, 8), 3, torch.Generator().manual_seed(0)).to(dtype)


def test_group_means_by_hand():
    losses, groups = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 0, 2])
    means = group_means(losses, groups, 3)
    assert means[0] == 1.5 and math.isnan(means[1]) and means[2] == 6


def test_fairness_loss_by_hand_and_leaves_absent_groups_out():
    losses, groups = torch.tensor([1.0, 3.0, 6.0]), torch.tensor([0, 0, 2])
    assert fairness_loss(losses, groups, 3) == pytest.approx(((2 - 4) ** 2 + (6 - 4) ** 2) / 2)
    assert fairness_loss(torch.tensor([2.0, 2.0]), torch.tensor([0, 1]), 2) == 0


@pytest.mark.parametrize("absent", [False, True])
def test_one_weighted_pass_is_the_gradient_of_the_fairness_loss(random_data, absent):
    model, split = net(torch.float64), random_data.train
    rows = split.group == 0 if absent else torch.ones(len(split), dtype=torch.bool)
    losses = F.cross_entropy(
        model(as_float(split.x[rows]).double()), split.y[rows], reduction="none"
    )
    groups = split.group[rows]
    weights = fairness_weights(group_means(losses.detach(), groups, 2), groups)
    cheap = torch.autograd.grad(
        (weights * losses).sum(), list(model.parameters()), retain_graph=True
    )
    exact = torch.autograd.grad(fairness_loss(losses, groups, 2), list(model.parameters()))
    for one, other in zip(cheap, exact, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
    assert absent == all((gradient == 0).all() for gradient in exact)


def test_conflict_is_minus_the_cosine_by_hand():
    accuracy = {"w": torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])}
    fairness = {"w": torch.tensor([[2.0, 0.0], [-3.0, 0.0], [1.0, -1.0]])}
    assert unit_conflict(accuracy, fairness)["w"].tolist() == pytest.approx([-1, 1, 0])


def test_units_with_next_to_no_gradient_are_not_in_conflict():
    accuracy = {"w": torch.ones(20, 4)}
    fairness = {"w": -torch.ones(20, 4)}
    fairness["w"][3] *= 1e-9
    conflict = unit_conflict(accuracy, fairness)["w"]
    assert conflict[3] == 0 and conflict[[0, 19]].tolist() == pytest.approx([1, 1])
    assert unit_conflict({"w": torch.zeros(4, 2)}, {"w": torch.ones(4, 2)})["w"].tolist() == [
        0,
        0,
        0,
        0,
    ]


def test_convolutions_have_one_conflict_per_output_channel():
    gradients = {"w": torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))}
    assert unit_conflict(gradients, gradients)["w"].shape == (5,)


def test_the_meter_reads_every_so_many_steps_and_changes_nothing(random_data):
    model = net()
    before, meter = (
        snapshot(model),
        ConflictMeter(random_data.train, seed=0, every=4, batch_size=32),
    )
    for _ in range(11):
        meter(model)
    assert (meter.steps, meter.observed) == (11, 2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert {name: len(found) for name, found in meter.conflict().items()} == {
        name: len(weight) for name, weight in prunable(model).items()
    }
    assert all(-1 <= value <= 1 for found in meter.conflict().values() for value in found)
    assert set(meter.agreement()) == set(prunable(model))


def test_the_meter_leaves_batch_norm_alone(random_data):
    model = build("convnet", (1, 8, 8), 3, torch.Generator().manual_seed(0))
    before, meter = (
        snapshot(model),
        ConflictMeter(random_data.train, seed=0, every=1, batch_size=32),
    )
    meter(model)
    assert meter.observed == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_meter_depends_on_its_seed_and_on_nothing_else(random_data):
    found = []
    for seed in (0, 0, 1):
        meter = ConflictMeter(random_data.train, seed, every=1, batch_size=32)
        for _ in range(4):
            meter(net())
        found.append(meter.conflict()["linear1.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_weaker_unit_of_two_may_be_in_conflict_too():
    gradients = {"w": torch.tensor([[1.0, 0.0], [2.0, 0.0]])}
    assert unit_conflict(gradients, {"w": -gradients["w"]})["w"].tolist()[1] == 1
    assert unit_conflict(gradients, {"w": -gradients["w"]})["w"].tolist()[0] == 1


def test_agreement_leaves_out_units_without_a_sign():
    meter = ConflictMeter.__new__(ConflictMeter)
    meter.sums = (
        {"w": torch.tensor([0.5, 0.5, 0.0, -0.1])},
        {"w": torch.tensor([0.5, -0.5, 0.0, -0.2])},
    )
    assert meter.agreement()["w"] == pytest.approx(2 / 3)


def test_a_meter_that_saw_nothing_says_so(random_data):
    with pytest.raises(ValueError, match="nothing was observed in 0 steps, expected at least 32"):
        ConflictMeter(random_data.train, 0).conflict()


def test_pruned_weights_have_no_say_in_a_units_conflict(random_data):
    model = net()
    weights = prunable(model)
    scores = {
        name: torch.rand(weight.shape, generator=torch.Generator().manual_seed(1))
        for name, weight in weights.items()
    }
    scores["linear1.weight"][5] = -1  # this unit loses every weight
    mask = MaskSet.from_scores(scores, 1000)
    mask.apply(model)
    meter = ConflictMeter(random_data.train, 0, every=1, batch_size=32)
    meter(model)
    assert meter.conflict()["linear1.weight"][5] == 0
    assert (meter.conflict()["linear1.weight"] != 0).any()
