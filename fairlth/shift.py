"""The class bias shift: one constant per class added to the outputs, chosen on validation data; no training."""

import torch
from torch import Tensor, nn

from fairlth import metrics
from fairlth.images import Split
from fairlth.training import count

STEPS = 200
SHARES = 16  # tried of the way to the fairest shift
RATE = 1.0  # logits per unit of accuracy a step moves, cooled linearly to 0


def affordable_shift(outputs: Tensor, split: Split, floor: float) -> Tensor:
    """(classes,) constants: as far towards `fair_shift` as lowers the CWV most without accuracy falling below `floor`.

    Tried in SHARES equal parts; zeros where even the first costs too much. Ideally the whole of `fair_shift`.

    Args:
        outputs: (n, classes) on validation images.
        split: their classes and groups.
        floor: accuracy, a fraction.
    """
    whole, affordable = fair_shift(outputs, split), []
    for part in range(SHARES + 1):
        counts = count(outputs + part / SHARES * whole, split)
        if part == 0 or metrics.accuracy(*counts) >= floor:
            affordable.append((metrics.cwv(*counts.by_group()), part))
    return min(affordable)[1] / SHARES * whole


def add_to_head(model: nn.Module, shift: Tensor) -> None:
    """Adds constants (classes,) to the biases of the last linear layer, in place: they shift the model's outputs."""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.bias.add_(shift)


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
