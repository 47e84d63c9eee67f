"""FairPrune: units go that matter little to the groups that fare worse, and much to the others."""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fairlth import metrics
from fairlth.config import Run
from fairlth.config.method_table import FINE, n_levels
from fairlth.images import Data
from fairlth.lottery import Dense, Ticket, search, train_plainly
from fairlth.methods.fairgrape import IMAGES, group_importance, rows_by_group
from fairlth.methods.units import removal_of, train_small
from fairlth.selection import Scores
from fairlth.training import predict

BATCH = 32  # images behind a gradient


def fairprune(run: Run, data: Data, dense: Dense) -> Ticket:
    """Units of the lowest score (see `saliency`) go, in short levels, and training is plain.

    Unprivileged are the groups whose accuracy with the dense net on validation images is at most
    the mean of all groups. `run.pressure` is beta in [0, 1], how far what matters to the others
    lowers a score.

    Source: Wu et al., 2022 ("FairPrune: achieving fairness through pruning for dermatological
    disease diagnosis"), of which only the abstract and public re-implementations were at hand.
    Reconstructed: whole units in place of weights, several groups in place of two, short levels
    with training in between. The second derivative is read as the mean squared gradient of small
    batches, as guoyb17/StructuredFairPrune does for channels, but without the defect of that code:
    its sums are stored by tensor and looked up by name, so each batch overwrites the one before and
    only the last one counts.
    """
    removal = removal_of(run, dense.network, data, power=1)
    rows = rows_by_group(data.train, IMAGES, run.seed)
    privileged = fares_better(dense.at(dense.trained), data)

    def score(model: nn.Module) -> Scores:
        importance = group_importance(model, data.train, rows, BATCH)
        n_batches = [math.ceil(len(own) / BATCH) for own in rows]
        return saliency(importance, n_batches, privileged, run.knob)

    found = search(run, data, dense, score, choose=removal.choose, short=True)
    noted = removal.noted(found, run.density)
    ticket = train_small(data, dense, noted, partial(train_plainly, run, data))
    read = n_levels(run.density, FINE) * sum(map(len, rows)) / len(data.train)
    ticket.cost += read / run.settings.schedule.epochs
    ticket.notes["privileged"] = [data.groups[group] for group in privileged.nonzero()[:, 0]]
    return ticket


def fares_better(model: nn.Module, data: Data) -> Tensor:
    """(groups,) bool: accuracy above the groups' mean, on validation images; without any, False."""
    accuracies = metrics.group_accuracy(*predict(model, data.val).by_group())
    return torch.from_numpy(accuracies > np.nanmean(accuracies))


def saliency(importance: Scores, n_batches: list[int], privileged: Tensor, beta: float) -> Scores:
    """The score of each weight: its mean saliency for the unprivileged groups less beta times that
    for the privileged ones.

    A weight's saliency for a group, w^2 h / 2, is what the group's loss rises by without it, to
    second order (LeCun et al., 1990), with the mean squared gradient for h.

    Args:
        importance: layer -> (groups, *weight shape), sums over batches of (w dL/dw)^2.
        n_batches: of each group; groups without any count as 0.
        privileged: (groups,) bool. Where all or none are, that side counts as 0.
        beta: in [0, 1].
    """
    better = privileged.double()
    worse = 1 - better
    share = worse / worse.sum().clamp(min=1) - beta * better / better.sum().clamp(min=1)
    share = share / 2 / torch.tensor(n_batches).clamp(min=1)
    return {
        name: torch.einsum("g,g...->...", share.to(sums), sums) for name, sums in importance.items()
    }
