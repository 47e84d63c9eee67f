"""Your own network: makes it known by a name after all checks."""

import copy
import hashlib
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fairlth import config
from fairlth.masks import prunable
from fairlth.models import given, reach
from fairlth.models.checks import N_IMAGES, check_fits, check_layers, check_names, first_line
from fairlth.models.logits import give_logits, without_part
from fairlth.models.registry import MODELS, OWN, Build, Own, draw, seeded


def add(
    name: str,
    build_it: Build | nn.Module,
    in_shape: tuple[int, ...] = (3, 32, 32),
    n_classes: int = 3,
    weights: str | None = None,
    trained: bool = False,
    keep: Sequence[str] = (),
) -> nn.Module:
    """Makes your network known as `name`, so that `Run(model=name)` trains and prunes it.

    Its convolutions, linear layers and `nn.MultiheadAttention` are pruned (`masks.kernels`), but
    not those that `keep` names or that are frozen (`requires_grad` False), which stay as they are;
    only their batch norm's statistics follow the images. A table that says so is printed. Of a
    network that gives more than logits these are taken (see `logits.logits_in`), and what leads to
    other outputs alone is frozen. Every method of a seed starts from the same weights. Adding the
    name again replaces it; shared trainings and records know the network, and the given weights,
    that they were made with.

    A network has to be a function of its seed, its weights and the images. So it is built
    and run several times here.

    Args:
        name: for file names and tables: letters, digits, _ and -.
        build_it: a function that builds the network for an image shape and a number of classes;
            or a network, which then fits these two alone.
        in_shape: (channels, side, side) of the images that it is tried with now.
        n_classes: the number of classes that it is tried with now.
        weights: "draw": they are drawn anew for each seed, by `build`; of a network, or of what a
            builder reads from a file, every layer is reset first, and buffers that no layer resets
            stay. "keep": every seed starts from the weights as they are given, and the dense
            training is a fine-tuning; rewinding goes to its state after the rewind epochs. None:
            "draw", if nothing shows that the network comes with trained weights; one without norms
            and biases shows nothing.
        trained: the network as given is the dense net: nothing is trained before the first level,
            and rewinding goes to the given weights (see `lottery.take_as_trained`). "keep" then
            goes without saying.
        keep: names of layers that stay whole, such as ("head", "stem.*"), with `*` as in a shell.
            The network carries them as its attribute `keep_whole`.

    Returns one network in evaluation mode, for a look.

    Raises:
        ValueError: the name is taken; `in_shape` or `n_classes` cannot be; the network looks
            trained and `weights` is not told; it has weights that are not finite, or that should be
            drawn and cannot be; `keep` names no layer or all of them; the function does not build
            the same network anew with each call; or the network is one that `check_layers` or
            `check_fits` refuses.
    """
    config.check_name(name)
    if name in MODELS and name not in OWN:
        raise ValueError(f"{name!r} is a model that comes with the package: choose another name.")
    _check_sizes(in_shape, n_classes)
    given.check_told(weights, trained)
    kept = trained or weights == "keep"
    copies = _copies(name, build_it)
    layers = reach.patterns(keep)
    make = partial(_build, name, copies, layers)
    seen = "" if kept else _signs_of_training(name, build_it, make, in_shape, n_classes)
    if seen and weights is None:
        raise ValueError(
            f"model {name!r} looks trained ({seen}): give models.add "
            'weights="keep" to start from them, or weights="draw" to lose them and draw all anew '
            "for each seed."
        )
    aside = without_part(_drawn(make, in_shape, n_classes, 0, kept=True), in_shape)
    renewed = bool(seen) or (isinstance(build_it, nn.Module) and not kept)
    if renewed:
        make = partial(_build, name, partial(_reset, copies), layers)
    if aside:
        make = partial(_freeze, make, aside)
    first, again, other = (_drawn(make, in_shape, n_classes, seed, kept) for seed in (0, 0, 1))
    given.check_finite(name, first)
    check_fits(name, first, in_shape, n_classes)
    _check_built_anew(name, first, again)
    _check_built_alike(name, first, again)
    _check_all_is_stored(name, first, other, in_shape)
    if renewed or trained:
        first, other = (_drawn(make, in_shape, n_classes, seed, kept) for seed in (0, 1))
    if renewed:
        given.check_all_is_drawn(name, first, other)
    if trained:
        given.check_all_is_given(name, first, other)
    MODELS[name] = make
    OWN[name] = Own(describe(first, in_shape, kept, trained), kept, trained)
    print(reach.table(first))  # noqa: T201
    return first.eval()


def describe(
    model: nn.Module, in_shape: tuple[int, ...], kept: bool = False, trained: bool = False
) -> str:
    """A fingerprint of a network: its layers, shapes, what can be pruned and what is frozen.

    Also what it computes, in three digits: outputs for an image, and outputs and gradients of a
    training step. Of weights that are kept it has a hash over all of them.
    """
    told_more = []
    if kept:
        told_more += ["trained" if trained else "kept", given.digest(model)]
    told_more += [layer for layer, value in model.named_parameters() if not value.requires_grad]
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    outputs = [f"{value:.2e}" for value in _outputs(model, in_shape).flatten().tolist()]
    outputs += _trained_on(model, in_shape)
    told = repr((str(model.eval()), shapes, outputs, [*prunable(model)], *told_more))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _check_sizes(in_shape: tuple[int, ...], n_classes: int) -> None:
    """Raises ValueError unless images and classes have a size that networks can be tried with."""
    sizes = in_shape if isinstance(in_shape, tuple | list) else ()
    if len(sizes) != 3 or not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(
            f"in_shape={in_shape!r} is refused: expected (channels, side, side), three whole "
            "numbers of at least 1."
        )
    if type(n_classes) is not int or n_classes < 2:
        raise ValueError(
            f"n_classes={n_classes!r} is refused: expected a whole number of at least 2."
        )


def _copies(name: str, build_it: Build | nn.Module) -> Build:
    """The builder as it is; of a network one that copies it."""
    if not isinstance(build_it, nn.Module):
        return build_it
    check_layers(name, build_it)
    try:
        return partial(_copy, copy.deepcopy(build_it))
    except Exception as error:
        raise ValueError(
            f"model {name!r} cannot be copied ({first_line(error)}): "
            "give models.add a function that builds it."
        ) from error


def _copy(template: nn.Module, in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return copy.deepcopy(template)


def _reset(make: Build, in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    model = make(in_shape, n_classes)
    given.reset(model)
    return model


def _freeze(make: Build, aside: list[str], in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    model = make(in_shape, n_classes)
    for layer in aside:
        model.get_parameter(layer).requires_grad_(False)
    return model


def _signs_of_training(
    name: str,
    build_it: Build | nn.Module,
    make: Build,
    in_shape: tuple[int, ...],
    n_classes: int,
) -> str:
    """What shows that a network or a builder comes with trained weights; "" where nothing does."""
    if isinstance(build_it, nn.Module):
        return given.signs_of_training(build_it)
    first, other = (_drawn(make, in_shape, n_classes, seed, kept=True) for seed in (0, 1))
    if _first_shared(first, other):  # which is refused later, for that reason
        return ""
    return given.same_for_two_seeds(first, other)


def _build(
    name: str, make: Build, keep: tuple[str, ...], in_shape: tuple[int, ...], n_classes: int
) -> nn.Module:
    """What the user's builder gives, checked, on the CPU."""
    try:
        model = make(in_shape, n_classes)
    except Exception as error:
        raise ValueError(
            f"model {name!r} cannot be built for in_shape={in_shape} and n_classes={n_classes}: "
            f"{first_line(error)}."
        ) from error
    if keep and isinstance(model, nn.Module):
        reach.keep_layers(name, model, keep)
    check_layers(name, model)
    check_names(name, model)
    model.cpu()
    give_logits(model)
    for module in model.modules():
        for layer, value in module._buffers.items():
            if value is not None:  # it may be a constant that all networks of the builder share
                module._buffers[layer] = value.clone()
    return model


def _drawn(
    make: Build, in_shape: tuple[int, ...], n_classes: int, seed: int, kept: bool
) -> nn.Module:
    return draw(make, in_shape, n_classes, torch.Generator().manual_seed(seed), kept)


def _check_built_anew(name: str, first: nn.Module, second: nn.Module) -> None:
    """Raises ValueError where two networks of one builder have a parameter in common."""
    layer = _first_shared(first, second)
    if layer:
        raise ValueError(
            f"model {name!r}: two networks that its function built share {layer}: let the "
            "function build every layer anew, or give models.add the network itself."
        )


def _first_shared(first: nn.Module, second: nn.Module) -> str:
    """The first parameter that two networks have at one place in memory; "" where there is none."""
    places = {value.untyped_storage().data_ptr() for value in first.parameters()}
    for layer, value in second.named_parameters():
        if value.numel() and value.untyped_storage().data_ptr() in places:
            return layer
    return ""


def _check_built_alike(name: str, first: nn.Module, second: nn.Module) -> None:
    """Raises ValueError where two networks of one builder and seed differ."""
    one = first.state_dict()
    other = second.state_dict()
    differing = [
        layer for layer in one if layer not in other or not _same(one[layer], other[layer])
    ]
    differing += [layer for layer in other if layer not in one]
    if differing:
        raise ValueError(
            f"model {name!r}: {differing[0]} differs when it is built twice from one seed: draw "
            "random numbers from the global generators of torch, numpy or Python alone."
        )


def _check_all_is_stored(
    name: str, first: nn.Module, other: nn.Module, in_shape: tuple[int, ...]
) -> None:
    """Raises ValueError where a network of another seed with the first one's state differs."""
    try:
        other.load_state_dict({**first.state_dict()})  # plain, as files give it
    except RuntimeError as error:
        raise ValueError(
            f"model {name!r} has other layers when it is built from another seed: let their "
            "number and sizes follow from in_shape and n_classes alone."
        ) from error
    except Exception as error:
        raise ValueError(
            f"model {name!r} cannot be filled from names and values alone ({first_line(error)}): "
            "let its loading ask for nothing else."
        ) from error
    if not _same(_outputs(first, in_shape), _outputs(other, in_shape)):
        raise ValueError(
            f"model {name!r}: its outputs depend on something that differs when it is built again "
            "and is not in its state_dict, so no file can store it: make it a parameter or a "
            "buffer (register_buffer)."
        )


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _outputs(model: nn.Module, in_shape: tuple[int, ...]) -> Tensor:
    """Of one image, in evaluation mode."""
    n_values = in_shape[0] * in_shape[1] * in_shape[2]
    image = torch.linspace(-1, 1, n_values).reshape(1, *in_shape)
    with torch.no_grad(), seeded(0):
        return model.eval()(image)


def _trained_on(model: nn.Module, in_shape: tuple[int, ...]) -> list[str]:
    """Outputs for some images in training mode, then the norm of each parameter's gradient.

    In thousandths of the largest one, so that a gradient that is 0 but for rounding, as of a bias
    in front of batch norm, is 0.
    """
    probed = copy.deepcopy(model).train()
    n_values = in_shape[0] * in_shape[1] * in_shape[2]
    images = torch.linspace(-1, 1, N_IMAGES * n_values).reshape(N_IMAGES, *in_shape)
    with seeded(0):
        outputs = probed(images)
        outputs.square().sum().backward()
    norms = [value.grad.norm() for value in probed.parameters() if value.grad is not None]
    told = []
    for values in (outputs.detach().flatten(), torch.stack(norms)):
        largest = float(values.abs().max())
        told.append(f"{largest:.2e}")
        told += [str(round(value / (largest or 1.0), 3) + 0.0) for value in values.tolist()]
    return told
