"""What pruning reaches of a network: layers that stay whole, and a table that says so."""

from collections.abc import Sequence
from typing import NamedTuple

from tabulate import tabulate
from torch import Tensor, nn

from fairlth.masks import KEEP, kept_whole, kernels, layer_of, prunable
from fairlth.models.given import NORMS

NAME = 40  # characters of a layer's name that are shown
SHAPE = 24  # and of a shape: with both a table is at most 100 columns wide
HEADS = ("layer", "shape", "weights", "pruned")


class Part(NamedTuple):
    """A row of the table: a layer, or all biases and all norms together."""

    layer: str
    shape: str
    weights: int
    pruned: str  # "yes", or "no" and why


def patterns(keep: Sequence[str]) -> tuple[str, ...]:
    """The patterns of `keep`; ValueError where it is no sequence of them."""
    if not isinstance(keep, tuple | list) or not all(type(pattern) is str for pattern in keep):
        raise ValueError(
            f'keep={keep!r} is refused: expected names of layers in a tuple, such as ("head",).'
        )
    return tuple(keep)


def keep_layers(name: str, model: nn.Module, keep: tuple[str, ...]) -> None:
    """Makes a network carry the patterns of the layers that stay whole, see `masks.prunable`.

    Args:
        name: of the model.
        model: gets the attribute `keep_whole`, which copies of it have, too.
        keep: patterns of names of layers, as in a shell.

    Raises:
        ValueError: a pattern names no layer that could be pruned, or all together name every such
            layer.
    """
    layers = dict.fromkeys(layer_of(weight) for weight in kernels(model))
    known = ", ".join(layers)
    for pattern in keep:
        setattr(model, KEEP, (pattern,))
        if not kept_whole(model):
            raise ValueError(
                f"model {name!r}: keep={pattern!r} names no layer that could be pruned: choose "
                f"from {known}."
            )
    setattr(model, KEEP, keep)
    if not prunable(model):
        raise ValueError(
            f"model {name!r}: keep={keep!r} leaves nothing to prune: name fewer of {known}."
        )


def table(model: nn.Module) -> str:
    """Every layer of a network with its shape, its number of weights, and whether it is pruned.

    Biases and norms have one row each for all of them. A layer is not pruned because `keep` names
    it, because it is frozen, or because it is of no kind that is pruned. The last rows are sums. A
    table is at most 100 columns wide.
    """
    parts = reach(model)
    total = sum(part.weights for part in parts)
    pruned = sum(part.weights for part in parts if part.pruned == "yes")
    rows = [
        (_short(part.layer, NAME), _short(part.shape, SHAPE), f"{part.weights:,}", part.pruned)
        for part in parts
    ]
    rows.append(("sum", "", f"{total:,}", ""))
    rows.append(("of these can be pruned", "", f"{pruned:,}", ""))
    alignment = ("left", "left", "right", "left")
    return tabulate(rows, HEADS, "simple", disable_numparse=True, colalign=alignment)


def reach(model: nn.Module) -> list[Part]:
    """The rows of a network's table without their sum; together they have all its parameters."""
    pruned = prunable(model)
    whole = kept_whole(model)
    of_a_kind = kernels(model)
    found = []
    together: dict[str, list[Tensor]] = {"biases": [], "norms": []}
    for name, value in model.named_parameters():
        module = model.get_submodule(layer_of(name))
        if name in whole:
            answer = "no, keep"
        elif name in of_a_kind and not value.requires_grad:
            answer = "no, frozen"
        elif name in pruned:
            answer = "yes"
        elif isinstance(module, NORMS) or type(module).__name__.endswith("Norm"):
            together["norms"].append(value)
            continue
        elif name.rpartition(".")[2] in ("bias", "in_proj_bias"):
            together["biases"].append(value)
            continue
        elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
            answer = "no, embedding"
        else:
            answer = "no, parameter"  # of no kind that is pruned
        found.append(Part(name.removesuffix(".weight"), _shape(value), value.numel(), answer))
    for kind, values in together.items():
        if values:
            n_weights = sum(value.numel() for value in values)
            shape = f"{len(values)} tensor" + "s" * (len(values) > 1)
            found.append(Part(kind, shape, n_weights, f"no, {kind}"))
    return found


def _shape(value: Tensor) -> str:
    return " x ".join(str(size) for size in value.shape) or "1"


def _short(text: str, longest: int) -> str:
    """A text with dots in its middle where it is too long."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    tail = longest - 1 - head
    return f"{text[:head]}…{text[-tail:]}"
