"""Balancing Act (CEAG): no group may lose more accuracy by pruning than the whole.

Multipliers on the groups' losses see to that.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fairlth import metrics
from fairlth.config import Run
from fairlth.images import Data
from fairlth.lottery import Dense, Ticket
from fairlth.masks import MaskSet, prunable
from fairlth.metrics import Counts
from fairlth.selection import magnitude, select
from fairlth.training import Batch, Trainer, cross_entropy, epochs, predict

PRUNING = 0.3  # of the epochs


def constrained(run: Run, data: Data, dense: Dense) -> Ticket:
    """Gradual magnitude pruning of the dense net, then training under one constraint per group.

    minimise L subject to [A_g(dense) - A_g] - [A(dense) - A] <= tolerance for each group g:
    multipliers grow with the violation, measured on each group's last images, and weigh the loss
    surrogate L_g - L (see `Multipliers`). The density falls along a cubic during the first 30 % of
    the epochs; constraints hold from then on. `run.pressure` is the multipliers' learning rate: 0
    is gradual magnitude pruning.

    Source: Hashemizadeh et al., ICLR 2024 (merajhashemi/balancing-act). Reconstructed: the run's
    schedule; all layers pruned together as by every magnitude method here, where the source prunes
    each alike and leaves first and last dense; multipliers that add up to at most 1; a learning
    rate of theirs that suits a few hundred steps, where the source takes 1e-2 and 1e-4 for many
    thousand.
    """
    schedule = run.settings.schedule
    model = dense.at(dense.trained)
    weights = prunable(model)
    pruning = math.ceil(PRUNING * schedule.epochs)
    duals = Multipliers(predict(model, data.train).by_group(), run.knob)
    mask = MaskSet.full(weights)
    trainer = Trainer(model, data, schedule, run.seed)
    trace = []
    for epoch in epochs(0, schedule.epochs, "constrained"):
        if epoch < pruning:
            density = cubic(run.density, (epoch + 1) / pruning)
            mask = select(magnitude(weights), density, mask, dense.head)
            mask.apply(model)
            trainer.after_step = mask.apply
        loss, rate = trainer.epoch(epoch, cross_entropy if epoch < pruning else duals)
        row = {"epoch": epoch, "lr": rate, "loss": loss}
        trace.append(row | {"multipliers": duals.values.tolist()})
    cost = (dense.epochs + schedule.epochs) / schedule.epochs
    return Ticket(model, mask, cost, trace=trace)


def cubic(density: float, done: float) -> float:
    """The density after a share `done`: d + (1 - d)(1 - done)^3 (Zhu and Gupta, 2017)."""
    return density + (1 - density) * (1 - done) ** 3


class Multipliers:
    """A loss that weighs groups which lose more accuracy than the whole.

    As a training's `loss` each call is a dual and a primal step.

    For each group g, from the last `buffer` images of it that were trained on (constraints wait
    until those are full):

        v_g = [A_g(dense) - A_g] - [A(dense) - A] - tolerance
        lambda_g <- max(0, lambda_g + rate v_g)           the dual step, first
        lambda   <- lambda / max(1, sum_g lambda_g)       ours: no image has a negative weight
        L + sum_g lambda_g (L_g - L)                      the loss returned, for the primal step

    A is the mean of the groups' accuracies weighted by their share of the training images. Groups
    absent from a batch have no L_g there. Multipliers that are 0 mean that every constraint holds
    without help.

    Source: Balancing Act, ICLR 2024 (merajhashemi/balancing-act), from its code.

    Args:
        dense: counts (groups,) of the dense net on the training images.
        rate: of the multipliers, at least 0.
        tolerance: accuracy that a group may lose beyond the whole, a fraction.
        buffer: images of a group behind its accuracy.
    """

    def __init__(
        self, dense: Counts, rate: float, tolerance: float = 0.01, buffer: int = 40
    ) -> None:
        self.rate = rate
        self.tolerance = tolerance
        self.buffer = buffer
        self.dense = torch.from_numpy(metrics.group_accuracy(*dense)).float()
        self.share = torch.from_numpy(dense.total / dense.total.sum()).float()
        self.values = torch.zeros(len(self.share))
        self.last = [torch.zeros(0) for _ in self.share]

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The dual step on a batch's predictions, then the loss (scalar) by the new multipliers."""
        self.update(outputs.detach().argmax(1) == batch.y, batch.group)
        losses = F.cross_entropy(outputs, batch.y, reduction="none")
        members = F.one_hot(batch.group, len(self.values)).to(losses)
        sizes = members.sum(0)
        strength = self.values.to(losses) * (sizes > 0)
        own = (losses @ members) / sizes.clamp(min=1)
        return losses.mean() * (1 - strength.sum()) + strength @ own

    def update(self, right: Tensor, group: Tensor) -> None:
        """Remembers which images (n,) were predicted right, and moves the multipliers of groups
        with full buffers.
        """
        right = right.float().cpu()
        group = group.cpu()
        for g, old in enumerate(self.last):
            self.last[g] = torch.cat([old, right[group == g]])[-self.buffer :]
        full = torch.tensor([len(bits) == self.buffer for bits in self.last])
        if not full.any():
            return
        rates = [bits.mean() if len(bits) else torch.tensor(0.0) for bits in self.last]
        share = self.share * full / (self.share * full).sum()
        lost = self.dense - torch.stack(rates)
        violation = lost - (lost * share).sum() - self.tolerance
        moved = (self.values + self.rate * violation).clamp(min=0)
        values = torch.where(full, moved, self.values)
        self.values = values / values.sum().clamp(min=1)
