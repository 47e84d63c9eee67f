"""The refined training: feedback on validation accuracy, a learning rate that reacts, rewinding.

Our reconstruction of the training half of Ballot (arXiv 2407.02805 names a dynamic learning rate
and rewinding, no rules).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fairlth import metrics
from fairlth.config import Schedule
from fairlth.images import Data
from fairlth.metrics import Counts
from fairlth.training import (
    AfterStep,
    State,
    Trainer,
    epochs,
    learning_rate,
    predict,
    snapshot,
    weighted_by_group,
)

CLIP = (0.25, 4.0)  # bounds of the group weights
SETTLED = 0.25  # of the schedule's top learning rate: below it states are judged
BETWEEN = 2  # epochs from one validation to the next until the rate has settled, then one
PATIENCE = 1  # epochs without a better feasible state before the learning rate is halved


@dataclass(frozen=True)
class Epoch:
    """An epoch as it was trained; `settled`: its state may be chosen."""

    epoch: int
    lr: float
    loss: float
    settled: bool


@dataclass(frozen=True)
class Step(Epoch):
    """An epoch and what the control made of it: everything a picture needs."""

    accuracy: float  # validation, over all images
    cwv: float  # validation
    pressure: float
    weights: tuple[float, ...]  # of the groups' losses
    feasible: bool
    rewound: bool


@dataclass
class Refined:
    """The outcome: whether a state kept the accuracy constraint, and the validated epochs."""

    feasible: bool
    steps: list[Step] = field(default_factory=list)


def reweight(weights: Tensor, counts: Counts, pressure: float) -> Tensor:
    """Multiplicative weights on validation accuracy: groups that fare worse weigh more.

    w_g exp(pressure (mean a - a_g) / (1 - mean a)), normalised to mean 1 and clipped to [1/4, 4]. A
    group with twice the mean error lags by 1, so that one pressure means the same for easy and for
    hard tasks. Groups without a validation image keep their weight.

    Args:
        weights: (groups,) before.
        counts: of the validation split.
        pressure: at least 0; 0 leaves the weights as they are.
    """
    rates = torch.from_numpy(metrics.group_accuracy(*counts.by_group())).to(weights)
    error = (1 - rates.nanmean()).clamp(min=1e-3)
    lag = ((rates.nanmean() - rates) / error).nan_to_num(0.0)
    # beyond 50 the clip below decides anyway
    new = weights * torch.exp((pressure * lag).clamp(max=50.0))
    return (new / new.mean()).clamp(*CLIP)


def refine(
    model: nn.Module,
    data: Data,
    schedule: Schedule,
    *,
    seed: int,
    start: int,
    after_step: AfterStep,
    floor: float,
    pressure: float,
) -> Refined:
    """Trains a ticket, in place, to the fairest state of validation accuracy `floor` or more.

    After every BETWEEN epochs, and once settled after every epoch, the groups' weights follow
    `reweight`, with the pressure times the epochs since they last did. States are judged once they
    have settled: the schedule's learning rate has fallen to SETTLED of its top. Earlier ones are
    too noisy to choose from. A state is feasible if its accuracy is at least `floor`. The best one
    is the most accurate of those whose CWV is within one standard error of the lowest (the
    one-standard-error rule of Breiman et al., 1984), so that noise is not paid for with accuracy.
    One state is kept: one that was not the best when it came is not looked at again. Three rules:

    1. PATIENCE feasible epochs without a better state halve the learning rate.
    2. A settled state that breaks the constraint halves the pressure and moves the weights half-way
       (geometrically) to 1; if there is a best feasible state, the model is rewound to it and the
       learning rate halved.
    3. The best feasible state is what the model holds in the end. Without any, it holds the most
       accurate settled state and `feasible` is False.

    Args:
        model: at the rewind point, pruned.
        data: train and val are used; each group has a validation image.
        schedule: of the run; epochs start ... epochs - 1 are trained.
        seed: of the run.
        start: the rewind epoch.
        after_step: keeps the mask.
        floor: the dense net's validation accuracy less epsilon.
        pressure: of `reweight`; 0 trains plainly and only chooses.
    """
    trainer = Trainer(model, data, schedule, seed, after_step)
    control = Control(floor, pressure, torch.ones(data.train.n_groups, device=data.train.y.device))
    waited = 0
    for epoch in epochs(start, schedule.epochs, "refining"):
        loss, rate = trainer.epoch(epoch, weighted_by_group(control.weights), control.lr_scale)
        low = learning_rate(schedule, epoch + 1) <= SETTLED * schedule.lr
        settled = low and epoch + 1 > schedule.warmup
        waited += 1
        if waited < BETWEEN and not settled:
            continue
        step = control.react(
            model, predict(model, data.val), Epoch(epoch, rate, loss, settled), waited
        )
        waited = 0
        if step.rewound:
            trainer = Trainer(model, data, schedule, seed, after_step)
    return control.finish(model)


class Control:
    """The three rules, and what they remember: weights, learning rate, pressure, the best state."""

    def __init__(self, floor: float, pressure: float, weights: Tensor) -> None:
        self.floor = floor
        self.pressure = pressure
        self.weights = weights
        self.lr_scale = 1.0
        self.stale = 0  # feasible epochs without a better state
        self.lowest: tuple[float, float] | None = None  # CWV and its error of the fairest one
        self.best: tuple[float, float, State] | None = None  # CWV, accuracy, state to return
        self.most_accurate: tuple[float, State] | None = None
        self.steps: list[Step] = []

    def react(self, model: nn.Module, counts: Counts, epoch: Epoch, waited: int = 1) -> Step:
        """Judges the state after an epoch: may rewind `model`, and sets the next epoch's terms.

        Args:
            model: the state.
            counts: its right predictions on validation images.
            epoch: as it was trained.
            waited: epochs since the last state that was judged.
        """
        accuracy = metrics.accuracy(*counts)
        cwv = metrics.cwv(*counts.by_group())
        feasible = accuracy >= self.floor
        rewound = False
        weights = tuple(self.weights.tolist())
        pressure = self.pressure
        self.weights = reweight(self.weights, counts, self.pressure * waited)
        if epoch.settled and feasible:
            self._keep_best(model, accuracy, cwv, metrics.cwv_error(*counts.by_group()))
        elif epoch.settled:
            rewound = self._relax(model, accuracy)
        step = Step(
            **vars(epoch),
            accuracy=accuracy,
            cwv=cwv,
            pressure=pressure,
            weights=weights,
            feasible=feasible,
            rewound=rewound,
        )
        self.steps.append(step)
        return step

    def finish(self, model: nn.Module) -> Refined:
        """Loads the best feasible state, or the most accurate one, into `model`."""
        chosen = self.best or self.most_accurate
        if chosen is not None:
            model.load_state_dict(chosen[-1])
        return Refined(self.best is not None, self.steps)

    def _keep_best(self, model: nn.Module, accuracy: float, cwv: float, error: float) -> None:
        """Rule 1, for a feasible state."""
        if self.lowest is None or cwv < self.lowest[0]:
            self.lowest = (cwv, error)
        limit = sum(self.lowest)
        if cwv <= limit and (self.best is None or self.best[0] > limit or accuracy > self.best[1]):
            self.best = (cwv, accuracy, snapshot(model))
            self.stale = 0
        else:
            self.stale += 1
        if self.stale >= PATIENCE:
            self.lr_scale /= 2
            self.stale = 0

    def _relax(self, model: nn.Module, accuracy: float) -> bool:
        """Rule 2, for a state that breaks the constraint; whether the model was rewound."""
        self.pressure /= 2
        self.stale = 0
        self.weights = self.weights.sqrt() / self.weights.sqrt().mean()
        if self.best is not None:
            model.load_state_dict(self.best[-1])
            self.lr_scale /= 2
        elif self.most_accurate is None or accuracy > self.most_accurate[0]:
            self.most_accurate = (accuracy, snapshot(model))
        return self.best is not None
