import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fairlth import data, methods
from fairlth.conflict import (
    ConflictMeter,
    between_readings,
    fairness_loss,
    fairness_weights,
    group_means,
    mean_on_gpu,
    meter,
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


def test_the_mean_on_a_gpu_leaves_absent_groups_out_too():
    means = torch.tensor([1.0, torch.nan, 3.0, 8.0])
    assert mean_on_gpu(means, ~means.isnan()) == 4


def test_the_fairness_loss_on_a_gpu_is_the_same_with_its_gradient(monkeypatch):
    """A group is absent: nothing of it may come into the gradient."""
    groups = torch.tensor([0, 0, 2, 3])
    found = []
    for on_gpu in (False, True):
        monkeypatch.setattr(torch.Tensor, "is_cuda", on_gpu)
        losses = torch.tensor([1.0, 2.0, 6.0, 3.0], requires_grad=True)
        value = fairness_loss(losses, groups, 4)
        value.backward()
        found.append(torch.cat([value.detach()[None], losses.grad]))
    assert torch.allclose(*found) and found[1].isfinite().all() and found[0][0] == 3.5


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
    before = snapshot(model)
    watch = ConflictMeter(random_data.train, seed=0, every=4, batch_size=32)
    for _ in range(11):
        watch(model)
    assert (watch.steps, watch.observed) == (11, 2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert {name: len(found) for name, found in watch.conflict().items()} == {
        name: len(weight) for name, weight in prunable(model).items()
    }
    assert all(-1 <= value <= 1 for found in watch.conflict().values() for value in found)
    assert set(watch.agreement()) == set(prunable(model))


def test_batches_of_one_image_are_read_two_at_a_time(random_data):
    watch = ConflictMeter(random_data.train, seed=0, every=1, batch_size=1)
    watch(net())
    assert watch.images == 2 and watch.conflict()["linear1.weight"].any()


def test_the_meter_leaves_batch_norm_alone(random_data):
    model = build("convnet", (1, 8, 8), 3, torch.Generator().manual_seed(0))
    before = snapshot(model)
    watch = ConflictMeter(random_data.train, seed=0, every=1, batch_size=32)
    watch(model)
    assert watch.observed == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_meter_depends_on_its_seed_and_on_nothing_else(random_data):
    found = []
    for seed in (0, 0, 1):
        watch = ConflictMeter(random_data.train, seed, every=1, batch_size=32)
        for _ in range(4):
            watch(net())
        found.append(watch.conflict()["linear1.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_weaker_unit_of_two_may_be_in_conflict_too():
    gradients = {"w": torch.tensor([[1.0, 0.0], [2.0, 0.0]])}
    assert unit_conflict(gradients, {"w": -gradients["w"]})["w"].tolist()[1] == 1
    assert unit_conflict(gradients, {"w": -gradients["w"]})["w"].tolist()[0] == 1


def test_agreement_leaves_out_units_without_a_sign():
    watch = ConflictMeter.__new__(ConflictMeter)
    watch.sums = (
        {"w": torch.tensor([0.5, 0.5, 0.0, -0.1])},
        {"w": torch.tensor([0.5, -0.5, 0.0, -0.2])},
    )
    assert watch.agreement()["w"] == pytest.approx(2 / 3)


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
    watch = ConflictMeter(random_data.train, 0, every=1, batch_size=32)
    watch(model)
    assert watch.conflict()["linear1.weight"][5] == 0
    assert (watch.conflict()["linear1.weight"] != 0).any()


def test_a_meter_goes_on_where_it_stood(smoke_run):
    """Two halves with a state between them read what one whole training reads, bit by bit."""
    loaded = data.load(smoke_run)
    whole = meter(smoke_run, loaded)
    first = meter(smoke_run, loaded)
    second = meter(smoke_run, loaded)
    model = build("mlp", (1, 8, 8), 10, torch.Generator().manual_seed(0))
    for _ in range(2):
        whole.observe(model)
    first.observe(model)
    second.load_state(first.state())
    second.observe(model)
    assert second.images == whole.images == 2 * 64
    assert second.agreement() == whole.agreement()
    for name, conflict in whole.conflict().items():
        assert torch.equal(conflict, second.conflict()[name])


def test_going_on_from_a_state_leaves_the_state_as_it_was(random_data):
    """The dense training's readings are handed to several searches."""
    first = ConflictMeter(random_data.train, 0, every=1, batch_size=32)
    for _ in range(3):
        first.observe(net())
    state = first.state()
    before = {name: value.clone() for name, value in state.items()}
    second = ConflictMeter(random_data.train, 0, every=1, batch_size=32)
    second.load_state(state)
    for _ in range(2):
        second.observe(net())
    assert second.observed == 5
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_a_short_training_is_read_often_enough(smoke_run, random_data):
    """96 images in batches of 64 make one step an epoch, 9 after the rewind: each is read.

    Long trainings are read every 32 steps.
    """
    run = smoke_run.model_copy(update={"method": "ballot", "density": 0.2})
    loaded = data.load(run)
    assert meter(run, random_data).every == 1
    assert methods.make(run, random_data).mask.density <= 0.2
    assert meter(run, loaded).every == 9 * (1079 // 64) // 8 == 18
    small = run.model_copy(update={"preset": "small"})
    assert meter(small, loaded).every == 7 * (1079 // 64) // 8 == 14
    many = replace(random_data, train=replace(random_data.train, y=torch.zeros(64_000)))
    assert meter(run, many).every == 32
    assert [between_readings(steps) for steps in (1, 15, 16, 255, 256, 9999)] == [
        1,
        1,
        2,
        31,
        32,
        32,
    ]
