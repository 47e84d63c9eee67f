"""Surrogates: losses with a differentiable penalty on unfairness."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fairlth.conflict import fairness_loss, fairness_weights, running_means
from fairlth.images import Split
from fairlth.training import Batch, Loss


def loss_variance(strength: float, n_groups: int) -> Loss:
    """Cross-entropy + strength * (1/G) sum_g (L_g - mean L)^2 over the groups of a batch: two-sided, any number of groups.

    With more groups than a quarter of the batch a group's mean would be that of an image or two; then L_g are running
    averages, and the penalty's gradient is taken with them (`conflict.fairness_weights`).
    """
    running = torch.full((n_groups,), torch.nan)

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        nonlocal running
        losses = F.cross_entropy(outputs, batch.y, reduction="none")
        if n_groups <= len(losses) / 4:
            return losses.mean() + strength * fairness_loss(losses, batch.group, n_groups)
        running = running_means(running.to(losses.device), losses.detach(), batch.group)
        return losses.mean() + strength * (losses * fairness_weights(running, batch.group)).sum()

    return loss


def parity(strength: float, split: Split, two_sided: bool = True) -> Loss:
    """Cross-entropy + strength * gap^2, the gap between the two groups' mean logit of class 1 (demographic parity).

    One-sided it is strength * gap, the covariance form of HungerPWAY/Fair-Scratch-Tickets: it has no minimum where the gap is
    0, and overshoots into the opposite bias as strength grows.

    Raises:
        ValueError: the task has not two classes, or there are not two groups.
    """
    if split.n_classes != 2 or split.n_groups != 2:
        raise ValueError(
            f"the parity surrogate is for 2 classes and 2 groups, and these data have {split.n_classes} classes and "
            f"{split.n_groups} groups: use loss_variance."
        )

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        gap = logit_gap(outputs, batch.group)
        return F.cross_entropy(outputs, batch.y) + strength * (gap.square() if two_sided else gap)

    return loss


def logit_gap(outputs: Tensor, group: Tensor) -> Tensor:
    """Mean logit of class 1 over class 0 in group 1 less that in group 0; 0 where a group is absent, and 0 is fair."""
    logit, members = outputs[:, 1] - outputs[:, 0], F.one_hot(group, 2).to(outputs)
    sizes = members.sum(0)
    if bool((sizes == 0).any()):
        return torch.zeros((), device=outputs.device)
    means = (logit @ members) / sizes
    return means[1] - means[0]
