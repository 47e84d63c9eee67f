"""Selection: from scores to a mask of exactly the wanted number of weights."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fairlth import config
from fairlth.config.method_table import n_levels
from fairlth.masks import MaskSet, count_kept

Scores = dict[str, Tensor]
NOISE = 1e-5  # conflicts that differ by less are equal but for rounding


def magnitude(weights: Mapping[str, Tensor]) -> Scores:
    """|w| of every weight (Han et al., 2015; the criterion of the lottery ticket hypothesis,
    Frankle and Carbin, 2019).
    """
    return {name: weight.detach().abs() for name, weight in weights.items()}


def conflict_aware(
    weights: Mapping[str, Tensor], conflict: Mapping[str, Tensor], strength: float
) -> Scores:
    """|w| exp(-strength z_u): the weights of units in clear conflict count less.

    z_u is how far the conflict of the weight's unit lies above its layer's mean, in standard
    deviations of the layer (units of conflict exactly 0 do not count), where the unit is in
    conflict (above 0) and above that mean, else 0. Conflicts that differ by rounding alone, as
    those of the two outputs of a binary task do, count as equal. Our reconstruction of the paper's
    conflict-detection-based mask generation (arXiv 2407.02805); `strength` 0 is plain magnitude.
    The sign that hurts can be tried with a negative strength.

    Args:
        weights: name -> weight.
        conflict: name -> (units,) in [-1, 1], see `conflict.unit_conflict`.
        strength: in units of log magnitude per standard deviation; 0.1 lowers a clear conflict's
            score by about a fifth.
    """
    scores = magnitude(weights)
    return {
        name: score.mul_(_factor(conflict[name], strength, score.dim()))
        for name, score in scores.items()
    }


def _factor(conflict: Tensor, strength: float, dim: int) -> Tensor:
    known = conflict[conflict != 0] if conflict.any() else conflict
    z = (conflict - known.mean()) / known.std(correction=0).clamp(min=NOISE)
    z = torch.where(conflict > 0, z.clamp(min=0), 0.0)
    return torch.exp(-strength * z).reshape(-1, *[1] * (dim - 1))


def select(
    scores: Scores, density: float, within: MaskSet | None = None, head: str = ""
) -> MaskSet:
    """The mask of the floor(density * N) highest scores over all layers together, of which no layer
    and no class dies.

    Where the highest scores alone would leave a layer, or a row of the output layer (a class),
    without any weight, its best weight is kept in place of the lowest one kept elsewhere, if the
    density allows. A layer without weights makes all outputs constant, a class without
    weights is never told from the others. `MaskSet.rescued` says where this acted.

    Args:
        scores: name -> score of each weight.
        density: share of all N weights to keep, in (0, 1].
        within: weights that this mask has already pruned stay pruned. It keeps at least as many.
        head: name of the output layer's weight (see `masks.output_layer`); "" takes the last one.
            Where it has no score it stays whole, and no class can lose its weights.

    Raises:
        ValueError: the density keeps no weight or more than `within`, or a score is nan.
    """
    n_keep = count_kept(density, scores)
    if within is not None:
        if n_keep > within.n_kept:
            raise ValueError(
                f"density={density} keeps {n_keep} weights, and the mask that they are chosen from "
                f"has {within.n_kept}: choose a lower density."
            )
        scores = {
            name: torch.where(within[name], score, -math.inf) for name, score in scores.items()
        }
    mask = MaskSet.from_scores(scores, n_keep)
    head = head or [*scores][-1]
    return mask if all_alive(mask, head) else _rescue(scores, mask, n_keep, head)


def all_alive(mask: MaskSet, head: str) -> bool:
    """Whether every layer, and every row of the output layer, keeps a weight."""
    if not all(bool(kept.any()) for kept in mask.values()):
        return False
    if head not in mask:  # it stays whole
        return True
    last = mask[head]
    return bool(last.reshape(len(last), -1).any(1).all())


def _rescue(scores: Scores, plain: MaskSet, n_keep: int, head: str) -> MaskSet:
    """The mask that keeps the best weight of each layer and each class whatever it scores; `plain`
    where they are too many.
    """
    best = {name: _best(score.reshape(1, -1), score.shape) for name, score in scores.items()}
    if head in scores:
        classes = scores[head]
        best[head] = best[head] | _best(classes.reshape(len(classes), -1), classes.shape)
    if sum(int(protected.sum()) for protected in best.values()) > n_keep:
        return plain
    raised = {name: score.masked_fill(best[name], math.inf) for name, score in scores.items()}
    mask = MaskSet.from_scores(raised, n_keep)
    new = {name: int((kept & ~plain[name]).sum()) for name, kept in mask.items()}
    return MaskSet(mask, {name: n for name, n in new.items() if n})


def _best(rows: Tensor, shape: torch.Size) -> Tensor:
    """True at the highest score of each row, in the layer's shape; nowhere in a row whose weights
    are all pruned already.
    """
    highest, place = rows.max(1, keepdim=True)
    found = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, place, highest > -math.inf)
    return found.reshape(shape)


def select_by_layer(scores: Mapping[str, Tensor], budget: Mapping[str, int]) -> MaskSet:
    """The mask of each layer's highest scores, as many as its budget (see `allocation`)."""
    return MaskSet({name: _highest(score, budget[name]) for name, score in scores.items()})


def _highest(scores: Tensor, n_keep: int) -> Tensor:
    return (
        MaskSet.from_scores({"": scores}, n_keep)[""]
        if n_keep
        else torch.zeros_like(scores, dtype=torch.bool)
    )


def random_scores(weights: Mapping[str, Tensor], seed: int) -> Scores:
    """One uniform random number per weight, from a generator of the run's seed for selection."""
    generator = torch.Generator().manual_seed(config.seed_for(seed, "selection"))
    return {
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name, weight in weights.items()
    }


def levels(density: float, keep_per_level: float, start: float = 1.0) -> list[float]:
    """Densities after each level of pruning, geometric, the last one exactly `density`; at least
    one level. `start` is the density before the first level.
    """
    share = density / start
    n = n_levels(share, keep_per_level)
    return [start * share ** (level / n) for level in range(1, n)] + [density]
