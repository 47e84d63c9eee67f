"""Edge-popup: frozen random weights, and a score for each that learns whether it is used."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fairlth import config
from fairlth.masks import MaskSet, prunable


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
    return MaskSet.from_scores({"scores": scores}, n_keep)["scores"]


class Popup(nn.Module):
    """A network whose weights are frozen and used only where the absolute value of their score is among their layer's largest.

    The forward pass uses w * mask(|s|); backwards, dL/ds = dL/d(w mask) * w * sign(s) for every weight, used or not.

    Source: Ramanujan et al., 2020 (allenai/hidden-networks).

    Args:
        model: its parameters are frozen in place; its buffers, batch norm's statistics, go on following the data.
        budget: weights that each prunable layer uses, see `allocation`.
        seed: of the run; scores start Kaiming uniform with a = sqrt 5.
    """

    def __init__(self, model: nn.Module, budget: Mapping[str, int], seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(config.seed_for(seed, "scores"))
        self.model, self.budget = model.requires_grad_(False), dict(budget)
        self.scores = nn.ParameterDict(
            {_key(name): nn.Parameter(_kaiming(weight, generator)) for name, weight in prunable(model).items()}
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, side, side) to (n, classes)."""
        used = {
            name: weight * _KeepTop.apply(self.scores[_key(name)].abs(), self.budget[name])
            for name, weight in prunable(self.model).items()
        }
        return functional_call(self.model, used, (x,))

    def mask(self) -> MaskSet:
        """The weights that are used."""
        return MaskSet({name: keep_top(self.scores[_key(name)].abs(), n) for name, n in self.budget.items()})


def signed_constants(model: nn.Module, budget: Mapping[str, int], signed: bool = True) -> None:
    """Replaces each prunable weight by its sign times its layer's sqrt(2 / (fan_in * density)), in place.

    The density in the scale keeps activations at the size that the whole layer would give them, which matters where no batch
    norm follows (`scale_fan` in the source). `signed=False` drops the sign, which is known to fail: a negative control.
    """
    with torch.no_grad():
        for name, weight in prunable(model).items():
            fan_in = weight[0].numel() * budget[name] / weight.numel()
            constant = math.sqrt(2 / fan_in)
            weight.copy_(constant * weight.sign() if signed else torch.full_like(weight, constant))


def _kaiming(weight: Tensor, generator: torch.Generator) -> Tensor:
    scores = nn.init.kaiming_uniform_(torch.empty(weight.shape), a=math.sqrt(5), generator=generator)
    return scores.to(weight)


def _key(name: str) -> str:
    return name.replace(".", "/")  # a parameter's name may hold no dot
