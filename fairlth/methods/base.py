"""Parts that the methods call: a fresh network, the dense training, what a method returns."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fairlth import config
from fairlth.config import Run
from fairlth.images import Data
from fairlth.masks import MaskSet
from fairlth.models import build


@dataclass
class Ticket:
    """What a method returns.

    `model` trained, its pruned weights exactly 0; `mask` which weights are kept; `cost` in dense-training equivalents (epochs
    trained over the schedule's epochs); `feasible` whether the accuracy constraint was kept on validation data, None for
    methods without one; `trace` one row per epoch of refinement, or what else the method wants remembered.
    """

    model: nn.Module
    mask: MaskSet
    cost: float
    feasible: bool | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def fresh_model(run: Run, data: Data) -> nn.Module:
    """The run's network, the same initial weights for every method of a seed, on the data's device."""
    generator = torch.Generator().manual_seed(config.seed_for(run.seed, "init"))
    return build(run.model, data.in_shape, data.train.n_classes, generator).to(data.train.x.device)
