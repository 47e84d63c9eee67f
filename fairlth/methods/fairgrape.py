"""FairGRAPE: every group keeps its share of the importance of a layer's weights."""

from fairlth.allocation import uniform
from fairlth.config import Run
from fairlth.images import Data
from fairlth.importance import group_importance, rows_by_group, select_by_shares
from fairlth.masks import MaskSet, prunable
from fairlth.methods.base import Ticket
from fairlth.methods.dense import dense_model
from fairlth.selection import levels
from fairlth.training import Trainer, fit

KEEP = 0.6  # share of the weights that a step keeps
BETWEEN = 0.125  # of the schedule's epochs, trained after each step
LATE = 0.75  # of the schedule: the learning rate between steps is that of its last quarter
IMAGES = 256  # of each group behind an importance


def fairgrape(run: Run, data: Data) -> Ticket:
    """Prunes the dense net step by step with a greedy rule that keeps each group's share of importance, layer by layer.

    Importance is (w dL_g/dw)^2 (`importance.group_importance`), the rule `importance.keep_shares`, the density the same in
    every layer. Between steps the net is trained briefly, at the end with the whole schedule. It has no fairness knob.

    Source: Lin et al., ECCV 2022 (Bernardo1998/FairGRAPE), without the defects of its code. Reconstructed: coarser steps
    (0.6 of the weights kept where the source keeps 0.9), brief trainings in proportion to ours, classes as groups where no
    attribute is named (the source's mode 2).
    """
    schedule, model = run.settings.schedule, dense_model(run, data)
    weights, rows = prunable(model), rows_by_group(data.train, IMAGES, run.seed)
    plan, between = levels(run.density, KEEP), max(1, round(BETWEEN * schedule.epochs))
    mask, late = MaskSet.full(weights), min(round(LATE * schedule.epochs), schedule.epochs - between)
    for step, density in enumerate(plan):
        mask = select_by_shares(group_importance(model, data.train, rows), uniform(density, weights), mask)
        mask.apply(model)
        if step < len(plan) - 1:
            trainer = Trainer(model, data, schedule, run.seed, mask.apply)
            for epoch in range(late, late + between):
                trainer.epoch(epoch)
    fit(model, data, schedule, seed=run.seed, after_step=mask.apply, label="pruned")
    importance = len(plan) * sum(map(len, rows)) / len(data.train)
    cost = 2 + ((len(plan) - 1) * between + importance) / schedule.epochs
    return Ticket(model, mask, cost)
