"""Going on from a finished ticket: prune it further, or train it further.

The ticket takes the dense network's place. Its weights go on, weights that it has pruned stay
pruned, and what it reaches on validation images, less the preset's epsilon, is what a fair method
has to keep.

>>> from fairlth import data
>>> from fairlth.config import Run
>>> from fairlth.shipping import ticket as tickets
>>> from fairlth.workflow import further
>>> ticket = tickets.load(path)  # of density 0.05; or experiments.ticket(run)
>>> loaded = data.load(Run(**ticket.card.images_of))
>>> sparser = Run(**ticket.card.run | {"density": 0.02, "method": "ballot"})
>>> made = further.prune(sparser, loaded, *ticket)
>>> ticket.mask.n_kept, made.ticket.mask.n_kept
(851, 340)
>>> list(made.compared().columns)
['accuracy', 'cwv', 'cwv_floor']

`further.train` takes the same arguments and keeps the mask. `made.write(path)` writes the new
ticket and its card, which says what it goes on from.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import nn

from fairlth import ballot, config, methods
from fairlth.analysis import summaries
from fairlth.analysis.records import Record
from fairlth.bias_shift import ROOM, make_room
from fairlth.config import Run
from fairlth.conflict import READINGS, meter
from fairlth.images import Data
from fairlth.lottery import Dense, Found, Ticket, head_of, longer, train_plainly
from fairlth.masks import MaskSet, count_kept, kernels, prunable
from fairlth.methods.plain import search_at_rate
from fairlth.methods.sharing import LEDGER, Search, fresh
from fairlth.metrics import Counts
from fairlth.models.checks import check_layers
from fairlth.shipping import ticket as tickets
from fairlth.shipping.card import Card, Parent, fingerprint
from fairlth.training import PASSES, predict, snapshot
from fairlth.workflow import experiments

SHOWN = ("accuracy", "cwv", "cwv_floor")  # before and after


@dataclass(frozen=True)
class Further:
    """A ticket that has gone on from another one.

    `record` is the new ticket's, as a run's. `before` are the counts on test images that it
    began with. Nothing of it is on disk until `write`.
    """

    ticket: Ticket
    record: Record
    data: Data
    parent: Parent
    before: Counts

    def compared(self) -> pd.DataFrame:
        """Accuracy, CWV and CWV by chance, fractions on test images; rows `before` and `after`."""
        counts = {"before": self.before, "after": self.record.split("test")}
        rows = [summaries.measures(*found.by_group(), SHOWN) for found in counts.values()]
        return pd.DataFrame(rows, index=[*counts])

    def write(self, path: Path, *, replace: bool = False) -> None:
        """Writes the ticket and its card.

        Args:
            path: of the ticket, ending in `shipping.ticket.ENDING`.
            replace: whether files that are there may be replaced.

        Raises:
            ValueError: something is there, or the name has another ending or is that of a run's
                own ticket, which a later call of `experiments.ticket` would replace.
            OSError: the files cannot be written.
        """
        if not path.name.endswith(tickets.ENDING):
            raise ValueError(f"{path} is no name for a ticket: let it end in {tickets.ENDING}.")
        own = config.ticket_path(Run(**self.record.run)).name
        if path.name == own:
            raise ValueError(
                f"{path} is where the run's own ticket goes, made from the dense network: "
                "choose another name."
            )
        there = [file for file in (path, tickets.card_path(path)) if file.exists()]
        if there and not replace:
            raise ValueError(
                f"{there[0]} is there already: choose another name, or pass replace=True."
            )
        tickets.write(self.ticket, self.record, self.data, path, self.parent)


def prune(
    run: Run, data: Data, model: nn.Module, mask: MaskSet, parent: Card | None = None
) -> Further:
    """Prunes a ticket to a lower density, in short levels whose weights go on.

    The ticket comes as its parts, so `prune(run, data, *tickets.load(path))` is a call, and so is
    `prune(run, data, *from_prune(network))`. It stays as it is: its values go into the network that
    `run.model` names, whose layers say what is kept whole, what is frozen and which outputs are the
    logits.

    Args:
        run: its density is the one to reach. Its method is a key of `METHODS` and decides score
            and last training. Its task is the ticket's own.
        data: the images that the ticket was made with, `data.load(Run(**card.images_of))`. The
            seed of `run` may be another one: it decides the order of images, not which they are.
        model, mask: of the ticket. The mask of a layer that stays whole may be there and keeps all.
        parent: its card; None: it has none.

    Raises:
        ValueError: the density is not below the ticket's, the method cannot go on from a ticket,
            or ticket, run and data do not fit each other; before any training.
        FloatingPointError: the loss became infinite or nan.
    """
    network, mask = _taken(run, data, model, mask, parent)
    n_keep = count_kept(run.density, mask)
    if n_keep >= mask.n_kept:
        raise ValueError(
            f"density={run.density} keeps {n_keep} weights and the ticket has {mask.n_kept} of "
            f"{mask.total}: choose a density below {mask.density}."
        )
    return _made(run, data, network, mask, parent, METHODS[run.method].find)


def train(
    run: Run, data: Data, model: nn.Module, mask: MaskSet, parent: Card | None = None
) -> Further:
    """Trains a ticket further, its mask held; arguments and errors are those of `prune`.

    The density of `run` is the ticket's. Its method decides the training alone.
    """
    network, mask = _taken(run, data, model, mask, parent)
    if abs(run.density * mask.total - mask.n_kept) >= 1:
        raise ValueError(
            f"density={run.density} is not the ticket's, which keeps {mask.n_kept} of "
            f"{mask.total} weights: pass density={mask.density}, or prune it further."
        )
    return _made(run, data, network, mask, parent, _as_it_is)


def _made(
    run: Run, data: Data, network: nn.Module, mask: MaskSet, parent: Card | None, find: Search
) -> Further:
    """What a ticket becomes: found, trained, and counted on test images before and after."""
    experiments.set_up_torch()
    started = time.perf_counter()
    LEDGER.clear()
    start = Dense(network, head_of(network, data), trained=snapshot(network), mask=mask)
    before = predict(start.network, data.test)
    images = PASSES.images
    found = find(run, data, start)
    ticket = METHODS[run.method].train(run, data, start, found)
    record = experiments.record_of(run, data, ticket, started, PASSES.images - images)
    return Further(ticket, record, data, _parent(run, mask, parent), before)


def _as_it_is(run: Run, data: Data, start: Dense) -> Found:
    """A ticket with all weights that it has."""
    assert start.mask is not None
    return Found(start.fresh(), start.mask, epochs=0)


def _find_by_conflict(run: Run, data: Data, start: Dense) -> Found:
    """Ballot's search. Its first readings, before any step, are of the ticket as it is."""
    watch = meter(run, data)
    for _ in range(READINGS):
        watch.observe(start.network)
    return ballot.find(run, data, replace(start, conflict=watch.state()))


def _train_plainly(run: Run, data: Data, start: Dense, found: Found) -> Ticket:
    return train_plainly(run, data, found)


def _train_longer(run: Run, data: Data, start: Dense, found: Found) -> Ticket:
    return train_plainly(run, data, found, longer(run))


class Way(NamedTuple):
    """How a method goes on: what finds its mask, and its last training."""

    find: Search
    train: Callable[[Run, Data, Dense, Found], Ticket]


METHODS = {  # those whose weights are never reset
    "lth_rate": Way(search_at_rate, _train_plainly),
    "lth_long": Way(search_at_rate, _train_longer),
    "ballot_select": Way(_find_by_conflict, _train_plainly),
    "ballot_refine": Way(search_at_rate, ballot.retrain),
    "ballot": Way(_find_by_conflict, ballot.retrain),
}


def _parent(run: Run, mask: MaskSet, card: Card | None) -> Parent:
    """What the new card says of the ticket before."""
    if card is None:
        return Parent(kept=mask.n_kept, total=mask.total, images_of=run.model_dump())
    return Parent(
        kept=card.kept,
        total=card.total,
        images_of=card.images_of,
        file=card.file,
        sha256=card.sha256,
        method=card.run.get("method"),
        density=card.run.get("density"),
    )


def _taken(
    run: Run, data: Data, model: nn.Module, mask: MaskSet, parent: Card | None
) -> tuple[nn.Module, MaskSet]:
    """The network that the run names with a ticket's values, and its mask, on the data's device.

    Raises ValueError where ticket, run and data do not fit each other.
    """
    experiments.check(run)
    if run.method not in METHODS:
        raise ValueError(
            f"method={run.method!r} does not go on from a ticket: choose one of "
            f"{', '.join(METHODS)}."
        )
    if parent is not None:
        _check_task(run, data, parent)
    methods.check_data(run, data)
    check_layers(run.model, model)
    network = fresh(run, data)
    if ROOM in model.state_dict():  # class biases that a method has shifted
        make_room(network, data.train.n_classes)
    _check_network(run.model, network, model)
    network.load_state_dict(model.state_dict())
    mask.check_fits(network)
    own = _without_whole(run.model, network, mask)
    own.apply(network)
    return network, own


def _without_whole(name: str, network: nn.Module, mask: MaskSet) -> MaskSet:
    """The masks of what can be pruned, in the network's order; those of layers that stay whole may
    only keep all.
    """
    weights = prunable(network)
    whole = kernels(network).keys() - weights.keys()
    for layer in sorted(whole & mask.keys()):
        n_pruned = int((~mask[layer]).sum())
        if n_pruned:
            raise ValueError(
                f"{layer} stays whole in model {name!r}, by keep or since it is frozen, and its "
                f"mask prunes {n_pruned} of {mask[layer].numel()} weights: do not prune that "
                "layer, or add the model anew so that it may be pruned."
            )
    for layer in sorted((mask.keys() - whole) ^ weights.keys()):
        there = "a mask and is not prunable" if layer in mask else "no mask"
        raise ValueError(f"{layer} has {there}: give a mask of every prunable weight, no other.")
    device = next(network.parameters()).device
    return MaskSet({layer: mask[layer].to(device) for layer in weights}, mask.rescued)


def _check_task(run: Run, data: Data, parent: Card) -> None:
    """Raises ValueError where run or images are not those of the ticket's card."""
    for name in config.TASK:
        wanted = getattr(run, name)
        own = parent.run.get(name)
        if wanted != own:
            raise ValueError(
                f"{name}={wanted!r} is not the ticket's, {own!r}: make the run from its card, "
                "Run(**card.run | {...})."
            )
    if fingerprint(data) != parent.data_sha256:
        raise ValueError(
            "the images are not those that the ticket was made with, so it may have seen the ones "
            "that it would be judged by: take data.load(Run(**card.images_of))."
        )


def _check_network(name: str, network: nn.Module, model: nn.Module) -> None:
    """Raises ValueError where a ticket's network is not the one of that name."""
    expected = _shapes(network)
    found = _shapes(model)
    for layer in sorted(found.keys() | expected.keys()):
        there = found.get(layer, "missing")
        here = expected.get(layer, "missing")
        if there != here:
            raise ValueError(
                f"the network is not {name!r}: {layer} is {there}, expected {here}; name its "
                "own model, see models.add."
            )
    learning = {layer for layer, value in network.named_parameters() if value.requires_grad}
    for layer, value in model.named_parameters():
        if layer in learning and not value.requires_grad:
            raise ValueError(
                f"the network is not {name!r}: {layer} is frozen, expected one that learns; let it "
                "learn (requires_grad_(True)), or name a model that freezes it, see models.add."
            )


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
