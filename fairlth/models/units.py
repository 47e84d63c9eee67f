"""Units that can be removed whole: what has to go with each, and the network without them.

A unit is an output channel of a convolution or an output feature of a linear layer. With it go its
biases, its batch norm and whatever reads it, and where a shortcut adds layers, the same channel of
each (`unit_graph`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fairlth.masks import KEEP, MaskSet, kernels, layer_of, output_layer, prunable
from fairlth.models.networks import Residual
from fairlth.models.unit_graph import IN, OUT, Group, library, traced_groups

TRIED = 2  # images that a removal is tried on
APART = 1e-4  # of the largest output, that a trial may differ by

Kept = list[Tensor]  # for each group (units,), True where a unit stays


class UnitMask(MaskSet):
    """A mask of whole units: `apply` also sets the biases and batch norms of removed ones to 0, so
    that nothing constant is left of them.

    Args:
        kept: the masks of the weights.
        silent: name of another parameter -> True where it is a removed unit's.

    `one_more` is what would be counted with the last removed units, None before any is removed.
    """

    def __init__(self, kept: Mapping[str, Tensor], silent: Mapping[str, Tensor]) -> None:
        super().__init__(kept)
        self.silent = dict(silent)
        self.one_more: int | None = None

    def apply(self, model: nn.Module) -> None:
        """Sets all of the removed units to exactly 0, in place."""
        super().apply(model)
        with torch.no_grad():
            for name, gone in self.silent.items():
                model.get_parameter(name).masked_fill_(gone, 0.0)


def unit_groups(network: nn.Module, in_shape: tuple[int, ...]) -> list[Group]:
    """The groups of a network's units that can be removed.

    Each group's removal is tried: half of its units are set to 0 in a copy and taken out of another
    one. Where the two differ, as beside a layer norm or in attention, the group is left whole; so
    is one with a layer that stays whole, by `keep` or since it is frozen. Of layers that a shortcut
    pads with zeros at its end (`networks.Residual`) channel i of the narrower one goes with channel
    i of the wider one.

    Args:
        network: with any weights; it stays as it is.
        in_shape: (channels, side, side) of one image.

    Raises:
        ValueError: torch-pruning is not installed, or the network's graph cannot be traced, or no
            unit can be removed, which may be since its layers stay whole.
    """
    tried = _shaken(network)
    name = type(network).__name__
    head = layer_of(output_layer(tried, torch.zeros(TRIED, *in_shape)))
    whole = {layer_of(weight) for weight in kernels(network).keys() - prunable(network).keys()}
    traced = [one for one in traced_groups(tried, in_shape) if head not in one.givers]
    free = [one for one in traced if whole.isdisjoint(member.layer for member in one.members)]
    found = _those_that_go(tried, in_shape, free)
    if not found:
        if len(free) < len(traced) and _those_that_go(tried, in_shape, traced):
            raise ValueError(
                f"{name}: each unit that could be removed stands in a layer that stays whole, by "
                "keep or since it is frozen: let fewer layers stay whole, or prune its weights "
                "instead."
            )
        raise ValueError(
            f"{name}: no unit can be removed so that the others give the same outputs, prune its "
            "weights instead."
        )
    return found


def all_kept(groups: Sequence[Group]) -> Kept:
    """Every unit stays."""
    return [torch.ones(group.n_units, dtype=torch.bool) for group in groups]


def unit_mask(network: nn.Module, groups: Sequence[Group], kept: Kept) -> UnitMask:
    """The mask of a network's weights without the units that do not stay."""
    stays = _stays(groups, kept)
    weights = {}
    for name, weight in prunable(network).items():
        layer = name.removesuffix("weight").removesuffix(".")
        mask = torch.ones_like(weight, dtype=torch.bool)
        for dim in (OUT, IN):
            if (layer, dim) in stays:
                shape = [1] * weight.dim()
                shape[dim] = -1
                mask &= stays[layer, dim].to(weight.device).reshape(shape)
        weights[name] = mask
    silent = {}
    for (layer, dim), stay in stays.items():
        if dim == OUT:
            for name, value in network.get_submodule(layer).named_parameters(recurse=False):
                full = f"{layer}.{name}" if layer else name
                if full not in weights:
                    silent[full] = ~stay.to(value.device)
    return UnitMask(weights, silent)


def kept_units(network: nn.Module, groups: Sequence[Group], mask: Mapping[str, Tensor]) -> Kept:
    """Which units a mask keeps: those with any weight of theirs.

    Raises:
        ValueError: the mask is not one of whole units.
    """
    kept = []
    for group in groups:
        stay = torch.zeros(group.n_units, dtype=torch.bool)
        for member in group.members:
            rows = mask.get(f"{member.layer}.weight")
            if member.dim == OUT and rows is not None:
                own = member.unit_of >= 0
                stay[member.unit_of[own]] |= rows.flatten(1).any(1).cpu()[own]
        kept.append(stay)
    whole = unit_mask(network, groups, kept)
    broken = [name for name, own in whole.items() if not torch.equal(own, mask[name])]
    if broken:
        raise ValueError(
            f"the mask of {broken[0]} is not of whole units: only tickets of methods that remove "
            "units, such as units_norm, can be made smaller this way."
        )
    return kept


def cut(network: nn.Module, groups: Sequence[Group], kept: Kept) -> nn.Module:
    """A copy of a network without the units that do not stay, smaller in every layer."""
    box = library().pruner.function.PrunerBox
    kind = library().ops.module2type
    small = copy.deepcopy(network)
    for (layer, dim), stay in _stays(groups, kept).items():
        module = small.get_submodule(layer)
        gone = (~stay).nonzero()[:, 0].tolist()
        if gone:
            pruner = box[kind(module)]
            remove = pruner.prune_out_channels if dim == OUT else pruner.prune_in_channels
            remove(module, gone)
    for block in small.modules():
        if isinstance(block, Residual):
            block.new_channels = block.conv2.out_channels - block.conv1.in_channels
    for name, value in network.named_parameters():  # torch-pruning makes new ones, which learn
        small.get_parameter(name).requires_grad_(value.requires_grad)
    return small


def put_back(
    network: nn.Module, small: nn.Module, groups: Sequence[Group], kept: Kept
) -> nn.Module:
    """A copy of a network with the values of the smaller one that `cut` made of it; the units that
    do not stay have the network's own.
    """
    stays = _stays(groups, kept)
    whole = copy.deepcopy(network)
    for layer, module in whole.named_modules():
        own = small.get_submodule(layer)
        for name, value in _tensors(module).items():
            place = torch.ones_like(value, dtype=torch.bool)
            for dim in range(min(value.dim(), IN + 1)):
                if (layer, dim) in stays:
                    shape = [1] * value.dim()
                    shape[dim] = -1
                    place &= stays[layer, dim].to(value.device).reshape(shape)
            with torch.no_grad():
                value[place] = _tensors(own)[name].flatten().to(value)
    return whole


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module itself."""
    return {
        **dict(module.named_parameters(recurse=False)),
        **dict(module.named_buffers(recurse=False)),
    }


@dataclass(frozen=True)
class Work:
    """Floating-point operations on one image, a product and its addition as two.

    `each` has those of one weight of every prunable layer, `other` is all the rest.
    """

    each: dict[str, int]
    other: int

    def of(self, mask: Mapping[str, Tensor]) -> int:
        """The operations of a network that has only the weights of a mask."""
        kept = {name: int(own.count_nonzero()) for name, own in mask.items()}
        return self.other + sum(n * self.each[name] for name, n in kept.items())


def work_of(network: nn.Module, in_shape: tuple[int, ...]) -> Work:
    """The operations of a network, by weight."""
    tried = copy.deepcopy(network).cpu().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tried(torch.zeros(1, *in_shape))
    counts = counter.get_flop_counts()
    root = type(tried).__name__
    each = {}
    for name, weight in prunable(tried).items():
        layer = name.removesuffix("weight").removesuffix(".")
        done = counts.get(f"{root}.{layer}" if layer else root, {})
        each[name] = sum(done.values()) // weight.numel()
    own = sum(n * prunable(tried)[name].numel() for name, n in each.items())
    return Work(each, counter.get_total_flops() - own)


def _stays(groups: Sequence[Group], kept: Kept) -> dict[tuple[str, int], Tensor]:
    """(layer, dim) -> True where an output or input stays."""
    found: dict[tuple[str, int], list[Tensor]] = {}
    for group, own in zip(groups, kept, strict=True):
        for member in group.members:
            stay = torch.cat([own, own.new_tensor([True])])[member.unit_of]
            found.setdefault((member.layer, member.dim), []).append(stay)
    return {place: reduce(torch.logical_and, parts) for place, parts in found.items()}


def _shaken(network: nn.Module) -> nn.Module:
    """A copy on the CPU whose biases and norms are moved a little: zeros would hide a fault. Any
    layer of it may be pruned.
    """
    tried = copy.deepcopy(network).cpu().eval().requires_grad_(True)
    setattr(tried, KEEP, ())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in tried.parameters():
            if value.dim() == 1:
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return tried


def _those_that_go(
    network: nn.Module, in_shape: tuple[int, ...], groups: list[Group]
) -> list[Group]:
    """The groups that can be removed, tried together first."""
    if _go(network, in_shape, groups):
        return groups
    return [group for group in groups if _go(network, in_shape, [group])]


def _go(network: nn.Module, in_shape: tuple[int, ...], groups: Sequence[Group]) -> bool:
    """Whether half of the groups' units can be taken out of a network that has them at 0."""
    generator = torch.Generator().manual_seed(0)
    kept = [torch.randperm(one.n_units, generator=generator) <= one.n_units // 2 for one in groups]
    x = 2 * torch.rand(TRIED, *in_shape, generator=generator) - 1
    silent = copy.deepcopy(network)
    unit_mask(network, groups, kept).apply(silent)
    with torch.no_grad():
        expected = silent(x)
        try:
            found = cut(silent, groups, kept)(x)
        except (RuntimeError, AssertionError, IndexError):
            return False
    if found.shape != expected.shape:
        return False
    allowed = APART * max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) <= allowed
