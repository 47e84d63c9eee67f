"""Controls: a random mask, more epochs, and shifted class biases."""

from fairlth.ballot import settle
from fairlth.bias_shift import PROBED, add_to_outputs, fair_shift
from fairlth.config import Run
from fairlth.images import Data, as_float
from fairlth.lottery import Dense, Ticket, floor, longer, train_plainly
from fairlth.masks import prunable
from fairlth.methods.plain import lth, search_at_rate
from fairlth.methods.sharing import found_once
from fairlth.selection import random_scores, select
from fairlth.training import fit, logits


def random(run: Run, data: Data, dense: Dense) -> Ticket:
    """Keeps weights drawn uniformly from all layers together; trains from their initial values."""
    model = dense.fresh()
    scores = random_scores(prunable(model), run.seed)
    mask = select(scores, run.density, head=dense.head)
    mask.apply(model)
    schedule = run.settings.schedule
    fit(model, data, schedule, seed=run.seed, after_step=mask.apply, label="random ticket")
    return Ticket(model, mask, cost=1.0)


def lth_long(run: Run, data: Data, dense: Dense) -> Ticket:
    """The control of equal epochs: `lth_rate`'s ticket, trained as long as Ballot's.

    Nothing else differs from `lth_rate`: plain cross-entropy, no feedback, no shift. What Ballot
    gains on it is not owed to more epochs. A control of ours, no source.
    """
    found = found_once("lth-rate", run, data, dense, search_at_rate)
    return train_plainly(run, data, found, longer(run))


def lth_long_shift(run: Run, data: Data, dense: Dense) -> Ticket:
    """`lth_long`, then Ballot's last step: class biases shifted as far as accuracy allows.

    It is what is left of Ballot without conflict and feedback. How far the shift goes is chosen on
    validation images, see `ballot.settle`. A control of ours, no source.
    """
    ticket = lth_long(run, data, dense)
    shift = settle(ticket.model, data, floor(run, data, dense))
    ticket.notes["shift"] = shift.tolist()
    return ticket


def lth_bias(run: Run, data: Data, dense: Dense) -> Ticket:
    """A standard lottery ticket, then one constant per class, chosen on validation data.

    The constants are added to the outputs. `run.pressure` in [0, 1] is how far to go towards the
    fairest shift found. No training, no source: a control of ours.
    """
    ticket = lth(run, data, dense)
    shift = run.knob * fair_shift(logits(ticket.model, data.val), data.val)
    add_to_outputs(ticket.model, shift, as_float(data.val.x[:PROBED]))
    ticket.notes["shift"] = shift.tolist()
    return ticket
