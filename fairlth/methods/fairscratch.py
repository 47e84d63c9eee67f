"""FairScratch (Fair Scratch Tickets): a fair subnetwork found in random weights by edge-popup.

Its weights stay as drawn, or are trained afterwards. Edge-popup: frozen weights, and a score for
each that learns whether it is used. The losses have a differentiable penalty on unfairness.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from fairlth import config
from fairlth.config import Run
from fairlth.conflict import fairness_loss, fairness_weights, running_means
from fairlth.images import Data, Split
from fairlth.lottery import Dense, Ticket
from fairlth.masks import MaskSet, prunable
from fairlth.methods.allocation import uniform
from fairlth.training import Batch, Loss, fit


def fairscratch(run: Run, data: Data, dense: Dense) -> Ticket:
    """Edge-popup on frozen signed-constant weights with a fairness penalty; no weight is trained.

    Scores are trained on cross-entropy + lambda * variance of the groups' losses, uniform density
    per layer, batch norm without scale and shift. `pressure` is lambda.

    Source: Tang et al., CVPR 2023 (HungerPWAY/Fair-Scratch-Tickets), edge-popup from Ramanujan et
    al., 2020. Reconstructed: the two-sided surrogate for any number of classes or groups, where the
    source has one-sided ones for two of each; the run's own schedule instead of three epochs;
    weights scaled for the density, an option that the source leaves off.
    """
    popup = search(run, data, dense, _surrogate(run, data))
    mask = popup.mask()
    popup.thaw()
    mask.apply(popup.model)
    return Ticket(popup.model, mask, cost=1.0)


def fairscratch_train(run: Run, data: Data, dense: Dense) -> Ticket:
    """FairScratch's mask with the run's initial weights trained under it, by the same loss (the
    source's `ft_reinit`).
    """
    loss = _surrogate(run, data)
    mask = search(run, data, dense, loss).mask()
    model = dense.fresh()
    mask.apply(model)
    fit(
        model,
        data,
        run.settings.schedule,
        seed=run.seed,
        after_step=mask.apply,
        loss=loss,
        label="found ticket",
    )
    return Ticket(model, mask, cost=2.0)


def search(run: Run, data: Data, dense: Dense, loss: Loss, signed: bool = True) -> "Popup":
    """Trains the scores of a frozen network for the schedule's epochs."""
    model = dense.fresh()
    budget = uniform(run.density, prunable(model))
    signed_constants(model, budget, signed)
    popup = Popup(model, budget, run.seed)
    fit(popup, data, run.settings.schedule, seed=run.seed, loss=loss, label="searching")
    return popup


def _surrogate(run: Run, data: Data) -> Loss:
    return loss_variance(run.knob, data.train.n_groups)


class _KeepTop(torch.autograd.Function):
    """Scores to the 0-1 mask of the `n_keep` largest; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, n_keep: int) -> Tensor:
        return keep_top(scores, n_keep).to(scores)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def keep_top(scores: Tensor, n_keep: int) -> Tensor:
    """The bool mask of the `n_keep` largest scores, ties to the earlier one."""
    if scores.is_cuda:  # counting ties would let a GPU wait, in each layer and step
        order = scores.flatten().argsort(descending=True, stable=True)
        kept = torch.zeros_like(order, dtype=torch.bool)
        return kept.scatter(0, order[:n_keep], True).reshape(scores.shape)
    return MaskSet.from_scores({"scores": scores}, n_keep)["scores"]


class Popup(nn.Module):
    """A network whose weights are frozen and used only where the absolute value of their score is
    among their layer's largest.

    The forward pass uses w * mask(|s|); backwards, dL/ds = dL/d(w mask) * w * sign(s) for every
    weight, used or not.

    Source: Ramanujan et al., 2020 (allenai/hidden-networks).

    Args:
        model: its parameters are frozen in place; its buffers, batch norm's statistics, go on
            following the data.
        budget: weights that each prunable layer uses, see `allocation`.
        seed: of the run; scores start Kaiming uniform with a = sqrt 5.
    """

    def __init__(self, model: nn.Module, budget: Mapping[str, int], seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(config.seed_for(seed, "scores"))
        weights = prunable(model)
        self.learned = [value for value in model.parameters() if value.requires_grad]
        self.model = model.requires_grad_(False)
        self.budget = dict(budget)
        self.scores = nn.ParameterDict(
            {
                _key(name): nn.Parameter(_kaiming(weight, generator))
                for name, weight in weights.items()
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, side, side) to (n, classes)."""
        used = {
            name: self.model.get_parameter(name) * _KeepTop.apply(self.scores[_key(name)].abs(), n)
            for name, n in self.budget.items()
        }
        return functional_call(self.model, used, (x,))

    def thaw(self) -> None:
        """Lets the network's parameters learn that did before."""
        for value in self.learned:
            value.requires_grad_(True)

    def mask(self) -> MaskSet:
        """The weights that are used."""
        return MaskSet(
            {name: keep_top(self.scores[_key(name)].abs(), n) for name, n in self.budget.items()}
        )


def signed_constants(model: nn.Module, budget: Mapping[str, int], signed: bool = True) -> None:
    """Replaces each prunable weight by its sign times its layer's sqrt(2 / (fan_in * density)), in
    place.

    The density in the scale keeps activations at the size that the whole layer would give them,
    which matters where no batch norm follows (`scale_fan` in the source). `signed=False` drops the
    sign, which is known to fail: a negative control.
    """
    with torch.no_grad():
        for name, weight in prunable(model).items():
            fan_in = weight[0].numel() * budget[name] / weight.numel()
            constant = math.sqrt(2 / fan_in)
            weight.copy_(constant * weight.sign() if signed else torch.full_like(weight, constant))


def _kaiming(weight: Tensor, generator: torch.Generator) -> Tensor:
    scores = nn.init.kaiming_uniform_(
        torch.empty(weight.shape), a=math.sqrt(5), generator=generator
    )
    return scores.to(weight)


def _key(name: str) -> str:
    return name.replace(".", "/")  # a parameter's name may hold no dot


def loss_variance(strength: float, n_groups: int) -> Loss:
    """Cross-entropy + strength * (1/G) sum_g (L_g - mean L)^2 over the groups of a batch:
    two-sided, any number of groups.

    With more groups than a quarter of the batch a group's mean would be that of an image or two;
    then L_g are running averages, and the penalty's gradient is taken with them
    (`conflict.fairness_weights`).
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
    """Cross-entropy + strength * gap^2, the gap between the two groups' mean logit of class 1
    (demographic parity).

    One-sided it is strength * gap, the covariance form of HungerPWAY/Fair-Scratch-Tickets: it has
    no minimum where the gap is 0, and overshoots into the opposite bias as strength grows.

    Raises:
        ValueError: the task has not two classes, or there are not two groups.
    """
    if split.n_classes != 2 or split.n_groups != 2:
        raise ValueError(
            "the parity surrogate is for 2 classes and 2 groups, and these data have "
            f"{split.n_classes} classes and "
            f"{split.n_groups} groups: use loss_variance."
        )

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        gap = logit_gap(outputs, batch.group)
        return F.cross_entropy(outputs, batch.y) + strength * (gap.square() if two_sided else gap)

    return loss


def logit_gap(outputs: Tensor, group: Tensor) -> Tensor:
    """Mean logit of class 1 over class 0 in group 1 less that in group 0; 0 where a group is
    absent, and 0 is fair.
    """
    logit = outputs[:, 1] - outputs[:, 0]
    members = F.one_hot(group, 2).to(outputs)
    sizes = members.sum(0)
    if bool((sizes == 0).any()):
        return torch.zeros((), device=outputs.device)
    means = (logit @ members) / sizes
    return means[1] - means[0]
