"""The control that every fairness claim has to face: a plain ticket with its class biases shifted."""

import torch
from torch import Tensor, nn

from fairlth import metrics
from fairlth.config import Run
from fairlth.data import Data, Split
from fairlth.methods.base import Ticket
from fairlth.methods.lth import lth
from fairlth.training import count, logits

STEPS = 200
RATE = 1.0  # logits per unit of accuracy a step moves, cooled linearly to 0


def lth_bias(run: Run, data: Data) -> Ticket:
    """A standard lottery ticket, then one constant per class added to its outputs, chosen on validation data.

    `pressure` in [0, 1] is how far to go towards the fairest shift found. No training, no source: a control of ours.
    """
    pressure = run.knob
    ticket = lth(run, data)
    shift = pressure * fair_shift(logits(ticket.model, data.val), data.val)
    head = [module for module in ticket.model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.bias.add_(shift)
    ticket.notes["shift"] = shift.tolist()
    return ticket


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
