"""Networks that draw while they train: what they draw follows from the run's seed alone."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from fairlth import data, methods, models
from fairlth.config import Run, paths
from fairlth.methods import sharing
from fairlth.methods.regrowth import refresh_statistics
from fairlth.training import fit, own_draws

SHAPE = (1, 8, 8)


class Attention(nn.Module):
    """Attention over four places of sixteen values."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.3, batch_first=True)

    def forward(self, x):
        places = x.reshape(-1, 4, 16)
        return x + self.attention(places, places, places)[0].flatten(1)


class LayerDrop(nn.Module):
    """A layer that is left out half of the time."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x):
        if self.training and torch.rand(()) < 0.5:
            return x
        return x + self.layer(x).relu()


PARTS = {
    "dropout": lambda: nn.Dropout(0.3),
    "stochastic depth": lambda: StochasticDepth(0.3, "row"),
    "attention": Attention,
    "layer drop": LayerDrop,
    "rrelu": nn.RReLU,
    "nothing": nn.Identity,
}
DRAWING = [name for name in PARTS if name != "nothing"]


def builder(part):
    def build_it(in_shape, n_classes):
        layers = [nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), PARTS[part]()]
        return nn.Sequential(*layers, nn.Linear(64, n_classes))

    return build_it


def run_of(method="dense", density=1.0, **change):
    fields = {"dataset": "digits", "model": "mine", "seed": 0, "preset": "smoke"}
    return Run(method=method, density=density, **fields | change)


def same(one, other):
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def disturb(seed):
    """Other random numbers than before, everywhere."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


@pytest.fixture(scope="module")
def loaded():
    return data.load(run_of(model="mlp"))


@pytest.mark.parametrize("part", PARTS)
def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(own, loaded, part):
    models.add("mine", builder(part), SHAPE, 10)
    schedule = run_of().settings.schedule
    states = []
    for number in range(2):
        disturb(number)
        model = sharing.fresh(run_of(), loaded)
        fit(model, loaded, schedule, seed=0, stop=2)
        states.append(model.state_dict())
    assert same(*states)


@pytest.mark.parametrize("part", DRAWING)
def test_another_seed_or_epoch_or_purpose_draws_otherwise(part):
    layer = builder(part)(SHAPE, 10)[3].train()
    x = torch.randn(64, 64)

    def given(seed, purpose):
        with own_draws(seed, purpose, torch.device("cpu")), torch.no_grad():
            return torch.stack([layer(x) for _ in range(8)])

    first = given(0, "network/0/0")
    assert torch.equal(first, given(0, "network/0/0"))
    for other in ((1, "network/0/0"), (0, "network/1/0"), (0, "network/0/3")):
        assert not torch.equal(first, given(*other))


def masks_of(loaded, seed, start, stop):
    """Which values dropout lets through, in the first step of each epoch."""
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    calls = []
    model[1].register_forward_hook(lambda part, x, given: calls.append(given != 0))
    fit(model, loaded, run_of().settings.schedule, seed=seed, start=start, stop=stop)
    return calls[:: len(loaded.train) // 64]


def test_each_epoch_of_each_seed_has_masks_of_its_own(loaded):
    zero, one = masks_of(loaded, 0, 0, 2)
    assert not torch.equal(zero, one)
    assert not torch.equal(zero, masks_of(loaded, 1, 0, 1)[0])
    assert torch.equal(one, masks_of(loaded, 0, 1, 2)[0])  # whatever was trained before
    assert 0.4 < zero.float().mean() < 0.6


def test_a_training_leaves_the_global_generators_alone(own, loaded):
    models.add("mine", builder("dropout"), SHAPE, 10)
    model = sharing.fresh(run_of(), loaded)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(model, loaded, run_of().settings.schedule, seed=0, stop=1)
    assert torch.equal(torch.rand(4), expected)


def test_a_training_that_fails_leaves_them_alone_too():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with pytest.raises(TypeError), own_draws(0, "a", torch.device("cpu")):
        torch.rand("seven")
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(("method", "density"), [("magnitude", 0.2), ("safecompress", 0.2)])
def test_a_kill_between_two_runs_that_share_a_dense_training_changes_nothing(
    own, loaded, method, density, tmp_path, monkeypatch
):
    models.add("mine", builder("dropout"), SHAPE, 10)
    tickets = []
    for folder, before in (("alone", ()), ("after", ("lth",)), ("resumed", ("lth",))):
        monkeypatch.setattr(paths, "RUNS", tmp_path / folder)
        for other in before:
            methods.make(run_of(other, 0.2), loaded)
        if folder == "resumed":  # another process has other random numbers
            disturb(99)
        tickets.append(methods.make(run_of(method, density), loaded).model.state_dict())
    assert same(tickets[0], tickets[1])
    assert same(tickets[0], tickets[2])


def test_statistics_that_are_taken_anew_follow_from_the_seed(loaded):
    found = []
    for seed in (0, 0, 1):
        disturb(len(found))
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(64))
        refresh_statistics(model, loaded.train, torch.arange(200), seed)
        found.append(model[2].running_mean)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_check_leaves_the_global_generator_alone(own):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    models.add("mine", builder("dropout"), SHAPE, 10)
    assert torch.equal(torch.rand(1), expected)
