"""Which units of a network go together, as torch-pruning's dependency graph sees it.

Source: Fang et al., 2023 ("DepGraph: towards any structural pruning").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

OUT, IN = 0, 1  # dimensions of a weight
IMAGES = 2  # that a network is traced with
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Member:
    """Where a group's units are in one layer.

    `layer` is the module's name, `dim` is OUT for what it gives and IN for what it reads. `unit_of`
    has one number per output or input: its unit, or -1 where it is none of the group's.
    """

    layer: str
    dim: int
    unit_of: Tensor


@dataclass(frozen=True)
class Group:
    """Units that all stand in the same layers, each of which can be removed alone.

    `can_empty` says that all of them may go, since other units are in all of these layers, too.
    """

    n_units: int
    members: tuple[Member, ...]
    can_empty: bool = False

    @property
    def givers(self) -> list[str]:
        """The layers that give these units, in the network's order."""
        return [member.layer for member in self.members if member.dim == OUT]


def library() -> ModuleType:
    """torch-pruning; ValueError where it is not installed."""
    try:
        import torch_pruning
    except ImportError as error:
        raise ValueError(
            "torch-pruning is not installed, and removing units needs it: "
            "pip install 'fairlth[units]'."
        ) from error
    return torch_pruning


def traced_groups(network: nn.Module, in_shape: tuple[int, ...]) -> list[Group]:
    """The groups of a network's units, those first whose first layer stands first.

    Args:
        network: on the CPU, in evaluation mode.
        in_shape: (channels, side, side) of one image.

    Raises:
        ValueError: torch-pruning is not installed, or cannot trace the network.
    """
    graph = library().DependencyGraph()
    names = {module: name for name, module in network.named_modules()}
    try:
        with torch.enable_grad():
            graph.build_dependency(network, torch.zeros(IMAGES, *in_shape), verbose=False)
    except Exception as error:
        raise ValueError(
            f"{type(network).__name__}: torch-pruning cannot trace its graph "
            f"({type(error).__name__}), prune its weights instead."
        ) from error
    layers = [module for module in names if isinstance(module, nn.Conv2d | nn.Linear)]
    seen: set[str] = set()
    found: list[Group] = []
    for layer in sorted(layers, key=lambda layer: -len(layer.weight)):  # of several the widest
        if names[layer] in seen or layer not in graph.module2node:
            continue
        givers, members = _members(graph, layer, names)
        seen |= givers
        if members:
            found += _parts(len(layer.weight), members)
    order = [*names.values()]
    return sorted(found, key=lambda group: order.index(group.givers[0]))


def _members(graph: Any, layer: Any, names: dict[nn.Module, str]) -> tuple[set[str], list[Member]]:
    """The layers that give a layer's units, and all that they stand in, in the network's order;
    nothing where one is of a kind that units cannot be taken out of.
    """
    n_units = len(layer.weight)
    remove = graph.get_pruner_of_module(layer).prune_out_channels
    items = graph.get_pruning_group(layer, remove, range(n_units)).items
    places = {name: place for place, name in enumerate(names.values())}
    givers = {names[layer]}
    members = []
    for item in items:
        module = item.dep.target.module
        if module not in names:
            continue  # an operation, no layer
        dim = _dim(graph, item.dep)
        if dim == OUT:
            givers.add(names[module])
        members.append(_member(names[module], module, dim, item.idxs, item.root_idxs))
    known = [member for member in members if member is not None]
    if len(known) < len(members):
        return givers, []
    known.sort(key=lambda member: places[member.layer])
    return givers, _flattened({name: module for module, name in names.items()}, n_units, known)


def _dim(graph: Any, dependency: Any) -> int:
    """Whether a layer of a group gives the units or reads them."""
    module = dependency.target.module
    one_to_one = isinstance(module, NORMS) or _is_depthwise(module)
    reads = graph.is_in_channel_pruning_fn(dependency.handler)
    return IN if reads and not one_to_one else OUT


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.out_channels


def _is_grouped(module: nn.Module) -> bool:
    return getattr(module, "groups", 1) > 1 and not _is_depthwise(module)


def _member(
    name: str, module: nn.Module, dim: int, places: Sequence[int], units: Sequence[int]
) -> Member | None:
    """A layer's part in a group; None where the layer is not one that units go out of alone."""
    if isinstance(module, NORMS):
        size = module.num_features
    elif isinstance(module, nn.Linear | nn.Conv2d) and not _is_grouped(module):
        size = module.weight.shape[dim]
    else:
        return None
    unit_of = torch.full((size,), -1)
    inside = [(place, unit) for place, unit in zip(places, units, strict=True) if place < size]
    for place, unit in inside:  # beyond the size: of a wider layer of the group
        unit_of[place] = unit
    return Member(name, dim, unit_of)


def _flattened(layers: dict[str, nn.Module], n_units: int, members: list[Member]) -> list[Member]:
    """The members, of which a linear layer after padded shortcuts reads the widest layer's units.

    torch-pruning takes the number of channels before the padding for that after it.
    """
    if len({len(member.unit_of) for member in members if member.dim == OUT}) == 1:
        return members
    found = []
    for member in members:
        size = len(member.unit_of)
        reads = isinstance(layers[member.layer], nn.Linear) and member.dim == IN
        if reads and size % n_units == 0:
            unit_of = torch.arange(n_units).repeat_interleave(size // n_units)
            found.append(Member(member.layer, IN, unit_of))
        else:
            found.append(member)
    return found


def _parts(n_units: int, members: list[Member]) -> list[Group]:
    """The units parted by the layers they stand in, numbered anew in each part."""
    stands_in = torch.zeros(n_units, len(members), dtype=torch.bool)
    for number, member in enumerate(members):
        stands_in[member.unit_of[member.unit_of >= 0], number] = True
    parts = list(dict.fromkeys(map(tuple, stands_in.tolist())))
    groups = []
    for part in parts:
        own = (stands_in == torch.tensor(part)).all(1)
        anew = torch.where(own, own.cumsum(0) - 1, -1)
        anew = torch.cat([anew, anew.new_tensor([-1])])  # what -1 finds
        inside = [one for one, stands in zip(members, part, strict=True) if stands]
        renamed = [Member(one.layer, one.dim, anew[one.unit_of]) for one in inside]
        wider = [other for other in parts if other != part and _covers(other, part)]
        groups.append(Group(int(own.sum()), tuple(renamed), can_empty=bool(wider)))
    return groups


def _covers(one: tuple[bool, ...], other: tuple[bool, ...]) -> bool:
    """Whether units of one part stand in all layers that those of the other stand in."""
    return all(own or not wanted for own, wanted in zip(one, other, strict=True))
