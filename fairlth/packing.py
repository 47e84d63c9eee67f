"""Sparse storage: of a pruned tensor only the kept values and their places, in as few bytes as they need, without loss."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

GAP_TYPES = (torch.uint8, torch.uint16, torch.int32)  # by what they hold


def pack(weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The kept values of a tensor and where they stand; what is pruned has to be exactly 0.

    Places are stored in whichever way is smaller: `bits`, one bit for every weight, or `gaps`, the distance of each kept weight
    from the one before it (of the first from place -1) in the smallest integer type that holds them all.

    Args:
        weight: any shape.
        mask: bool, the same shape, True where the weight is kept.

    Returns:
        `values` (kept,), `shape` (dimensions,) int64, and either `bits` (ceil(weights / 8),) uint8 or `gaps` (kept,).

    Raises:
        ValueError: a pruned weight is not 0, so that storage would lose it.
    """
    flat, kept = weight.detach().cpu().reshape(-1), mask.cpu().reshape(-1)
    if flat[~kept].any():
        raise ValueError("a pruned weight is not 0 and would be lost: apply the mask first.")
    bits, gaps = torch.from_numpy(np.packbits(kept.numpy())), _gaps(kept)
    places = {"bits": bits} if bits.nbytes <= gaps.nbytes else {"gaps": gaps}
    return {"values": flat[kept], "shape": torch.tensor(weight.shape), **places}


def unpack(parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The tensor and its mask again, bit for bit.

    Raises:
        ValueError: the parts contradict each other.
    """
    shape = parts["shape"].tolist()
    mask = _mask(parts, math.prod(shape))
    if int(mask.count_nonzero()) != len(parts["values"]):
        raise ValueError(f"{len(parts['values'])} values are stored for {int(mask.count_nonzero())} places")
    weight = torch.zeros(len(mask), dtype=parts["values"].dtype)
    weight[mask] = parts["values"]
    return weight.reshape(shape), mask.reshape(shape)


def _gaps(kept: Tensor) -> Tensor:
    places = kept.nonzero()[:, 0]
    gaps = torch.diff(places, prepend=torch.tensor([-1]))
    largest = int(gaps.max()) if len(gaps) else 0
    return gaps.to(next(kind for kind in GAP_TYPES if largest <= torch.iinfo(kind).max))


def _mask(parts: Mapping[str, Tensor], n: int) -> Tensor:
    """A flat mask of n weights from bits or gaps."""
    if "bits" in parts:
        if len(parts["bits"]) != math.ceil(n / 8):
            raise ValueError(f"{len(parts['bits'])} bytes of places are stored for {n} weights")
        return torch.from_numpy(np.unpackbits(parts["bits"].numpy(), count=n).astype(bool))
    gaps = parts["gaps"].to(torch.int64)
    places = gaps.cumsum(0) - 1
    if len(gaps) and (int(gaps.min()) < 1 or int(places[-1]) >= n):
        raise ValueError(f"places are stored that are not among {n} weights")
    mask = torch.zeros(n, dtype=torch.bool)
    mask[places] = True
    return mask
