"""SafeCompress with a fairness test: sparse training in which changes of the mask compete."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fairlth import config, metrics
from fairlth.config import Run
from fairlth.config.method_table import RECOVERY
from fairlth.images import Data, as_float
from fairlth.lottery import Dense, Ticket, floor
from fairlth.masks import MaskSet, prunable
from fairlth.methods.allocation import erk
from fairlth.methods.regrowth import cosine_rate, refresh_statistics, regrow
from fairlth.selection import random_scores, select_by_layer
from fairlth.training import PASSES, State, Trainer, epochs, predict, snapshot

Strategy = tuple[str, str]  # what drops, what grows
STRATEGIES: tuple[Strategy, ...] = tuple(
    product(("magnitude", "threshold"), ("random", "gradient"))
)
STATISTICS = 2000  # training images behind a branch's batch-norm statistics


def safecompress(
    run: Run, data: Data, dense: Dense, strategies: Sequence[Strategy] = STRATEGIES
) -> Ticket:
    """Sparse training from random ERK masks; before each epoch several prune-and-grow branches are
    tried and one goes on.

    Each branch drops and grows weights (`regrowth.regrow`), trains a tenth of an epoch on the same
    images, has its batch-norm statistics taken anew, and is tested on validation data. Of those
    that are at most the slack less accurate than the best so far, the one with the lowest CWV goes
    on; but as long as no net has reached the accuracy to keep, the most accurate one, since a net
    that knows nothing is fair. The ticket is the fairest state recorded after an epoch that keeps
    the accuracy. `pressure` in [0, 1] is the slack in units of epsilon, for both: 0 always takes
    the most accurate branch.

    Source: the loop in the figure of JiePKU/SafeCompress (TSE 2024). A reconstruction: the released
    code has no such loop, it trains one branch by fixed rules, and its test influences nothing. The
    test here is of fairness in place of privacy, growth is by the largest gradient where the
    released code takes the smallest, and updates come once an epoch. With a single one of
    `strategies` it is plain dynamic sparse training.
    """
    slack = run.knob * run.settings.epsilon
    enough = floor(run, data, dense)
    least = enough + run.settings.epsilon - slack
    branches = Branches(run, data, dense)
    trainer = branches.trainer
    trainer.epoch(0)
    now = branches.test(0, ("erk", "random"))
    best = now
    highest = best.accuracy
    for epoch in epochs(1, run.settings.schedule.epochs, "safecompress"):
        tried = branches.grow(now, strategies, epoch)
        highest = max(highest, now.accuracy, *(one.accuracy for one in tried))
        chosen = choose(tried, highest - slack if highest >= least else math.inf)
        branches.load(chosen)
        trainer.epoch(epoch, first=branches.recovery)
        now = branches.test(epoch, chosen.strategy, "epoch")
        best = choose([best, now], least)
    branches.load(best)
    return Ticket(trainer.model, best.mask, branches.cost, best.accuracy >= enough, branches.trace)


@dataclass(frozen=True)
class Candidate:
    """A sparse net that was tested on validation data, and everything needed to go on from it."""

    strategy: Strategy
    accuracy: float
    unfairness: float  # CWV
    mask: MaskSet
    model: State
    optimizer: dict[str, Any]


def choose(candidates: Sequence[Candidate], least: float) -> Candidate:
    """The fairest candidate with at least that accuracy, the more accurate of two as fair; without
    any, the most accurate.
    """
    enough = [one for one in candidates if one.accuracy >= least]
    if not enough:
        return max(candidates, key=lambda one: one.accuracy)
    return min(enough, key=lambda one: (one.unfairness, -one.accuracy))


class Branches:
    """A sparse net in training that can branch, be tested, and go on from a candidate; `trace` has
    a row for every test.
    """

    def __init__(self, run: Run, data: Data, dense: Dense) -> None:
        model = dense.fresh()
        weights = prunable(model)
        self.mask = select_by_layer(random_scores(weights, run.seed), erk(run.density, weights))
        self.mask.apply(model)
        self.data = data
        self.trainer = Trainer(model, data, run.settings.schedule, run.seed, self.mask.apply)
        self.recovery = math.ceil(RECOVERY * self.trainer.steps_per_epoch)
        self.generator = torch.Generator().manual_seed(config.seed_for(run.seed, "growth"))
        self.rows = torch.randperm(len(data.train), generator=self.generator)[:STATISTICS].to(
            data.train.y.device
        )
        self.trace: list[dict[str, Any]] = []
        self.extra_steps = 0
        self.before = dense.epochs / run.settings.schedule.epochs

    @property
    def cost(self) -> float:
        """Dense-training equivalents: the dense net behind the constraint, the training, the
        branches not taken.
        """
        steps = self.trainer.schedule.epochs * self.trainer.steps_per_epoch
        return self.before + 1 + self.extra_steps / steps

    def grow(self, start: Candidate, strategies: Sequence[Strategy], epoch: int) -> list[Candidate]:
        """One tested branch per strategy, each from `start` and trained on the first images of the
        epoch.
        """
        self.load(start)
        weights = prunable(self.trainer.model)
        gradients = self._gradients()
        rate = cosine_rate(epoch / self.trainer.schedule.epochs)
        self.extra_steps += (len(strategies) - 1) * self.recovery
        tried = []
        for strategy in strategies:
            self.load(start)
            self._put(regrow(weights, gradients, start.mask, rate, *strategy, self.generator))
            self.trainer.epoch(epoch, last=self.recovery)
            refresh_statistics(self.trainer.model, self.data.train, self.rows, self.trainer.seed)
            tried.append(self.test(epoch, strategy))
        return tried

    def test(self, epoch: int, strategy: Strategy, what: str = "branch") -> Candidate:
        """The net as it is, with its accuracy and CWV on validation data."""
        counts = predict(self.trainer.model, self.data.val)
        accuracy = metrics.accuracy(*counts)
        groups = counts.by_group()
        cwv = metrics.cwv(*groups)
        row = {"epoch": epoch, "tested": what, "strategy": " ".join(strategy)}
        row |= {"accuracy": accuracy, "cwv": cwv, "mcd": metrics.mcd(*groups)}
        self.trace.append(row | {"density": self.mask.density})
        optimizer = copy.deepcopy(self.trainer.optimizer.state_dict())
        model = snapshot(self.trainer.model)
        return Candidate(strategy, accuracy, cwv, self.mask, model, optimizer)

    def load(self, candidate: Candidate) -> None:
        """Goes back to a candidate: weights, statistics, momentum, mask."""
        self.trainer.model.load_state_dict(candidate.model)
        self.trainer.optimizer.load_state_dict(copy.deepcopy(candidate.optimizer))
        self.mask = candidate.mask
        self.trainer.after_step = candidate.mask.apply

    def _put(self, mask: MaskSet) -> None:
        """Changes the mask; weights and momentum survive only where both masks keep them, so that
        what grows starts at 0.
        """
        state = self.trainer.optimizer.state
        for name, weight in prunable(self.trainer.model).items():
            for buffer in state.get(weight, {}).values():
                if isinstance(buffer, Tensor) and buffer.shape == weight.shape:
                    buffer.mul_(self.mask[name] & mask[name])
        self.mask = mask
        self.trainer.after_step = mask.apply
        mask.apply(self.trainer.model)

    def _gradients(self) -> dict[str, Tensor]:
        """Loss gradients of all weights, pruned ones too, on a random batch of training images."""
        split = self.data.train
        model = self.trainer.model
        rows = torch.randperm(len(split), generator=self.generator)[
            : self.trainer.schedule.batch_size
        ].to(split.y.device)
        weights = prunable(model)
        training = model.training
        model.eval()
        loss = F.cross_entropy(model(as_float(split.x[rows])), split.y[rows])
        gradients = torch.autograd.grad(loss, list(weights.values()))
        PASSES.trained(len(rows))
        model.train(training)
        return dict(zip(weights, gradients, strict=True))
