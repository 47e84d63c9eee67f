"""Lagrange multipliers on the groups' losses, driven by their accuracy on the images last seen."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fairlth import metrics
from fairlth.metrics import Counts
from fairlth.training import Batch


class Multipliers:
    """A loss that weighs groups which lose more accuracy than the whole; as `loss`, each call is a dual and a primal step.

    For each group g, from the last `buffer` images of it that were trained on (constraints wait until those are full):

        v_g = [A_g(dense) - A_g] - [A(dense) - A] - tolerance
        lambda_g <- max(0, lambda_g + rate v_g)                    the dual step, first
        lambda   <- lambda / max(1, sum_g lambda_g)                so that no image ever has a negative weight: ours
        L + sum_g lambda_g (L_g - L)                               the loss returned, for the primal step

    A is the mean of the groups' accuracies weighted by their share of the training images. Groups absent from a batch have no
    L_g there. Multipliers that are 0 mean that every constraint holds without help.

    Source: Balancing Act, ICLR 2024 (merajhashemi/balancing-act), from its code.

    Args:
        dense: counts (groups,) of the dense net on the training images.
        rate: of the multipliers, at least 0.
        tolerance: accuracy that a group may lose beyond the whole, a fraction.
        buffer: images of a group behind its accuracy.
    """

    def __init__(self, dense: Counts, rate: float, tolerance: float = 0.01, buffer: int = 40) -> None:
        self.rate, self.tolerance, self.buffer = rate, tolerance, buffer
        self.dense = torch.from_numpy(metrics.group_accuracy(*dense)).float()
        self.share = torch.from_numpy(dense.total / dense.total.sum()).float()
        self.values = torch.zeros(len(self.share))
        self.last = [torch.zeros(0) for _ in self.share]

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The dual step on a batch's predictions, then the loss (scalar) with the new multipliers."""
        self.update(outputs.detach().argmax(1) == batch.y, batch.group)
        losses = F.cross_entropy(outputs, batch.y, reduction="none")
        members = F.one_hot(batch.group, len(self.values)).to(losses)
        sizes = members.sum(0)
        strength = self.values.to(losses) * (sizes > 0)
        own = (losses @ members) / sizes.clamp(min=1)
        return losses.mean() * (1 - strength.sum()) + strength @ own

    def update(self, right: Tensor, group: Tensor) -> None:
        """Remembers which images (n,) were predicted right, and moves the multipliers of groups with full buffers."""
        right, group = right.float().cpu(), group.cpu()
        self.last = [torch.cat([old, right[group == g]])[-self.buffer :] for g, old in enumerate(self.last)]
        full = torch.tensor([len(bits) == self.buffer for bits in self.last])
        if full.any():
            now = torch.stack([bits.mean() if len(bits) else torch.tensor(0.0) for bits in self.last])
            share = self.share * full / (self.share * full).sum()
            violation = (self.dense - now) - ((self.dense - now) * share).sum() - self.tolerance
            values = torch.where(full, (self.values + self.rate * violation).clamp(min=0), self.values)
            self.values = values / values.sum().clamp(min=1)
