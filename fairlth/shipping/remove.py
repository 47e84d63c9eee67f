"""Removed units are taken out of a ticket: a small dense network with equal outputs."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from fairlth.models.units import cut, kept_units, unit_groups
from fairlth.shipping.export import check_same


def remove(
    model: nn.Module, mask: Mapping[str, Tensor], in_shape: tuple[int, ...], round_to: int = 1
) -> nn.Module:
    """The network of a ticket of whole units without the units that its mask removes.

    Tickets of weights, of which rarely a whole unit is empty, are made smaller by
    `shipping.compact`.

    Args:
        model: of a method that removes units, such as `units_norm`; it stays as it is.
        mask: of the ticket.
        in_shape: (channels, side, side) of one image.
        round_to: a layer keeps so many of the removed units, which give 0, that its number of units
            is a multiple of this, or all of them. Kernels of 8 or 16 channels may run faster.

    Returns:
        The smaller network, in evaluation mode. Its outputs differ by at most `export.TOLERANCE`
        of the largest, or of 1 where all are smaller.

    Raises:
        ValueError: the mask is not of whole units, the removed ones are not silent, or see
            `models.units.unit_groups`.
    """
    if round_to < 1:
        raise ValueError(f"round_to={round_to} is refused: expected 1 or more, such as 8.")
    model = copy.deepcopy(model).eval()
    groups = unit_groups(model, in_shape)
    kept = [rounded(own, round_to) for own in kept_units(model, groups, mask)]
    small = cut(model, groups, kept)
    cure = ": the removed units of the ticket are not silent, train it again"
    check_same("the smaller network", small, model, in_shape, cure)
    return small


def rounded(kept: Tensor, round_to: int) -> Tensor:
    """(units,) bool with the first removed units back, until a multiple of `round_to` stays or
    all.
    """
    missing = -int(kept.count_nonzero()) % round_to
    back = (~kept).nonzero()[:missing, 0]
    found = kept.clone()
    found[back] = True
    return found
