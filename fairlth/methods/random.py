"""Random pruning: the control for the choice of weights."""

from fairlth.config import Run
from fairlth.images import Data
from fairlth.masks import prunable
from fairlth.methods.base import Ticket, fresh_model
from fairlth.selection import random_scores, select
from fairlth.training import fit


def random(run: Run, data: Data) -> Ticket:
    """Keeps weights drawn uniformly from all layers together, then trains them from their initial values once."""
    model = fresh_model(run, data)
    mask = select(random_scores(prunable(model), run.seed), run.density)
    mask.apply(model)
    fit(model, data, run.settings.schedule, seed=run.seed, after_step=mask.apply, label="random ticket")
    return Ticket(model, mask, cost=1.0)
