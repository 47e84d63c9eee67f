"""The class bias shift: one constant per class added to the outputs, chosen on validation data; no training."""

import torch
from torch import Tensor

from fairlth import metrics
from fairlth.data import Split
from fairlth.training import count

STEPS = 200
RATE = 1.0  # logits per unit of accuracy a step moves, cooled linearly to 0


def fair_shift(outputs: Tensor, split: Split) -> Tensor:
    """(classes,) constants that lower the CWV when added to outputs (n, classes); mean 0.

    Feedback: each step raises the constant of a class in proportion to how far the groups of its images lag behind, averaged
    over its images; the shift with the lowest CWV on the way is returned. Where the groups are the classes this is
    b_c <- b_c + rate (mean a - a_c).
    """
    cells = torch.bincount(split.y * split.n_groups + split.group, minlength=split.n_classes * split.n_groups)
    share = cells.reshape(split.n_classes, split.n_groups).float()
    share = share / share.sum(1, keepdim=True).clamp(min=1)
    shift = best = torch.zeros(split.n_classes, device=outputs.device)
    lowest = float("inf")
    for step in range(STEPS):
        counts = count(outputs + shift, split).by_group()
        if (cwv := metrics.cwv(*counts)) < lowest:
            lowest, best = cwv, shift
        rates = torch.from_numpy(metrics.group_accuracy(*counts)).to(share)
        lag = (rates.nanmean() - rates).nan_to_num(0.0)
        shift = shift + RATE * (1 - step / STEPS) * (share @ lag)
    return best - best.mean()
