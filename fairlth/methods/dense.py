"""The dense network: what pruning starts from and is measured against, trained once and shared by all methods of a seed."""

from dataclasses import dataclass

from torch import nn

from fairlth import metrics
from fairlth.config import Run
from fairlth.conflict import ConflictMeter, between_readings
from fairlth.images import Data
from fairlth.masks import MaskSet, prunable
from fairlth.methods.base import Ticket, fresh_model
from fairlth.methods.shared import Kept, shared
from fairlth.training import State, fit, low_precision, predict, snapshot


@dataclass(frozen=True)
class Dense:
    """One dense training: theta_k, the state after the rewind epochs, the trained state, and the conflict read on the way.

    `conflict` is the state of the `ConflictMeter` that watched it from the rewind point on; it changes nothing.
    """

    rewind: State
    trained: State
    conflict: State


def dense(run: Run, data: Data) -> Ticket:
    """Trains the whole network for the schedule's epochs; the mask keeps every weight.

    Momentum starts afresh at the rewind point, as it does in every ticket, so that the dense net is a ticket of density 1.
    """
    model = dense_model(run, data)
    return Ticket(model, MaskSet.full(prunable(model)), cost=1.0)


def dense_model(run: Run, data: Data) -> nn.Module:
    """The trained dense net of the run's task and seed, from the shared training."""
    model = fresh_model(run, data)
    model.load_state_dict(train_once(run, data).trained)
    return model


def floor(run: Run, data: Data) -> float:
    """The accuracy that a fair ticket has to keep: the dense net's on validation data less the preset's epsilon."""
    return metrics.accuracy(*predict(dense_model(run, data), data.val)) - run.settings.epsilon


def train_once(run: Run, data: Data) -> Dense:
    """The dense training of the run's task and seed, done once for all methods."""
    code = ["conflict", "methods/dense"]
    kept = shared("dense", run, data, lambda: _train(run, data), {"schedule", "rewind_epochs"}, code)
    return Dense(*(part(kept.tensors, f"{name}/") for name in ("rewind", "trained", "conflict")))


def meter(run: Run, data: Data) -> ConflictMeter:
    """The meter that watches the dense training of a run's task and seed, before its first step."""
    schedule = run.settings.schedule
    steps = (schedule.epochs - run.settings.rewind_epochs) * max(1, len(data.train) // schedule.batch_size)
    low = low_precision(schedule, data.train.y.device)
    return ConflictMeter(data.train, run.seed, between_readings(steps), schedule.batch_size, low)


def _train(run: Run, data: Data) -> Kept:
    model, schedule, k = fresh_model(run, data), run.settings.schedule, run.settings.rewind_epochs
    fit(model, data, schedule, seed=run.seed, stop=k, label="to the rewind point")
    tensors = {f"rewind/{name}": value for name, value in snapshot(model).items()}
    watch = meter(run, data)
    fit(model, data, schedule, seed=run.seed, start=k, after_step=watch, label="dense")
    tensors |= {f"conflict/{name}": value for name, value in watch.state().items()}
    return Kept(tensors | {f"trained/{name}": value for name, value in snapshot(model).items()})


def part(tensors: State, prefix: str) -> State:
    """The tensors whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
