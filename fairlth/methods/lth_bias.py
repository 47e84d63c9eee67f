"""The control that every fairness claim has to face: a plain ticket with its class biases shifted."""

from fairlth.config import Run
from fairlth.images import Data, as_float
from fairlth.methods.base import Ticket
from fairlth.methods.lth import lth
from fairlth.shift import PROBED, add_to_head, fair_shift
from fairlth.training import logits


def lth_bias(run: Run, data: Data) -> Ticket:
    """A standard lottery ticket, then one constant per class added to its outputs, chosen on validation data.

    `pressure` in [0, 1] is how far to go towards the fairest shift found. No training, no source: a control of ours.
    """
    ticket = lth(run, data)
    shift = run.knob * fair_shift(logits(ticket.model, data.val), data.val)
    add_to_head(ticket.model, shift, as_float(data.val.x[:PROBED]))
    ticket.notes["shift"] = shift.tolist()
    return ticket
