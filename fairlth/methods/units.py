"""Tickets of whole units: what is pruned can be taken out, and the network gets smaller and faster.

How a search counts: a density is a share of the weights, or of the FLOPs where the preset's
`count_flops` is set. Units go in the order of their scores until at most that share is left. Units
that stand in the same layers (`models.units.Group`) are compared with their mean, so that no layer
is emptied for the size of its weights.
"""

import copy
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fairlth import ballot, config
from fairlth.bias_shift import ROOM, make_room
from fairlth.config import Run
from fairlth.images import Data
from fairlth.lottery import Dense, Found, Ticket, by_magnitude, longer, search, train_plainly
from fairlth.masks import NAN, MaskSet, count_kept, prunable
from fairlth.methods.sharing import found_once
from fairlth.models.unit_graph import Group
from fairlth.models.units import (
    Kept,
    UnitMask,
    Work,
    cut,
    kept_units,
    put_back,
    unit_groups,
    unit_mask,
    work_of,
)
from fairlth.selection import Scores
from fairlth.training import fit


def units_norm(run: Run, data: Data, dense: Dense) -> Ticket:
    """The control: units of the smallest group norm go, in short levels, and training is plain.

    A unit's score is the sum of its squared weights in every layer that it stands in, over the mean
    of its group. Source: the group norm of Fang et al., 2023 ("DepGraph"), as torch-pruning has it.
    """
    found = find_once(run, data, dense)
    return train_small(data, dense, found, partial(train_plainly, run, data))


def units_long(run: Run, data: Data, dense: Dense) -> Ticket:
    """The control of equal epochs: `units_norm`'s ticket, trained as long as `units_ballot`'s.

    Nothing else differs from `units_norm`. A control of ours, no source.
    """
    found = find_once(run, data, dense)
    return train_small(data, dense, found, partial(train_plainly, run, data, schedule=longer(run)))


def train_small(data: Data, dense: Dense, found: Found, train: Callable[[Found], Ticket]) -> Ticket:
    """Trains the small network that a found ticket leaves, which takes less time than the whole one
    with its mask, and puts it back into the whole one.

    Removed units are silent, so that the others learn the same, but for rounding and for what
    dropout draws.
    """
    groups = unit_groups(dense.network, data.in_shape)
    kept = kept_units(found.model, groups, found.mask)
    small = cut(found.model, groups, kept)
    mask = MaskSet.full(prunable(small))
    ticket = train(replace(found, model=small, mask=mask))
    shift = dict(small.named_buffers(recurse=False)).get(ROOM)
    if shift is not None:
        make_room(found.model, len(shift))
    whole = put_back(found.model, small, groups, kept)
    return replace(ticket, model=whole, mask=found.mask)


def find_once(run: Run, data: Data, dense: Dense) -> Found:
    """The ticket of whole units by group norm, done once for all methods that start from it."""
    found = found_once("units-norm", run, data, dense, find_by_norm)
    groups = unit_groups(dense.network, data.in_shape)
    kept = kept_units(dense.network, groups, found.mask)
    return replace(found, mask=unit_mask(dense.network, groups, kept))


def find_by_norm(run: Run, data: Data, dense: Dense) -> Found:
    """The ticket of whole units by group norm before its last training."""
    removal = removal_of(run, dense.network, data)
    found = search(run, data, dense, by_magnitude, choose=removal.choose, short=True)
    return removal.noted(found, run.density)


def units_ballot(run: Run, data: Data, dense: Dense) -> Ticket:
    """Ballot of whole units: its score, which demotes units in conflict, and its refined training.

    A unit's score is that of `units_norm` with each weight as `selection.conflict_aware` has it.
    No source: of ours. `run.pressure` is that of Ballot's training.
    """
    removal = removal_of(run, dense.network, data)
    found = ballot.find(run, data, dense, removal.choose)
    noted = removal.noted(found, run.density)
    return train_small(data, dense, noted, partial(ballot.retrain, run, data, dense))


def units_scratch(run: Run, data: Data, dense: Dense) -> Ticket:
    """The control of shape: a small dense network, as `units_norm` leaves it, trained from scratch.

    Its weights are drawn anew, and it trains as many epochs as the ticket did, dense training and
    search included. What the ticket has above it is owed to its weights. Source: Liu et al., 2019
    ("Rethinking the value of network pruning").
    """
    found = find_once(run, data, dense)
    model = drawn_anew(dense.fresh(), found.mask, run.seed)
    drawn = replace(found, model=model)
    return train_small(data, dense, drawn, partial(train_from_scratch, run, data))


def train_from_scratch(run: Run, data: Data, found: Found) -> Ticket:
    """Trains a small network for as many epochs as its ticket took, with all of the warm-up."""
    schedule = run.settings.schedule
    epochs = found.epochs + schedule.epochs - run.settings.rewind_epochs
    budget = schedule.model_copy(update={"epochs": epochs})
    fit(found.model, data, budget, seed=run.seed, label="from scratch")
    cost = (found.epochs + epochs) / schedule.epochs
    return Ticket(found.model, found.mask, cost, notes=found.notes)


def drawn_anew(model: nn.Module, mask: MaskSet, seed: int) -> nn.Module:
    """The model with weights of the small network that its mask leaves, drawn as `models.build`
    draws them: Kaiming normal over the inputs that are left.
    """
    generator = torch.Generator().manual_seed(config.seed_for(seed, "scratch"))
    for name, weight in prunable(model).items():
        kept = mask[name]
        n_out = int(kept.flatten(1).any(1).sum())
        n_in = int(kept.transpose(0, 1).flatten(1).any(1).sum())
        small = torch.empty(n_out, n_in, *weight.shape[2:])
        nn.init.kaiming_normal_(small, nonlinearity="relu", generator=generator)
        with torch.no_grad():
            weight[kept] = small.flatten().to(weight)
    mask.apply(model)
    return model


@dataclass(frozen=True)
class Removal:
    """How units are removed from a network.

    Args:
        network: any weights.
        groups: of its units.
        work: its operations.
        count_flops: a density is a share of the FLOPs, not of the weights.
        multiple: units of a group leave by so many at once, so that what a group keeps, where it
            loses any, is a multiple of it.
        power: of a weight's score in the sum over its unit.
    """

    network: nn.Module
    groups: list[Group]
    work: Work
    count_flops: bool = False
    multiple: int = 1
    power: int = 2

    def choose(self, scores: Scores, density: float, within: MaskSet, head: str = "") -> UnitMask:
        """The mask of the units that stay: those of the lowest scores go until at most the
        density's share is left.

        Every group keeps one unit, or `multiple`, unless all of its may go (`Group.can_empty`).

        Args:
            scores: of weights.
            density: in (0, 1], of the weights or the FLOPs.
            within: a mask of whole units; what it has pruned stays pruned.
            head: unused; no unit of the output layer is in a group.
        """
        kept = kept_units(self.network, self.groups, within)
        going = self._in_turn(scores, kept)
        limit = self.limit(density)
        n = bisect_left(
            range(len(going) + 1),
            True,
            key=lambda gone: self.counted(self._without(kept, going[:gone])) <= limit,
        )
        mask = self._without(kept, going[:n])
        if n > 0:
            mask.one_more = self.counted(self._without(kept, going[: n - 1]))
        elif isinstance(within, UnitMask):
            mask.one_more = within.one_more
        return mask

    def limit(self, density: float) -> int:
        """The weights, or the FLOPs, that a ticket of a density has at most."""
        weights = prunable(self.network)
        if not self.count_flops:
            return count_kept(density, weights)
        return config.share_of(density, self.work.of(MaskSet.full(weights)))

    def counted(self, mask: MaskSet) -> int:
        """The weights, or the FLOPs, that a mask leaves."""
        return self.work.of(mask) if self.count_flops else mask.n_kept

    def least(self) -> UnitMask:
        """A mask of as few units as can be."""
        kept = [
            torch.arange(group.n_units) < (0 if group.can_empty else self.multiple)
            for group in self.groups
        ]
        return unit_mask(self.network, self.groups, kept)

    def noted(self, found: Found, density: float) -> Found:
        """A found ticket with a note `units`: the promise that was kept.

        `counted` weights or FLOPs are at most `limit`; with the last removed units there would be
        `one_more`, which is above it (None where all units stay).
        """
        note: dict[str, Any] = {
            "of": "FLOPs" if self.count_flops else "weights",
            "limit": self.limit(density),
            "counted": self.counted(found.mask),
            "one_more": getattr(found.mask, "one_more", None),
            "flops": self.work.of(found.mask),
            "dense_flops": self.work.of(MaskSet.full(prunable(self.network))),
        }
        return replace(found, notes=found.notes | {"units": note})

    def _in_turn(self, scores: Scores, kept: Kept) -> list[tuple[int, Tensor]]:
        """The units in the order in which they go: number of the group, and its units that go
        together.
        """
        powers = {name: score**self.power for name, score in scores.items()}
        rated = []
        for number, group in enumerate(self.groups):
            values = unit_scores(group, powers)
            if values.isnan().any():
                raise ValueError(NAN)
            own = kept[number].nonzero()[:, 0]
            if len(own) == 0:
                continue
            values = values / values[own].abs().mean().clamp(min=1e-30)
            order = own[values[own].argsort(stable=True)]
            first = len(order) % self.multiple
            parts = [order[:first], *order[first:].split(self.multiple)]
            parts = [part for part in parts if len(part) > 0]
            going = parts if group.can_empty else parts[:-1]
            rated += [(float(values[part].mean()), number, part) for part in going]
        rated.sort(key=lambda one: one[0])
        return [(number, part) for _, number, part in rated]

    def _without(self, kept: Kept, gone: list[tuple[int, Tensor]]) -> UnitMask:
        left = copy.deepcopy(kept)
        for number, part in gone:
            left[number][part] = False
        return unit_mask(self.network, self.groups, left)


def unit_scores(group: Group, scores: Mapping[str, Tensor]) -> Tensor:
    """(units,) the sum of the scores of each unit's weights, over all layers it stands in."""
    total = torch.zeros(group.n_units)
    for member in group.members:
        name = f"{member.layer}.weight"
        if name in scores:
            by_place = scores[name].transpose(0, member.dim).flatten(1).sum(1).cpu()
            own = member.unit_of >= 0
            total.index_add_(0, member.unit_of[own], by_place[own])
    return total


def removal_of(run: Run, network: nn.Module, data: Data, power: int = 2) -> Removal:
    """How a run removes units.

    Raises:
        ValueError: see `models.units.unit_groups`.
    """
    groups = unit_groups(network, data.in_shape)
    work = work_of(network, data.in_shape)
    preset = run.settings
    return Removal(network, groups, work, preset.count_flops, preset.round_units, power)


def check(run: Run, network: nn.Module, data: Data) -> None:
    """Raises ValueError if units cannot be removed, or the density leaves a layer without any."""
    removal = removal_of(run, network, data)
    least = removal.counted(removal.least())
    if least > removal.limit(run.density):
        whole = removal.counted(MaskSet.full(prunable(network)))
        share = math.ceil(10_000 * least / whole) / 10_000
        counted = "FLOPs" if removal.count_flops else "weights"
        raise ValueError(
            f"density={run.density} would leave a layer of {run.model} without units: "
            f"{removal.multiple} in each already make {share:g} of the {counted}, "
            "choose at least that."
        )
