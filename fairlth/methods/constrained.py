"""Balancing Act (CEAG): no group may lose more accuracy by pruning than the whole, by multipliers on the groups' losses."""

import math

from fairlth import progress
from fairlth.config import Run
from fairlth.images import Data
from fairlth.masks import MaskSet, prunable
from fairlth.methods.base import Ticket
from fairlth.methods.dense import dense_model
from fairlth.multipliers import Multipliers
from fairlth.selection import magnitude, select
from fairlth.training import Trainer, cross_entropy, predict

PRUNING = 0.3  # of the epochs


def constrained(run: Run, data: Data) -> Ticket:
    """Gradual magnitude pruning of the dense net, then training under one constraint per group.

    minimise L subject to [A_g(dense) - A_g] - [A(dense) - A] <= tolerance for each group g: multipliers grow with the
    violation, measured on each group's last images, and weigh the loss surrogate L_g - L (see `Multipliers`). The density
    falls along a cubic during the first 30 % of the epochs; constraints hold from then on. `pressure` is the multipliers'
    learning rate: 0 is gradual magnitude pruning.

    Source: Hashemizadeh et al., ICLR 2024 (merajhashemi/balancing-act). Reconstructed: the run's schedule; all layers pruned
    together as by every magnitude method here, where the source prunes each alike and leaves first and last dense;
    multipliers that add up to at most 1; a learning rate of theirs that suits a few hundred steps, where the source takes
    1e-2 and 1e-4 for many thousand.
    """
    schedule, model = run.settings.schedule, dense_model(run, data)
    weights, pruning = prunable(model), math.ceil(PRUNING * schedule.epochs)
    duals = Multipliers(predict(model, data.train).by_group(), run.knob)
    mask, trainer, trace = MaskSet.full(weights), Trainer(model, data, schedule, run.seed), []
    for epoch in range(schedule.epochs):
        if epoch < pruning:
            density = cubic(run.density, (epoch + 1) / pruning)
            mask = select(magnitude(weights), density, within=mask)
            mask.apply(model)
            trainer.after_step = mask.apply
        loss, rate = trainer.epoch(epoch, cross_entropy if epoch < pruning else duals)
        trace.append({"epoch": epoch, "lr": rate, "loss": loss, "multipliers": duals.values.tolist()})
        progress.say(f"constrained: epoch {epoch + 1} of {schedule.epochs}, largest multiplier {duals.values.max():.3f}")
    return Ticket(model, mask, cost=2.0, trace=trace)


def cubic(density: float, done: float) -> float:
    """The density when a share `done` of the pruning is done: d + (1 - d)(1 - done)^3 (Zhu and Gupta, 2017)."""
    return density + (1 - density) * (1 - done) ** 3
