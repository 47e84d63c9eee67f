"""The dense network, and plain pruning: at once, or level by level as a lottery ticket."""

from fairlth.config import Run
from fairlth.config.method_table import FINE
from fairlth.images import Data
from fairlth.lottery import Dense, Found, Ticket, by_magnitude, search, train_plainly
from fairlth.masks import MaskSet, prunable
from fairlth.methods.sharing import found_once, trained_once
from fairlth.selection import select
from fairlth.training import Loss, cross_entropy, fit


def dense(run: Run, data: Data, dense: Dense) -> Ticket:
    """The whole network, trained for the schedule's epochs; the mask keeps every weight.

    A network of your own that was given as trained is not trained at all.
    """
    model = dense.at(dense.trained)
    cost = dense.epochs / run.settings.schedule.epochs
    return Ticket(model, MaskSet.full(prunable(model)), cost)


def magnitude(run: Run, data: Data, dense: Dense, loss: Loss = cross_entropy) -> Ticket:
    """Keeps the largest weights of the dense net, over all layers together, and trains them again.

    Source: Han et al., 2015 (prune what is small, retrain), the second training with the whole
    schedule of the first (learning-rate rewinding, Renda et al., 2020), the strongest of the
    variants in use; the paper does not say which it compared with. It differs from `lth` in that
    weights are not rewound and all are pruned at once.
    """
    model = dense.at(dense.trained)
    mask = select(by_magnitude(model), run.density, head=dense.head)
    mask.apply(model)
    schedule = run.settings.schedule
    fit(model, data, schedule, seed=run.seed, after_step=mask.apply, loss=loss, label="pruned")
    cost = (dense.epochs + schedule.epochs) / schedule.epochs
    return Ticket(model, mask, cost)


def lth(run: Run, data: Data, dense: Dense) -> Ticket:
    """Standard lottery ticket: levels of magnitude pruning, each rewound to the state theta_k.

    Source: Frankle and Carbin, 2019; late rewinding from Frankle et al., 2020
    (facebookresearch/open_lth). Rewinding restores the whole state dict, batch-norm statistics
    included, the learning rate and the order of images; momentum starts afresh. Levels keep the
    same share each; the last one keeps exactly floor(density * N) weights.
    """
    found = found_once("lth", run, data, dense, search_by_magnitude)
    return trained_once("lth-trained", run, data, found, train_plainly)


def search_by_magnitude(run: Run, data: Data, dense: Dense) -> Found:
    """The standard ticket before its last training."""
    return search(run, data, dense, by_magnitude)


def lth_fine(run: Run, data: Data, dense: Dense) -> Ticket:
    """The standard lottery ticket in fine levels: 14 to a density of 0.05.

    Source: the levels of Frankle and Carbin, 2019, where `lth` takes the preset's coarser ones:
    what patience buys.
    """
    found = found_once("lth-fine", run, data, dense, search_finely)
    return train_plainly(run, data, found)


def search_finely(run: Run, data: Data, dense: Dense) -> Found:
    """The standard ticket of fine levels before its last training."""
    return search(run, data, dense, by_magnitude, keep_per_level=FINE)


def lth_rate(run: Run, data: Data, dense: Dense) -> Ticket:
    """The lottery ticket with learning-rate rewinding: weights that are left are never reset.

    Source: Renda et al., 2020 ("Comparing rewinding and fine-tuning in neural network pruning").
    There a level takes as long as the first training; here there are many short ones, which is
    close to gradual pruning (Zhu and Gupta, 2017) and costs little more than `lth`.
    """
    found = found_once("lth-rate", run, data, dense, search_at_rate)
    return train_plainly(run, data, found)


def search_at_rate(run: Run, data: Data, dense: Dense) -> Found:
    """The ticket of learning-rate rewinding before its last training."""
    return search(run, data, dense, by_magnitude, short=True)
