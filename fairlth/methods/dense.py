"""The dense network as a method: what pruning starts from and is compared with."""

from fairlth.config import Run
from fairlth.images import Data
from fairlth.lottery import Dense, Ticket
from fairlth.masks import MaskSet, prunable


def dense(run: Run, data: Data, dense: Dense) -> Ticket:
    """The whole network, trained for the schedule's epochs; the mask keeps every weight.

    A network of your own that was given as trained is not trained at all.
    """
    model = dense.at(dense.trained)
    cost = dense.epochs / run.settings.schedule.epochs
    return Ticket(model, MaskSet.full(prunable(model)), cost)
