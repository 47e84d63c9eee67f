"""Random pruning: the control for the choice of weights."""

import torch

from fairlth import config
from fairlth.config import Run
from fairlth.data import Data
from fairlth.methods.base import Ticket, fresh_model
from fairlth.models import prunable
from fairlth.selection import select
from fairlth.training import fit


def random(run: Run, data: Data) -> Ticket:
    """Keeps weights drawn uniformly from all layers together, then trains them from their initial values once."""
    model = fresh_model(run, data)
    generator = torch.Generator().manual_seed(config.seed_for(run.seed, "selection"))
    scores = {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in prunable(model).items()}
    mask = select(scores, run.density)
    mask.apply(model)
    fit(model, data, run.settings.schedule, seed=run.seed, after_step=mask.apply, label="random ticket")
    return Ticket(model, mask, cost=1.0)
