"""Allocation: how many weights each layer keeps, whole numbers of the sum floor(density * N)."""

import math
from collections.abc import Mapping
from fractions import Fraction

from torch import Tensor

from fairlth.config import exact
from fairlth.masks import count_kept

Budget = dict[str, int]  # layer -> weights it keeps


def uniform(density: float, weights: Mapping[str, Tensor]) -> Budget:
    """The same density in every layer, to the weight.

    Raises:
        ValueError: the density leaves a layer without any weight.
    """
    return _whole(
        density,
        {name: exact(density) * weight.numel() for name, weight in weights.items()},
        weights,
    )


def erk(density: float, weights: Mapping[str, Tensor]) -> Budget:
    """Erdos-Renyi-kernel densities: layer l keeps eps * (sum of its dimensions) weights, or all.

    eps is such that the counts add up; a layer that would exceed its size becomes dense and eps is
    solved again for the rest. Small layers end up denser than large ones.

    Source: Evci et al., 2020 (google-research/rigl), after Mocanu et al., 2018.

    Raises:
        ValueError: the density leaves a layer without any weight.
    """
    sizes = {name: weight.numel() for name, weight in weights.items()}
    dims = {name: sum(weight.shape) for name, weight in weights.items()}
    dense: set[str] = set()
    while True:
        left = count_kept(density, weights) - sum(sizes[name] for name in dense)
        eps = Fraction(left, max(1, sum(dims[name] for name in dims if name not in dense)))
        over = {name for name in dims if name not in dense and eps * dims[name] > sizes[name]}
        if not over:
            break
        dense |= over
    return _whole(
        density,
        {name: sizes[name] if name in dense else eps * dims[name] for name in dims},
        weights,
    )


def _whole(
    density: float, wanted: Mapping[str, Fraction | int], weights: Mapping[str, Tensor]
) -> Budget:
    """Largest-remainder rounding: the exact total, each layer within one weight of its share."""
    budget = {name: math.floor(n) for name, n in wanted.items()}
    missing = count_kept(density, weights) - sum(budget.values())
    for name in sorted(wanted, key=lambda name: budget[name] - wanted[name])[:missing]:
        budget[name] += 1
    for name, n in budget.items():
        if n < 1:
            raise ValueError(
                f"density={density} leaves {name}, which has {weights[name].numel()} weights, "
                "without any: choose a higher one."
            )
    return budget
