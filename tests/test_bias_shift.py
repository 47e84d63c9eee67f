"""The class bias shift on outputs made by hand."""

import copy

import pytest
import torch
from torch import nn

from fairlth import metrics
from fairlth.bias_shift import (
    SHARES,
    add_to_outputs,
    affordable_shift,
    fair_shift,
    find_head,
    make_room,
)
from fairlth.images import Split
from fairlth.models import MODELS, build
from fairlth.shipping.compact import compact
from fairlth.training import count


def made(n=400):
    """Two classes, outputs that favour the first: of class 0 all are right, of class 1 half."""
    y = torch.arange(n) % 2
    lead = torch.where(y == 0, 2.0, torch.linspace(-1, 1, n))  # of class 0 over class 1
    outputs = torch.stack([lead, torch.zeros(n)], 1)
    return outputs, Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), y, y, 2, 2)


def test_the_fairest_shift_is_fair_and_has_mean_0():
    outputs, split = made()
    assert metrics.cwv(*count(outputs, split).by_group()) == pytest.approx(
        0.0625, rel=0.02
    )  # accuracies 1 and one half
    shift = fair_shift(outputs, split)
    assert metrics.cwv(*count(outputs + shift, split).by_group()) < 1e-4
    assert float(shift.sum()) == pytest.approx(0, abs=1e-6) and shift[1] > shift[0]


def test_what_accuracy_cannot_pay_is_not_shifted():
    """Images that the shift gets wrong are twice those that it gets right: only as far as the floor
    allows, exactly.
    """
    n = 300
    y = (torch.arange(n) % 3 == 0).long()  # class 1 is a third of the images
    lead = torch.where(
        y == 0, torch.linspace(0.01, 1, n), torch.linspace(0.01, 1, n)
    )  # none of class 1 is right
    outputs = torch.stack([lead, torch.zeros(n)], 1)
    split = Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), y, y, 2, 2)
    plain = metrics.accuracy(*count(outputs, split))
    assert plain == pytest.approx(2 / 3)
    assert not affordable_shift(outputs, split, floor=plain).any()
    shift = affordable_shift(outputs, split, floor=plain - 0.1)
    assert plain - 0.1 <= metrics.accuracy(*count(outputs + shift, split)) < plain
    further = shift + fair_shift(outputs, split) / SHARES
    assert metrics.accuracy(*count(outputs + further, split)) < plain - 0.1


class Two(nn.Module):
    """The output layer is registered first, a layer as wide is registered last; `end` comes after
    both.
    """

    def __init__(self, end=None):
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.body = nn.Linear(3, 2)
        self.end = end or nn.Identity()

    def forward(self, x):
        return self.end(self.head(self.body(x).relu()))


class Twice(nn.Module):
    """One layer is called twice: its bias goes into the outputs in two ways."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(self.layer(x))


WITH_HEAD = {
    "a chain": (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "2.bias"),
    "registered first": (Two(), "head.bias"),
    "dropout that is off": (Two(nn.Dropout(0.5)), "head.bias"),
}
WITHOUT = {
    "no bias": nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)),
    "a convolution": nn.Sequential(nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 2, 1), nn.Flatten()),
    "a factor": Two(nn.LayerNorm(2)),
    "log-softmax": Two(nn.LogSoftmax(1)),
    "cut off, in place": Two(nn.ReLU6(inplace=True)),
    "called twice": Twice(),
}


def shifted(model, images=None):
    """A shifted copy whose outputs differ by exactly the shift."""
    copied = copy.deepcopy(model).eval()
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    shift = torch.linspace(-1, 0.5, len(model(x)[0]))
    before = copied(x)
    add_to_outputs(copied, shift, images)
    torch.testing.assert_close(copied(x), before + shift)
    return copied


@pytest.mark.parametrize(("model", "bias"), WITH_HEAD.values(), ids=WITH_HEAD)
def test_biases_of_the_layer_that_gives_the_outputs_are_shifted_and_nothing_else(model, bias):
    found = shifted(model, torch.rand(4, 3)).state_dict()
    before = model.state_dict()
    assert list(found) == list(before)
    assert [name for name in found if not torch.equal(found[name], before[name])] == [bias]


@pytest.mark.parametrize("model", WITHOUT.values(), ids=WITHOUT)
def test_outputs_of_other_layers_are_shifted_by_a_buffer(model):
    found = shifted(model, torch.rand(4, 3)).state_dict()
    before = model.state_dict()
    assert set(found) == {*before, "class_shift"}
    assert all(torch.equal(found[name], before[name]) for name in before)


def test_two_shifts_add_up_and_survive_copies_and_files():
    model = copy.deepcopy(WITHOUT["no bias"])
    x = torch.rand(5, 3)
    before = model(x)
    add_to_outputs(model, torch.tensor([1.0, 0.0]), x)
    add_to_outputs(model, torch.tensor([1.0, -1.0]), x)
    torch.testing.assert_close(copy.deepcopy(model)(x), before + torch.tensor([2.0, -1.0]))
    again = copy.deepcopy(WITHOUT["no bias"])
    make_room(again, 2)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))


def test_looking_for_the_head_changes_no_bit_and_keeps_the_mode():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert find_head(model, torch.rand(4, 3)) is model[2] and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_the_package_has_its_head_found(name):
    model = build(name, (3, 32, 32), 7, torch.Generator().manual_seed(0))
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert find_head(model, torch.rand(4, 3, 32, 32)) is head


def test_a_network_with_shifted_outputs_can_be_made_smaller():
    """Channels go, the shift stays."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)).eval()
    add_to_outputs(model, torch.tensor([1.0, -1.0]))
    with torch.no_grad():
        model[0].weight[:2] = 0
    small = compact(model)
    x = torch.rand(5, 3)
    assert small[0].out_features == 2
    torch.testing.assert_close(small(x), model(x))


class Rounds(nn.Module):
    """Other last bits while a hook is there, as torch's transformer may have on some devices."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x):
        return self.linear(x) * (1 + 1e-6 * len(self.linear._forward_hooks))


def test_a_head_behind_layers_that_round_otherwise_when_watched_is_found():
    torch.manual_seed(0)
    model = nn.Sequential(Rounds(), nn.ReLU(), nn.Linear(4, 2))
    assert find_head(model, torch.rand(4, 3)) is model[2]


@pytest.mark.parametrize("value", [nn.Buffer(torch.ones(2)), nn.Parameter(torch.ones(2)), 3.0])
def test_a_network_with_a_class_shift_of_its_own_is_refused(value):
    """Its own would be taken for the constants, and these would never be added."""
    model = nn.Linear(3, 2, bias=False)
    model.class_shift = value
    with pytest.raises(ValueError) as caught:
        add_to_outputs(model, torch.ones(2))
    assert str(caught.value) == (
        "the Linear has class_shift of its own, where a shift of its outputs would be: call it "
        "otherwise."
    )
