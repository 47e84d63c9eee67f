"""The control for where Ballot's selection puts its weights."""

from fairlth.config import Run
from fairlth.images import Data
from fairlth.masks import prunable
from fairlth.methods.ballot import find_by_conflict, refined
from fairlth.methods.base import Ticket
from fairlth.methods.lth import at_rewind
from fairlth.selection import random_scores, select_by_layer


def shuffled(run: Run, data: Data) -> Ticket:
    """Ballot with its weights shuffled: as many in each layer as Ballot keeps, at random places, trained as Ballot trains.

    What is left of Ballot's result is owed to its layer counts and its training, what is lost to its choice of weights.
    Source: the sanity check of Frankle et al., 2021 ("Pruning neural networks at initialization: why are we missing the
    mark?"). `pressure` is that of Ballot's training.
    """
    ours = find_by_conflict(run, data)
    budget = {name: int(kept.sum()) for name, kept in ours.mask.items()}
    mask = select_by_layer(random_scores(prunable(ours.model), run.seed), budget)
    return refined(run, data, at_rewind(run, data, mask, ours.epochs))
