"""Networks by name, each made with weights that one generator decides."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fairlth.masks import LAYERS, kernels
from fairlth.models import networks

Build = Callable[[tuple[int, ...], int], nn.Module]  # of (channels, side, side) and n_classes

MODELS: dict[str, Build] = {
    "mlp": networks.mlp,
    "convnet": networks.convnet,
    "vgg11_small": networks.vgg11_small,
    "resnet20": networks.resnet20,
    "resnet18": networks.resnet18,
    "vgg16": networks.vgg16,
    "mobilenet_v2": networks.mobilenet_v2,
}


class Own(NamedTuple):
    """What is known of a model of your own.

    `fingerprint` tells it from others of its name. `kept`: it starts from the weights it comes
    with; `trained`: with these it is the dense net.
    """

    fingerprint: str
    kept: bool = False
    trained: bool = False


OWN: dict[str, Own] = {}  # your own models by name


def build(
    name: str, in_shape: tuple[int, ...], n_classes: int, generator: torch.Generator
) -> nn.Module:
    """A network with weights drawn from `generator`.

    Every weight that can be pruned is drawn Kaiming normal (He et al., 2015), attention too, since
    magnitudes of all layers are compared; biases are 0, batch norm is the identity. What else a
    network of your own draws from torch, numpy or Python when it is built depends on the
    generator's first seed. One that starts from the weights it comes with has those.

    Args:
        name: a key of MODELS.
        in_shape: (channels, side, side) of one image.
        n_classes: the number of logits.
        generator: a CPU generator; the same state gives the same bits.

    Raises:
        ValueError: the name is unknown.
    """
    check(name)
    kept = name in OWN and OWN[name].kept
    return draw(MODELS[name], in_shape, n_classes, generator, kept)


def draw(
    make: Build,
    in_shape: tuple[int, ...],
    n_classes: int,
    generator: torch.Generator,
    kept: bool = False,
) -> nn.Module:
    """What `make` builds, its kernels drawn from `generator` unless they are kept; see `build`.

    What is frozen stays as it was built.
    """
    with seeded(generator.initial_seed()):  # what constructors draw depends on the seed, too
        model = make(in_shape, n_classes)
    if kept:
        return model
    for weight in kernels(model).values():
        if weight.requires_grad:
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    for module in model.modules():
        if isinstance(module, LAYERS):
            _zero(module.bias)
        elif isinstance(module, nn.MultiheadAttention):
            _zero(module.in_proj_bias)
    return model


def _zero(bias: Tensor | None) -> None:
    """Sets biases to 0 where there are any that learn."""
    if bias is not None and bias.requires_grad:
        nn.init.zeros_(bias)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch, numpy and Python follow from `seed` inside, then go on as before."""
    of_python = random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002, networks may draw from it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002


def fingerprint(name: str) -> str:
    """Tells a model of your own from others of its name; "" for those of the package."""
    return OWN[name].fingerprint if name in OWN else ""


def given_as_trained(name: str) -> bool:
    """Whether a model is the dense net as it was given."""
    return name in OWN and OWN[name].trained


def check(name: str) -> None:
    """Raises ValueError if there is no such model."""
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise ValueError(
            f"model={name!r} is unknown: choose one of {known}, or add your own by models.add, in "
            "the command `fairlth ticket` by --network FILE.py:FUNCTION."
        )
