"""Weights that a network comes with: what shows them, what a reset leaves of them, their hash."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from fairlth.masks import LAYERS, layer_of

NORMS = nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm
RESETS = ("reset_parameters", "_reset_parameters")  # how torch's layers name it


def check_told(weights: str | None, trained: bool) -> None:
    """Raises ValueError unless `models.add` can be told these two together."""
    if weights not in (None, "draw", "keep"):
        raise ValueError(f'weights={weights!r} is refused: expected "keep" or "draw".')
    if type(trained) is not bool:
        raise ValueError(f"trained={trained!r} is refused: expected True or False.")
    if trained and weights == "draw":
        raise ValueError(
            'trained=True and weights="draw" contradict each other: leave one of them out.'
        )


def signs_of_training(model: nn.Module) -> str:
    """What looks as if a network had been trained, for a sentence; "" where nothing does.

    A fresh norm has counted no batches, its statistics are 0 and 1, its biases 0, its weights 1, or
    all 0 as at the end of residual blocks (Goyal et al., 2017). A fresh layer has biases that are
    all alike, or it lies within the bounds of torch's reset, as do its biases. A fresh network that
    was drawn wider, such as torchvision's VisionTransformer, looks trained, too.
    """
    if seen := statistics_of_training(model):
        return seen
    for name, module in model.named_modules():
        seen = ""
        if isinstance(module, NORMS):
            seen = _norm_weights(module)
        elif isinstance(module, LAYERS):
            seen = _biases(module)
        if seen:
            return f"{name or type(module).__name__} {seen}"
    return ""


def statistics_of_training(model: nn.Module) -> str:
    """What the running statistics of a network's norms show, for a sentence; "" where nothing."""
    for name, module in model.named_modules():
        if seen := _statistics(module):
            return f"{name or type(module).__name__} {seen}"
    return ""


def _statistics(module: nn.Module) -> str:
    counted = getattr(module, "num_batches_tracked", None)
    if isinstance(counted, Tensor) and counted > 0:
        return f"has counted {int(counted)} batches"
    mean = getattr(module, "running_mean", None)
    variance = getattr(module, "running_var", None)
    is_other = isinstance(mean, Tensor) and bool((mean != 0).any())
    if is_other or (isinstance(variance, Tensor) and bool((variance != 1).any())):
        return "has statistics of images"
    return ""


def _norm_weights(norm: nn.Module) -> str:
    weight = getattr(norm, "weight", None)
    bias = getattr(norm, "bias", None)
    if weight is not None and not (bool((weight == 1).all()) or bool((weight == 0).all())):
        return "has weights other than 1"
    if bias is not None and bool((bias != 0).any()):
        return "has biases other than 0"
    return ""


def _biases(layer: Any) -> str:
    bias = layer.bias
    if bias is None or was_set(bias):
        return ""
    bound = (1 + 1e-5) / layer.weight[0].numel() ** 0.5  # of torch's reset, for both
    if layer.weight.abs().max() <= bound and bias.abs().max() <= bound:
        return ""
    return "has weights and biases other than a reset gives"


def same_for_two_seeds(one: nn.Module, other: nn.Module) -> str:
    """What shows that a builder reads trained weights, from what it gives for two seeds.

    A kernel of one value everywhere was set and not trained.
    """
    if seen := statistics_of_training(one):
        return seen
    for name in unchanged(one, other):
        module = one.get_submodule(layer_of(name))
        if isinstance(module, LAYERS) and module.weight.dim() > 1:
            return f"{name} is the same for two seeds"
    return ""


def unchanged(one: nn.Module, other: nn.Module) -> list[str]:
    """Parameters that two networks have in common, bit by bit, but for those that were set or are
    frozen, which no draw changes.
    """
    others = dict(other.named_parameters())
    return [
        name
        for name, value in one.named_parameters()
        if name in others
        and value.requires_grad
        and value.shape == others[name].shape
        and torch.equal(value, others[name])
        and not was_set(value)
    ]


def was_set(value: Tensor) -> bool:
    """Whether all values of a tensor are alike; where there is only one, whether it is 0 or 1."""
    if value.numel() == 1:
        return value.item() in (0, 1)
    return bool((value == value.reshape(-1)[:1]).all())


def reset(model: nn.Module) -> None:
    """Resets every layer that can be, its norms' statistics too, in place. What is frozen stays."""
    frozen = [value for value in model.parameters() if not value.requires_grad]
    as_given = [value.clone() for value in frozen]
    for module in model.modules():
        for method in RESETS:
            if callable(again := getattr(module, method, None)):
                again()
    with torch.no_grad():
        for value, before in zip(frozen, as_given, strict=True):
            value.copy_(before)


def check_all_is_drawn(name: str, one: nn.Module, other: nn.Module) -> None:
    """Raises ValueError where a reset for two seeds left a parameter as it was given."""
    left = [name for name in unchanged(one, other) if not _is_reset(one, name)]
    if left:
        which = f"{left[0]} and {len(left) - 1} more are" if len(left) > 1 else f"{left[0]} is"
        raise ValueError(
            f"model {name!r}: {which} in no layer that has reset_parameters and cannot be drawn "
            'anew: give models.add a function that builds the network, or weights="keep".'
        )


def _is_reset(model: nn.Module, name: str) -> bool:
    """Whether the layer that has a parameter resets it; PReLU's is then the same each time."""
    layer = model.get_submodule(layer_of(name))
    return any(callable(getattr(layer, method, None)) for method in RESETS)


def check_all_is_given(name: str, one: nn.Module, other: nn.Module) -> None:
    """Raises ValueError where a network that is given as trained has parts that a seed decides."""
    others = other.state_dict()
    for layer, value in one.state_dict().items():
        if not torch.equal(value, others[layer]):
            raise ValueError(
                f"model {name!r}: {layer} is drawn anew for each seed, so the network is not "
                'trained: load all its weights, or train it by weights="keep" without trained=True.'
            )


def check_finite(name: str, model: nn.Module) -> None:
    """Raises ValueError where a parameter, or a norm's statistic, is not finite."""
    values: dict[str, Tensor] = dict(model.named_parameters())
    for layer, value in model.named_buffers():
        if layer.endswith(("running_mean", "running_var")):
            values[layer] = value
    for layer, value in values.items():
        if not value.isfinite().all():
            raise ValueError(
                f"model {name!r}: {layer} has values that are not finite: give it the weights of a "
                "training that did not diverge."
            )


def digest(model: nn.Module) -> str:
    """A hash over all parameters and buffers, names and types included."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(repr((name, tuple(value.shape), str(value.dtype))).encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
