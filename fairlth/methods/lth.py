"""Lottery tickets: iterative magnitude pruning with late rewinding."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fairlth import config
from fairlth.config import Run, Schedule
from fairlth.images import Data
from fairlth.masks import MaskSet, prunable
from fairlth.methods.base import Ticket, fresh_model
from fairlth.methods.dense import part, train_once
from fairlth.methods.shared import Kept, shared
from fairlth.selection import Scores, levels, magnitude, select
from fairlth.training import AfterStep, fit, in_turn, snapshot

SETTINGS = {"schedule", "rewind_epochs", "keep_per_level"}  # of the preset, which decide a ticket
CODE = ["masks", "selection", "methods/dense", "methods/lth"]  # which decides it
FINE = 0.8  # share of the weights that a fine level keeps
SHORT = 1 / 8  # of the schedule's epochs, a short level's
LONGER = 2  # times the epochs of the first level: a long last training


@dataclass
class Found:
    """A ticket before its training: the model where that starts, with the mask applied, and how it came about."""

    model: nn.Module
    mask: MaskSet
    epochs: int  # trained so far
    notes: dict[str, Any] = field(default_factory=dict)


def find(
    run: Run,
    data: Data,
    score: Callable[[nn.Module], Scores],
    watch: AfterStep | None = None,
    *,
    rewind: bool = True,
    keep_per_level: float | None = None,
    epochs: int | None = None,
) -> Found:
    """Levels of training, pruning and rewinding; the last level's mask and what it is rewound to are the ticket.

    The first level is the dense training, shared with all methods.

    Args:
        run: its density and its preset's rewind epoch and share kept per level.
        data: train is used.
        score: scores of a trained model's weights; the highest are kept.
        watch: called after each step of the levels after the first.
        rewind: weights and learning rate go back to theta_k after each level; False: only the learning rate does, the weights
            that are left go on from their trained values, on images in another order.
        keep_per_level: share of the weights that a level keeps, None: the preset's.
        epochs: of every level after the first, with its own learning rate from top to 0; None: as many as the first.
    """
    preset, dense = run.settings, train_once(run, data)
    model, k = fresh_model(run, data), preset.rewind_epochs
    schedule, whole = preset.schedule, preset.schedule.epochs - k
    mask, plan = MaskSet.full(prunable(model)), levels(run.density, keep_per_level or preset.keep_per_level)
    model.load_state_dict(dense.trained)
    for level, density in enumerate(plan):
        if level and rewind:
            model.load_state_dict(dense.rewind)
        if level:
            mask.apply(model)
            after_step = in_turn(mask.apply, watch) if watch else mask.apply
            seed = run.seed if rewind else config.seed_for(run.seed, f"level {level}")
            label = f"level {level + 1} of {len(plan)}"
            fit(model, data, schedule, seed=seed, start=k, after_step=after_step, label=label)
        schedule = preset.schedule.model_copy(update={"epochs": k + (epochs or whole)})
        mask = select(score(model), density, within=mask)
    if rewind:
        model.load_state_dict(dense.rewind)
    mask.apply(model)
    return Found(model, mask, k + whole + (len(plan) - 1) * (epochs or whole))


def find_once(kind: str, run: Run, data: Data, search: Callable[[], Found], code: Iterable[str] = ()) -> Found:
    """What `search` finds, searched once for all methods of a task, seed and density that ask for this kind."""

    def make() -> Kept:
        found = search()
        tensors = {f"mask/{name}": kept for name, kept in found.mask.items()}
        tensors |= {f"state/{name}": value for name, value in snapshot(found.model).items()}
        return Kept(tensors, {"epochs": found.epochs, "found": found.notes, "rescued": found.mask.rescued})

    kept, model = shared(kind, run, data, make, SETTINGS, [*CODE, *code], run.density), fresh_model(run, data)
    model.load_state_dict(part(kept.tensors, "state/"))
    train_once(run, data)  # read again only so that the run's ledger has it: every search starts from it
    masks = part(kept.tensors, "mask/")
    in_order = {name: masks[name] for name in prunable(model)}  # of the network, which a file does not keep
    mask = MaskSet(in_order, kept.notes["rescued"])
    return Found(model, mask, kept.notes["epochs"], kept.notes["found"])


def at_rewind(run: Run, data: Data, mask: MaskSet, epochs: int) -> Found:
    """A mask that took `epochs` to find as a ticket: the network at the shared rewind point with the mask applied."""
    model = fresh_model(run, data)
    model.load_state_dict(train_once(run, data).rewind)
    mask.apply(model)
    return Found(model, mask, epochs)


def find_by_magnitude(run: Run, data: Data) -> Found:
    """The standard ticket before its training."""
    return find_once("lth", run, data, lambda: find(run, data, by_magnitude))


def find_at_rate(run: Run, data: Data) -> Found:
    """The ticket of learning-rate rewinding before its training."""
    return find_once("lth-rate", run, data, lambda: find_gradually(run, data, by_magnitude))


def find_gradually(run: Run, data: Data, score: Callable[[nn.Module], Scores], watch: AfterStep | None = None) -> Found:
    """`find` in many short levels: each keeps FINE of the weights, which go on, and trains them SHORT of the schedule."""
    epochs = max(1, round(SHORT * run.settings.schedule.epochs))
    return find(run, data, score, watch, rewind=False, keep_per_level=FINE, epochs=epochs)


def by_magnitude(model: nn.Module) -> Scores:
    """|w| of a model's prunable weights."""
    return magnitude(prunable(model))


def train(run: Run, data: Data, found: Found) -> float:
    """Trains a found ticket plainly from where it stands; returns the whole cost in dense-training equivalents."""
    schedule, k = run.settings.schedule, run.settings.rewind_epochs
    fit(found.model, data, schedule, seed=run.seed, start=k, after_step=found.mask.apply, label="ticket")
    return (found.epochs + schedule.epochs - k) / schedule.epochs


def lth(run: Run, data: Data) -> Ticket:
    """Standard lottery ticket: levels of magnitude pruning, each rewound to the state theta_k after k epochs.

    Source: Frankle and Carbin, 2019; late rewinding from Frankle et al., 2020 (facebookresearch/open_lth). Rewinding restores
    the whole state dict, batch-norm statistics included, the learning rate and the order of images; momentum starts afresh.
    Levels keep the same share each; the last one keeps exactly floor(density * N) weights.
    """
    found = find_by_magnitude(run, data)

    def make() -> Kept:
        cost = train(run, data, found)
        return Kept(snapshot(found.model), {"cost": cost})

    kept = shared("lth-trained", run, data, make, SETTINGS, CODE, run.density)
    found.model.load_state_dict(kept.tensors)
    return Ticket(found.model, found.mask, kept.notes["cost"])


def lth_rate(run: Run, data: Data) -> Ticket:
    """The lottery ticket with learning-rate rewinding: the weights that are left after a level are never reset.

    Source: Renda et al., 2020 ("Comparing rewinding and fine-tuning in neural network pruning"). There a level takes as long as
    the first training; here there are as many, of SHORT of it, which is close to gradual pruning (Zhu and Gupta, 2017) and
    costs little more than `lth` in the preset's levels.
    """
    found = find_at_rate(run, data)
    return Ticket(found.model, found.mask, train(run, data, found))


def longer(run: Run) -> Schedule:
    """The schedule of a long last training: LONGER times the epochs of the first level, after the rewind epochs."""
    schedule = run.settings.schedule
    k = run.settings.rewind_epochs
    return schedule.model_copy(update={"epochs": k + LONGER * (schedule.epochs - k)})


def lth_long(run: Run, data: Data) -> Ticket:
    """The control of equal budget: `lth_rate`'s ticket, its last training as long as Ballot's refined training.

    Nothing else differs from `lth_rate`: plain cross-entropy, no feedback, no shift. What Ballot gains on it is not owed to
    more epochs. A control of ours, no source.
    """
    found = find_at_rate(run, data)
    schedule = longer(run)
    k = run.settings.rewind_epochs
    fit(found.model, data, schedule, seed=run.seed, start=k, after_step=found.mask.apply, label="long ticket")
    cost = (found.epochs + schedule.epochs - k) / run.settings.schedule.epochs
    return Ticket(found.model, found.mask, cost)


def lth_fine(run: Run, data: Data) -> Ticket:
    """The standard lottery ticket in fine levels that keep 0.8 of the weights each, 14 of them to a density of 0.05.

    Source: the levels of Frankle and Carbin, 2019, where `lth` takes the preset's coarser ones: what patience buys.
    """
    found = find_once("lth-fine", run, data, lambda: find(run, data, by_magnitude, keep_per_level=FINE))
    return Ticket(found.model, found.mask, train(run, data, found))
