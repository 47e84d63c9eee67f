from collections import deque

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fairlth.methods.balancing_act import Multipliers
from fairlth.metrics import Counts
from fairlth.training import Batch

DENSE = Counts(np.array([90, 40, 45]), np.array([100, 50, 50]))


class Twin:
    """The plain twin: one image, one group at a time."""

    def __init__(self, dense, rate, tolerance, buffer):
        self.dense = [c / t for c, t in zip(*dense, strict=True)]
        self.total, self.rate, self.tolerance = dense.total, rate, tolerance
        self.last = [deque(maxlen=buffer) for _ in self.dense]
        self.values = [0.0] * len(self.dense)

    def update(self, right, group):
        for one, g in zip(right, group, strict=True):
            self.last[g].append(one)
        full = [g for g, bits in enumerate(self.last) if len(bits) == bits.maxlen]
        if not full:
            return
        drop = {g: self.dense[g] - sum(self.last[g]) / len(self.last[g]) for g in full}
        whole = sum(drop[g] * self.total[g] for g in full) / sum(self.total[g] for g in full)
        for g in full:
            self.values[g] = max(
                0.0, self.values[g] + self.rate * (drop[g] - whole - self.tolerance)
            )
        if sum(self.values) > 1:
            self.values = [value / sum(self.values) for value in self.values]


def test_the_dual_update_agrees_with_its_twin():
    duals, twin = Multipliers(DENSE, 0.5, 0.01, buffer=6), Twin(DENSE, 0.5, 0.01, 6)
    generator, seen = torch.Generator().manual_seed(0), []
    for _ in range(40):
        group = torch.randint(0, 3, (5,), generator=generator)
        right = torch.rand(5, generator=generator) < torch.tensor([0.9, 0.3, 0.6])[group]
        duals.update(right, group)
        twin.update(right.tolist(), group.tolist())
        assert duals.values.tolist() == pytest.approx(twin.values, abs=1e-5)
        seen.append(max(twin.values))
    assert seen[-1] > 0.5  # the group that lags has a multiplier


def test_no_image_ever_has_a_negative_weight():
    """However fast the multipliers move, the loss keeps (1 - their sum) of the mean of all images,
    at least 0.
    """
    duals = Multipliers(DENSE, 100.0, 0.0, buffer=2)
    for _ in range(5):
        duals.update(
            torch.tensor([True, True, False, False, False, False]), torch.tensor([0, 0, 1, 1, 2, 2])
        )
    assert duals.values[0] == 0 and float(duals.values.sum()) == pytest.approx(1)


def test_constraints_wait_for_full_buffers():
    duals = Multipliers(DENSE, 1.0, 0.0, buffer=4)
    duals.update(torch.tensor([False, False, False, True]), torch.tensor([0, 0, 0, 1]))
    assert duals.values.tolist() == [0, 0, 0]


def test_multipliers_stop_growing_once_the_constraints_hold():
    duals, group = Multipliers(DENSE, 0.1, 0.01, buffer=10), torch.arange(30) % 3
    unfair = torch.where(
        group == 1, torch.arange(30) % 2 == 0, torch.ones(30).bool()
    )  # group 1 drops, the others gain
    for _ in range(5):
        duals.update(unfair, group)
    grown = duals.values.clone()
    assert grown[1] > 0 and grown[[0, 2]].tolist() == [0, 0]
    history = []
    for _ in range(60):
        duals.update(torch.ones(30).bool(), group)  # group 1 now gains most
        history.append(float(duals.values[1]))
    assert history == sorted(history, reverse=True) and history[-1] == 0


def test_the_loss_is_the_lagrangian_and_its_constants_do_not_matter():
    duals = Multipliers(DENSE, 0.0)
    duals.values = torch.tensor([0.2, 0.5, 0.1])
    outputs = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y, group = torch.arange(9) % 3, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])  # group 2 is absent
    losses = F.cross_entropy(outputs, y, reduction="none")
    by_hand = (
        losses.mean()
        + 0.2 * (losses[:4].mean() - losses.mean())
        + 0.5 * (losses[4:].mean() - losses.mean())
    )
    assert duals(outputs, Batch(outputs, y, group, y)).item() == pytest.approx(
        by_hand.item(), abs=1e-6
    )


def test_a_rate_of_0_is_plain_cross_entropy():
    duals, outputs = (
        Multipliers(DENSE, 0.0, buffer=2),
        torch.randn(9, 3, generator=torch.Generator().manual_seed(0)),
    )
    y, group = torch.arange(9) % 3, torch.arange(9) % 3
    assert float(duals(outputs, Batch(outputs, y, group, y))) == pytest.approx(
        float(F.cross_entropy(outputs, y))
    )
