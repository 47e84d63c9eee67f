"""The control that every fairness claim has to face: a plain ticket with its class biases shifted."""

import torch
from torch import Tensor, nn

from fairlth.config import Run
from fairlth.data import Data
from fairlth.methods.base import Ticket
from fairlth.methods.lth import lth
from fairlth.shift import fair_shift
from fairlth.training import logits


def lth_bias(run: Run, data: Data) -> Ticket:
    """A standard lottery ticket, then one constant per class added to its outputs, chosen on validation data.

    `pressure` in [0, 1] is how far to go towards the fairest shift found. No training, no source: a control of ours.
    """
    ticket = lth(run, data)
    shift = run.knob * fair_shift(logits(ticket.model, data.val), data.val)
    add_to_head(ticket.model, shift)
    ticket.notes["shift"] = shift.tolist()
    return ticket


def add_to_head(model: nn.Module, shift: Tensor) -> None:
    """Adds constants (classes,) to the biases of the last linear layer, in place."""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.bias.add_(shift)
