"""The dense network: what pruning starts from and is measured against."""

from fairlth.config import Run
from fairlth.data import Data
from fairlth.masks import MaskSet
from fairlth.methods.base import Ticket, fresh_model
from fairlth.models import prunable
from fairlth.training import fit


def dense(run: Run, data: Data) -> Ticket:
    """Trains the whole network for the schedule's epochs; the mask keeps every weight."""
    model = fresh_model(run, data)
    fit(model, data, run.settings.schedule, seed=run.seed, label="dense")
    return Ticket(model, MaskSet.full(prunable(model)), cost=1.0)
