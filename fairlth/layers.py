"""What of a network is pruned, and whether a network of your own can be."""

import hashlib

import torch
from torch import Tensor, nn


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """The weights that pruning may remove, by name: every convolution and linear kernel, first and last layer included.

    Biases and batch norm always stay, as in the reference code of lottery tickets (facebookresearch/open_lth).
    """
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def check_layers(name: str, model: nn.Module) -> None:
    """Raises ValueError unless the network has weights to prune, each a plain parameter of its own."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} is a {type(model).__name__}: expected an nn.Module.")
    if lazy := [layer for layer, value in model.named_parameters() if nn.parameter.is_lazy(value)]:
        raise ValueError(f"model {name!r}: {lazy[0]} is lazy, of no size yet: give every layer its sizes.")
    weights, parameters = prunable(model), dict(model.named_parameters())
    if not weights:
        raise ValueError(f"model {name!r} has no Conv2d and no Linear layer: there is nothing to prune.")
    for layer, weight in weights.items():
        if parameters.get(layer) is not weight:
            raise ValueError(f"model {name!r}: {layer} is shared or computed from others: give the layer a plain weight.")
        if not weight.requires_grad:
            raise ValueError(f"model {name!r}: {layer} is frozen: let it be trained, every weight must learn.")


def check_fits(name: str, model: nn.Module, in_shape: tuple[int, ...], n_classes: int) -> None:
    """Raises ValueError unless the network gives (n, n_classes) for images and draws no random numbers while it trains."""
    x, before = torch.zeros(4, *in_shape, device=next(model.parameters()).device), torch.get_rng_state()
    for training in (False, True):
        try:
            outputs = model.train(training)(x)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ValueError(f"model {name!r} fails on images of shape {in_shape}: {reason}.") from error
        if not isinstance(outputs, Tensor) or outputs.shape != (4, n_classes):
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(f"model {name!r} gives {got} for 4 images, expected (4, {n_classes}): let it end in its classes.")
    if not torch.equal(before, torch.get_rng_state()):
        torch.set_rng_state(before)
        raise ValueError(f"model {name!r} draws random numbers while it trains, from no seed of the run: set its dropout to 0.")
    weights = prunable(model)
    found = torch.autograd.grad(outputs.sum(), list(weights.values()), allow_unused=True)
    if idle := [layer for layer, gradient in zip(weights, found, strict=True) if gradient is None]:
        raise ValueError(f"model {name!r}: {idle[0]} has no part in the output: leave the layer out.")


def describe(model: nn.Module, in_shape: tuple[int, ...]) -> str:
    """A fingerprint of a network in evaluation mode: its layers, shapes, and outputs (three digits) for one image."""
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    with torch.no_grad():
        outputs = model(torch.linspace(-1, 1, in_shape[0] * in_shape[1] * in_shape[2]).reshape(1, *in_shape))
    told = repr((str(model), shapes, [f"{value:.2e}" for value in outputs.flatten().tolist()]))
    return hashlib.sha256(told.encode()).hexdigest()[:12]
