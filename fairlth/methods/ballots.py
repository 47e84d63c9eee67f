"""Ballot with its searches shared between methods, its two halves alone, and its shuffled mask."""

from fairlth import ballot as core
from fairlth.config import Run
from fairlth.images import Data
from fairlth.lottery import Dense, Found, Ticket, at_rewind, train_plainly
from fairlth.masks import prunable
from fairlth.methods.plain import search_at_rate
from fairlth.methods.sharing import found_once
from fairlth.selection import random_scores, select_by_layer


def ballot(run: Run, data: Data, dense: Dense) -> Ticket:
    """Fair lottery ticket, see `fairlth.ballot`."""
    return core.retrain(run, data, dense, find_once(run, data, dense))


def find_once(run: Run, data: Data, dense: Dense) -> Found:
    """Ballot's ticket before its refined training."""
    return found_once("ballot", run, data, dense, core.find)


def ballot_select(run: Run, data: Data, dense: Dense) -> Ticket:
    """Ablation: Ballot's selection with plain training."""
    return train_plainly(run, data, find_once(run, data, dense))


def ballot_refine(run: Run, data: Data, dense: Dense) -> Ticket:
    """Ablation: the same levels by magnitude alone, with Ballot's refined training."""
    found = found_once("lth-rate", run, data, dense, search_at_rate)
    return core.retrain(run, data, dense, found)


def shuffled(run: Run, data: Data, dense: Dense) -> Ticket:
    """Ballot with its weights shuffled: as many per layer, at random places, trained as Ballot's.

    What is left of Ballot's result is owed to its layer counts and its training. What is lost is
    owed to its choice of weights and to what these learned in the levels: shuffled weights start
    from theta_k. Source: the sanity check of Frankle et al., 2021 ("Pruning neural networks at
    initialization: why are we missing the mark?"). `run.pressure` is that of Ballot's training.
    """
    ours = find_once(run, data, dense)
    budget = {name: int(kept.sum()) for name, kept in ours.mask.items()}
    mask = select_by_layer(random_scores(prunable(ours.model), run.seed), budget)
    return core.retrain(run, data, dense, at_rewind(dense, mask, ours.epochs))
