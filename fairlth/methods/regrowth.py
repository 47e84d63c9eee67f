"""Dynamic sparse training: a mask drops some weights of each layer and grows as many elsewhere."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fairlth.images import Split, as_float
from fairlth.masks import MaskSet
from fairlth.training import PASSES, own_draws

BATCH = 200  # images behind one reading of batch norm's statistics
THRESHOLD = 0.001  # absolute value up to which the rule "threshold" drops a weight

# weight, its mask, death rate -> how many of its smallest weights go
Drop = Callable[[Tensor, Tensor, float], int]
# gradient -> score of each weight, the highest grow
Grow = Callable[[Tensor, torch.Generator], Tensor]


DROP: dict[str, Drop] = {
    "magnitude": lambda weight, kept, rate: math.ceil(rate * int(kept.sum())),
    "threshold": lambda weight, kept, rate: int((kept & (weight.abs() <= THRESHOLD)).sum()),
}
GROW: dict[str, Grow] = {
    "random": lambda gradient, draw: torch.rand(gradient.shape, generator=draw).to(gradient),
    "gradient": lambda gradient, draw: gradient.abs(),
    "inverted": lambda gradient, draw: -gradient.abs(),
}


def regrow(
    weights: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    mask: MaskSet,
    rate: float,
    drop: str,
    grow: str,
    generator: torch.Generator,
) -> MaskSet:
    """The mask after one update: in each layer some of the smallest kept weights go, and exactly as
    many grow elsewhere.

    "magnitude" drops ceil(rate * kept) weights, "threshold" all up to THRESHOLD; "gradient" grows
    where the absolute gradient is largest, "random" anywhere, "inverted" where it is smallest: a
    negative control, and what the released SafeCompress does. A weight may be dropped and grown at
    once; then it keeps its value, and others start at 0.

    Source: Evci et al., 2020 (google-research/rigl); drop and grow rules of JiePKU/SafeCompress.

    Args:
        weights, gradients: of each prunable layer; gradients are of all weights, pruned ones too.
        mask: before.
        rate: share of a layer's weights that "magnitude" drops, in [0, 1].
        drop, grow: keys of DROP and GROW.
        generator: CPU, for "random".
    """
    return MaskSet(
        {
            name: _layer(w, gradients[name], mask[name], rate, drop, grow, generator)
            for name, w in weights.items()
        }
    )


def _layer(
    weight: Tensor,
    gradient: Tensor,
    kept: Tensor,
    rate: float,
    drop: str,
    grow: str,
    g: torch.Generator,
) -> Tensor:
    scores = torch.where(kept, weight.detach().abs(), -1.0)
    n_kept = int(kept.sum())
    n_drop = DROP[drop](weight, kept, rate)
    survivors = torch.zeros_like(kept)
    if n_drop < n_kept:
        survivors = MaskSet.from_scores({"": scores}, n_kept - n_drop)[""]
    if n_drop == 0:
        return survivors
    new = torch.where(survivors, -math.inf, GROW[grow](gradient, g))
    return survivors | MaskSet.from_scores({"": new}, n_drop)[""]


def refresh_statistics(model: nn.Module, split: Split, rows: Tensor, seed: int) -> None:
    """Takes batch norm's statistics anew, plain averages over batches; changes nothing else.

    After a mask has changed the old statistics are those of another network. What the network
    draws meanwhile, such as dropout, follows from the run's seed.
    """
    norms = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    momenta, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    model.train()
    with torch.no_grad(), own_draws(seed, "statistics", rows.device):
        for part in rows.split(BATCH) if norms else ():
            model(as_float(split.x[part]))
            PASSES.predicted(len(part))
    model.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def cosine_rate(done: float, first: float = 0.5, last: float = 0.005) -> float:
    """The death rate at a share `done` of the training: `first` to `last` along a half cosine."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))
