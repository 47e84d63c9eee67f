"""Your own network: makes it known by a name, and checks that it can be trained and pruned."""

import copy
import hashlib

import torch
from torch import Tensor, nn

from fairlth import config
from fairlth.masks import prunable
from fairlth.models.registry import MODELS, OWN, Build


def add(
    name: str,
    build_it: Build | nn.Module,
    in_shape: tuple[int, ...] = (3, 32, 32),
    n_classes: int = 3,
) -> nn.Module:
    """Makes a network of your own known as `name`, so that `Run(model=name)` trains and prunes it; returns one, for a look.

    Its convolutions (`nn.Conv2d`) and linear layers are what is pruned. Every method of a seed starts from the same weights:
    kernels are drawn anew by `build`, so pretrained ones are lost. Adding the name again replaces it; shared trainings and
    records know the network that they were made with.

    Args:
        name: for file names and tables: letters, digits, _ and -.
        build_it: makes a network for an image shape and a number of classes; or a network, which then fits these two alone, and
            of which every layer that can is reset.
        in_shape, n_classes: what it is tried with now.

    Raises:
        ValueError: the name is taken; or the network has nothing to prune, lazy, shared or frozen weights, a layer without
            part in the output, outputs other than (n, n_classes), or draws random numbers in training, as dropout does.
    """
    config.check_name(name)
    if name in MODELS and name not in OWN:
        raise ValueError(f"{name!r} is a model that comes with the package: choose another name.")
    make = _renewed(build_it) if isinstance(build_it, nn.Module) else build_it
    model = _try(name, make, in_shape, n_classes)
    MODELS[name] = _checked(name, make)
    OWN[name] = describe(model, in_shape)
    return model


def _try(name: str, make: Build, in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Builds the network once, checks all of it, and returns it in evaluation mode with weights of seed 0."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = make(in_shape, n_classes)
    except Exception as error:
        raise ValueError(
            f"model {name!r} cannot be built for images of {in_shape} and {n_classes} classes: {error}."
        ) from error
    check_layers(name, model)
    check_fits(name, model, in_shape, n_classes)
    return model.eval()


def _checked(name: str, make: Build) -> Build:
    """A builder that checks the layers of every network that it makes."""

    def build_it(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        model = make(in_shape, n_classes)
        check_layers(name, model)
        return model

    return build_it


def _renewed(model: nn.Module) -> Build:
    """Copies of a network in which every layer that can is reset."""
    template = copy.deepcopy(model)

    def build_it(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        fresh = copy.deepcopy(template)
        for module in fresh.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return fresh

    return build_it


def check_layers(name: str, model: nn.Module) -> None:
    """Raises ValueError unless the network has weights to prune, each a plain parameter of its own."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} is a {type(model).__name__}: expected an nn.Module.")
    if lazy := [layer for layer, value in model.named_parameters() if nn.parameter.is_lazy(value)]:
        raise ValueError(
            f"model {name!r}: {lazy[0]} is lazy, of no size yet: give every layer its sizes."
        )
    weights, parameters = prunable(model), dict(model.named_parameters())
    if not weights:
        raise ValueError(
            f"model {name!r} has no Conv2d and no Linear layer: there is nothing to prune."
        )
    for layer, weight in weights.items():
        if parameters.get(layer) is not weight:
            raise ValueError(
                f"model {name!r}: {layer} is shared or computed from others: give the layer a plain weight."
            )
        if not weight.requires_grad:
            raise ValueError(
                f"model {name!r}: {layer} is frozen: let it be trained, every weight must learn."
            )


def check_fits(name: str, model: nn.Module, in_shape: tuple[int, ...], n_classes: int) -> None:
    """Raises ValueError unless the network gives (n, n_classes) for images and draws no random numbers while it trains."""
    x, before = (
        torch.zeros(4, *in_shape, device=next(model.parameters()).device),
        torch.get_rng_state(),
    )
    for training in (False, True):
        try:
            outputs = model.train(training)(x)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ValueError(
                f"model {name!r} fails on images of shape {in_shape}: {reason}."
            ) from error
        if not isinstance(outputs, Tensor) or outputs.shape != (4, n_classes):
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(
                f"model {name!r} gives {got} for 4 images, expected (4, {n_classes}): let it end in its classes."
            )
    if not torch.equal(before, torch.get_rng_state()):
        torch.set_rng_state(before)
        raise ValueError(
            f"model {name!r} draws random numbers while it trains, from no seed of the run: set its dropout to 0."
        )
    weights = prunable(model)
    found = torch.autograd.grad(outputs.sum(), list(weights.values()), allow_unused=True)
    if idle := [layer for layer, gradient in zip(weights, found, strict=True) if gradient is None]:
        raise ValueError(
            f"model {name!r}: {idle[0]} has no part in the output: leave the layer out."
        )


def describe(model: nn.Module, in_shape: tuple[int, ...]) -> str:
    """A fingerprint of a network in evaluation mode: its layers, shapes, and outputs (three digits) for one image."""
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    with torch.no_grad():
        outputs = model(
            torch.linspace(-1, 1, in_shape[0] * in_shape[1] * in_shape[2]).reshape(1, *in_shape)
        )
    told = repr((str(model), shapes, [f"{value:.2e}" for value in outputs.flatten().tolist()]))
    return hashlib.sha256(told.encode()).hexdigest()[:12]
