"""Lottery tickets: levels of training, pruning and rewinding, and what flows between them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fairlth import config, metrics
from fairlth.config import Run, Schedule
from fairlth.config.method_table import FINE, LONGER, short_epochs
from fairlth.conflict import meter, readings
from fairlth.images import Data, as_float
from fairlth.masks import MaskSet, output_layer, prunable
from fairlth.selection import Scores, levels, magnitude, select
from fairlth.training import AfterStep, State, fit, in_turn, predict, snapshot

PROBED = 2  # images that the output layer is found with
ROUNDED = 1e-9  # of an accuracy: above what floats round off, below what one image makes
Score = Callable[[nn.Module], Scores]  # a trained network -> scores of its weights
Choose = Callable[[Scores, float, MaskSet, str], MaskSet]  # see `selection.select`


@dataclass(frozen=True)
class Dense:
    """The dense network of a task and seed, which every method is handed.

    `network` has the initial weights, and `head` is the name of its output layer's weight. `rewind`
    is theta_k, the state after the rewind epochs, `trained` the state after all of them. `conflict`
    is the state of the `ConflictMeter` that watched the training from the rewind point on; watching
    changes nothing. The three are empty for methods that never ask for them. `epochs` were trained
    for it: those of the schedule, or 0 where the network was given as trained. A ticket that is
    pruned further takes this place with its `mask`; None: all weights are there.
    """

    network: nn.Module
    head: str = ""
    rewind: State = field(default_factory=dict)
    trained: State = field(default_factory=dict)
    conflict: State = field(default_factory=dict)
    epochs: int = 0
    mask: MaskSet | None = None

    def fresh(self) -> nn.Module:
        """A copy of the network with its initial weights."""
        return copy.deepcopy(self.network)

    def at(self, state: State) -> nn.Module:
        """A copy of the network in a state, such as `rewind`."""
        model = self.fresh()
        model.load_state_dict(state)
        return model


@dataclass
class Found:
    """A ticket before its last training: the network where that starts, its mask applied."""

    model: nn.Module
    mask: MaskSet
    epochs: int  # trained so far
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ticket:
    """What a method returns.

    `model` is trained, its pruned weights are exactly 0; `mask` says which weights are kept. `cost`
    is in dense-training equivalents, epochs trained over the schedule's epochs; SafeCompress's
    branches and readings of importance count, too. `feasible` says whether the accuracy constraint
    was kept on validation data, None for methods without one.
    `trace` has one row per validated epoch, or what else the method wants remembered.
    """

    model: nn.Module
    mask: MaskSet
    cost: float
    feasible: bool | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def train_dense(run: Run, data: Data, network: nn.Module) -> Dense:
    """Trains a network whole.

    Momentum starts afresh at the rewind point, as it does in every ticket, so that the dense net is
    a ticket of density 1.
    """
    schedule = run.settings.schedule
    k = run.settings.rewind_epochs
    model = copy.deepcopy(network)
    fit(model, data, schedule, seed=run.seed, stop=k, label="to the rewind point")
    rewind = snapshot(model)
    watch = meter(run, data)
    fit(model, data, schedule, seed=run.seed, start=k, after_step=watch, label="dense")
    head = head_of(network, data)
    return Dense(network, head, rewind, snapshot(model), watch.state(), schedule.epochs)


def take_as_trained(run: Run, data: Data, network: nn.Module) -> Dense:
    """The dense net that a trained network is as it stands; nothing is trained.

    Rewinding goes to the given weights (Chen et al., 2020, "The lottery ticket hypothesis for
    pre-trained BERT networks"). Conflict is read from the weights as they stand, in evaluation
    mode as every reading, as many times as a dense training of the run would read it.
    """
    model = copy.deepcopy(network)
    watch = meter(run, data)
    for _ in range(readings(run, data)):
        watch.observe(model)
    head = head_of(network, data)
    return Dense(network, head, snapshot(network), snapshot(network), watch.state())


def head_of(network: nn.Module, data: Data) -> str:
    """The name of the weight of a network's output layer, of which no class may lose its last."""
    return output_layer(network, as_float(data.train.x[:PROBED]))


def floor(run: Run, data: Data, dense: Dense) -> float:
    """The accuracy that a fair ticket keeps: the dense net's on validation data less epsilon.

    ROUNDED less, so that a ticket with exactly that many images right is not refused.
    """
    counts = predict(dense.at(dense.trained), data.val)
    return metrics.accuracy(*counts) - run.settings.epsilon - ROUNDED


def search(
    run: Run,
    data: Data,
    dense: Dense,
    score: Score,
    watch: AfterStep | None = None,
    *,
    choose: Choose = select,
    keep_per_level: float | None = None,
    short: bool = False,
) -> Found:
    """Levels of training, pruning and rewinding: the last mask, and what it is rewound to.

    The first level is the dense training, or none where the network was given as trained. The last
    mask lies inside the dense net's own.

    Args:
        run: its density and its preset's rewind epoch and share kept per level.
        data: train is used.
        dense: where the search starts.
        score: scores of a trained network's weights; the highest are kept.
        watch: called after each step of the levels after the first.
        choose: makes a level's mask, of its scores, density, the mask before and the head.
        keep_per_level: share of the weights that a level keeps, None: the preset's, or FINE where
            levels are short.
        short: many levels of SHORT of the schedule, each with a learning rate from top to 0.
            Weights are not rewound to theta_k: they go on from their trained values, on images in
            another order. Source: learning-rate rewinding of Renda et al., 2020; there a level
            takes as long as the first training. Close to gradual pruning (Zhu and Gupta, 2017).
    """
    preset = run.settings
    k = preset.rewind_epochs
    each = short_epochs(preset) if short else preset.schedule.epochs - k
    keep = keep_per_level or (FINE if short else preset.keep_per_level)
    schedule = preset.schedule.model_copy(update={"epochs": k + each})
    if short:  # it has no time to warm up in
        schedule = schedule.model_copy(update={"warmup": min(schedule.warmup, k)})
    model = dense.at(dense.trained)
    mask = MaskSet.full(prunable(model)) if dense.mask is None else dense.mask
    plan = levels(run.density, keep, mask.density)
    for level, density in enumerate(plan):
        if level > 0:
            if not short:
                model.load_state_dict(dense.rewind)
            mask.apply(model)
            after_step = in_turn(mask.apply, watch) if watch else mask.apply
            seed = config.seed_for(run.seed, f"level {level}") if short else run.seed
            label = f"level {level + 1} of {len(plan)}"
            fit(model, data, schedule, seed=seed, start=k, after_step=after_step, label=label)
        mask = choose(score(model), density, mask, dense.head)
    if not short:
        model.load_state_dict(dense.rewind)
    mask.apply(model)
    return Found(model, mask, dense.epochs + (len(plan) - 1) * each)


def by_magnitude(model: nn.Module) -> Scores:
    """|w| of a network's prunable weights."""
    return magnitude(prunable(model))


def at_rewind(dense: Dense, mask: MaskSet, epochs: int) -> Found:
    """A mask that took `epochs` to find as a ticket that starts from the rewind point."""
    model = dense.at(dense.rewind)
    mask.apply(model)
    return Found(model, mask, epochs)


def longer(run: Run) -> Schedule:
    """The schedule of a long last training: LONGER times the epochs of the first level."""
    schedule = run.settings.schedule
    k = run.settings.rewind_epochs
    return schedule.model_copy(update={"epochs": k + LONGER * (schedule.epochs - k)})


def train_plainly(run: Run, data: Data, found: Found, schedule: Schedule | None = None) -> Ticket:
    """Trains a found ticket on cross-entropy alone; without a schedule by the run's own."""
    schedule = schedule or run.settings.schedule
    k = run.settings.rewind_epochs
    after_step = found.mask.apply
    fit(found.model, data, schedule, seed=run.seed, start=k, after_step=after_step, label="ticket")
    cost = (found.epochs + schedule.epochs - k) / run.settings.schedule.epochs
    return Ticket(found.model, found.mask, cost, notes=found.notes)
