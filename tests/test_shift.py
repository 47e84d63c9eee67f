"""The class bias shift on outputs made by hand."""

import pytest
import torch

from fairlth import metrics
from fairlth.images import Split
from fairlth.shift import SHARES, add_to_head, affordable_shift, fair_shift
from fairlth.training import count


def made(n=400):
    """Two classes, outputs that favour the first: of class 0 all are right, of class 1 half."""
    y = torch.arange(n) % 2
    lead = torch.where(y == 0, 2.0, torch.linspace(-1, 1, n))  # of class 0 over class 1
    outputs = torch.stack([lead, torch.zeros(n)], 1)
    return outputs, Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), y, y, 2, 2)


def test_the_fairest_shift_is_fair_and_has_mean_0():
    outputs, split = made()
    assert metrics.cwv(*count(outputs, split).by_group()) == pytest.approx(0.0625, rel=0.02)  # accuracies 1 and one half
    shift = fair_shift(outputs, split)
    assert metrics.cwv(*count(outputs + shift, split).by_group()) < 1e-4
    assert float(shift.sum()) == pytest.approx(0, abs=1e-6) and shift[1] > shift[0]


def test_what_accuracy_cannot_pay_is_not_shifted():
    """Images that the shift gets wrong are twice those that it gets right: only as far as the floor allows, exactly."""
    n = 300
    y = (torch.arange(n) % 3 == 0).long()  # class 1 is a third of the images
    lead = torch.where(y == 0, torch.linspace(0.01, 1, n), torch.linspace(0.01, 1, n))  # none of class 1 is right
    outputs = torch.stack([lead, torch.zeros(n)], 1)
    split = Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), y, y, 2, 2)
    plain = metrics.accuracy(*count(outputs, split))
    assert plain == pytest.approx(2 / 3)
    assert not affordable_shift(outputs, split, floor=plain).any()
    shift = affordable_shift(outputs, split, floor=plain - 0.1)
    assert plain - 0.1 <= metrics.accuracy(*count(outputs + shift, split)) < plain
    further = shift + fair_shift(outputs, split) / SHARES
    assert metrics.accuracy(*count(outputs + further, split)) < plain - 0.1


def test_the_head_shifts_the_outputs():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    x, shift = torch.rand(5, 3), torch.tensor([0.5, -0.5])
    before = model(x)
    add_to_head(model, shift)
    torch.testing.assert_close(model(x), before + shift)
