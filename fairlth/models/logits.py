"""The logits of a network that gives more than these."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fairlth.models.registry import seeded

N_IMAGES = 2  # of a probe
NAMES = ("logits", "out")  # what torchvision and Hugging Face call them


def give_logits(model: nn.Module) -> None:
    """Lets a network give its logits alone, by a hook, wherever it is called."""
    model.register_forward_hook(_take)


def logits_in(outputs: Any) -> Any:
    """The logits among a network's outputs; the outputs as they are where none is called so.

    They are `logits` of a named tuple or an object (torchvision's googlenet and inception_v3 while
    they train, Hugging Face), or "logits" or "out" of a dictionary (torchvision's segmentation).
    """
    if isinstance(outputs, Tensor):
        return outputs
    for name in NAMES:
        found = outputs.get(name) if isinstance(outputs, Mapping) else None
        found = getattr(outputs, name, None) if found is None else found
        if isinstance(found, Tensor):
            return found
    return outputs


def without_part(model: nn.Module, in_shape: tuple[int, ...]) -> list[str]:
    """The parameters that lead to other outputs than the logits alone, by name.

    They are those of auxiliary classifiers, and there are none where a network gives logits alone.
    One that fails has none, too: `check_fits` says why.
    """
    try:
        probe = copy.deepcopy(model)
        with seeded(0):
            images = torch.rand(N_IMAGES, *in_shape)
            given = [probe.train(mode).forward(images) for mode in (True, False)]  # without hook
        if all(isinstance(outputs, Tensor) for outputs in given):
            return []
        learning = {name: p for name, p in probe.named_parameters() if p.requires_grad}
        total = torch.stack([logits_in(outputs).sum() for outputs in given]).sum()
        found = torch.autograd.grad(total, list(learning.values()), allow_unused=True)
    except Exception:
        return []
    return [name for name, value in zip(learning, found, strict=True) if value is None]


def _take(model: nn.Module, images: tuple[Tensor, ...], outputs: Any) -> Any:
    return logits_in(outputs)
