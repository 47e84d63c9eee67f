"""The refined training: a feedback on validation accuracy per group, a learning rate that reacts, rewinding, an honest end.

Our reconstruction of the training half of Ballot (arXiv 2407.02805 names a dynamic learning rate and rewinding, no rules).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fairlth import metrics, progress
from fairlth.config import Schedule
from fairlth.data import Data
from fairlth.metrics import Counts
from fairlth.training import AfterStep, State, Trainer, predict, snapshot

CLIP = (0.25, 4.0)  # bounds of the group weights
PATIENCE = 2  # epochs without a better feasible state before the learning rate is halved
CHANCE = 2.0  # a CWV below so many noise floors counts as fair: about the 95 % quantile of what chance alone gives


@dataclass(frozen=True)
class Step:
    """What one epoch of refinement did: everything a picture of it needs."""

    epoch: int
    lr: float
    loss: float
    accuracy: float  # validation, over all images
    cwv: float  # validation
    pressure: float
    weights: tuple[float, ...]  # of the groups' losses, mean 1
    feasible: bool
    rewound: bool


@dataclass
class Refined:
    """The outcome: whether a state kept the accuracy constraint, and the epochs' steps. The model holds the state."""

    feasible: bool
    steps: list[Step] = field(default_factory=list)


def reweight(weights: Tensor, counts: Counts, pressure: float) -> Tensor:
    """w_g exp(pressure (mean a - a_g)), normalised to mean 1 and clipped to [1/4, 4]: groups that fare worse weigh more.

    Multiplicative weights on validation accuracy; `pressure` 0 leaves the weights as they are. Groups without a validation
    image keep their weight.

    Args:
        weights: (groups,) before.
        counts: of the validation split.
        pressure: eta, at least 0.
    """
    rates = torch.from_numpy(metrics.group_accuracy(*counts.by_group())).to(weights)
    lag = (rates.nanmean() - rates).nan_to_num(0.0)
    new = weights * torch.exp(pressure * lag)
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
    judge: Callable[[nn.Module], Counts] | None = None,
) -> Refined:
    """Trains a ticket from epoch `start` to the fairest state whose validation accuracy is at least `floor`, in place.

    After every epoch the groups' weights follow `reweight`. The best feasible state (accuracy >= floor) is the one with the
    lowest validation CWV; states whose CWV chance alone could give count as equally fair, and the more accurate wins. Three
    rules: (1) PATIENCE feasible epochs without a better state halve the learning rate; (2) a state that breaks the constraint
    after a feasible one was found is rewound to the best feasible state, with half the learning rate, half the pressure and
    the weights moved half-way (geometrically) to 1; (3) the best feasible state is what the model holds in the end. Without
    any, it holds the most accurate one and `feasible` is False.

    Args:
        model: at the rewind point, pruned.
        data: train and val are used.
        schedule: of the run; epochs start ... epochs - 1 are trained.
        seed: of the run.
        start: the rewind epoch.
        after_step: keeps the mask.
        floor: the dense net's validation accuracy less epsilon.
        pressure: eta of `reweight`; 0 trains plainly and only chooses.
        judge: gives the validation counts of a model; `predict` by default.
    """
    judge = judge or (lambda model: predict(model, data.val))
    trainer = Trainer(model, data, schedule, seed, after_step)
    control = Control(floor, pressure, torch.ones(data.train.n_groups, device=data.train.y.device))
    for epoch in range(start, schedule.epochs):
        loss, rate = trainer.epoch(epoch, control.weights, control.lr_scale)
        step = control.react(model, judge(model), epoch, loss, rate)
        if step.rewound:
            trainer = Trainer(model, data, schedule, seed, after_step)
        progress.say(
            f"refining: epoch {epoch + 1} of {schedule.epochs}, validation accuracy {step.accuracy:.3f}, CWV {step.cwv:.4f}"
        )
    return control.finish(model)


class Control:
    """The three rules and what they remember: weights, learning rate, pressure, and the best state so far."""

    def __init__(self, floor: float, pressure: float, weights: Tensor) -> None:
        self.floor, self.pressure, self.weights = floor, pressure, weights
        self.lr_scale, self.stale = 1.0, 0
        self.best: tuple[tuple[float, float], State] | None = None  # rank and state, among feasible ones
        self.most_accurate: tuple[float, State] | None = None
        self.steps: list[Step] = []

    def react(self, model: nn.Module, counts: Counts, epoch: int, loss: float, rate: float) -> Step:
        """Judges the state after an epoch, rewinds `model` if it broke the constraint, and sets the next epoch's terms."""
        accuracy, cwv = metrics.accuracy(*counts), metrics.cwv(*counts.by_group())
        feasible = accuracy >= self.floor
        rewound = not feasible and self.best is not None
        weights, pressure = tuple(self.weights.tolist()), self.pressure
        if self.most_accurate is None or accuracy > self.most_accurate[0]:
            self.most_accurate = (accuracy, snapshot(model))
        if rewound:
            self._rewind(model)
        else:
            self._go_on(model, counts, feasible)
        self.steps.append(Step(epoch, rate, loss, accuracy, cwv, pressure, weights, feasible, rewound))
        return self.steps[-1]

    def finish(self, model: nn.Module) -> Refined:
        """Loads the best feasible state, or the most accurate one, into `model`."""
        chosen = self.best or self.most_accurate
        if chosen is not None:
            model.load_state_dict(chosen[1])
        return Refined(self.best is not None, self.steps)

    def _rewind(self, model: nn.Module) -> None:
        assert self.best is not None
        model.load_state_dict(self.best[1])
        self.lr_scale, self.pressure, self.stale = self.lr_scale / 2, self.pressure / 2, 0
        self.weights = self.weights.sqrt() / self.weights.sqrt().mean()

    def _go_on(self, model: nn.Module, counts: Counts, feasible: bool) -> None:
        rank = fairness_rank(counts)
        if feasible and (self.best is None or rank < self.best[0]):
            self.best, self.stale = (rank, snapshot(model)), 0
        elif feasible:
            self.stale += 1
        if self.stale >= PATIENCE:
            self.lr_scale, self.stale = self.lr_scale / 2, 0
        self.weights = reweight(self.weights, counts, self.pressure)


def fairness_rank(counts: Counts) -> tuple[float, float]:
    """(CWV or what chance alone could give, whichever is larger; minus accuracy): the lower tuple is the better state."""
    groups = counts.by_group()
    return max(metrics.cwv(*groups), CHANCE * metrics.cwv_floor(*groups)), -metrics.accuracy(*counts)
