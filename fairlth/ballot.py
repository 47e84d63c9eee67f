"""Ballot: find a ticket whose units are not in conflict, retrain it fairly, settle its biases.

Source: Gao et al., ISSTA 2024, arXiv 2407.02805, of which only abstract and summaries were at hand.
What is known: masks by conflict detection, training with a dynamic learning rate and rewinding. The
rest is our reconstruction: how conflict is measured (`conflict`), its use in the score
(`selection.conflict_aware`), the short levels after which only the learning rate is rewound
(`lottery.search`), the rules of the refined training (`retraining`), and the shift of class biases
at its end (`bias_shift`).
"""

from dataclasses import asdict, replace

from torch import Tensor, nn

from fairlth import metrics
from fairlth.bias_shift import PROBED, add_to_outputs, affordable_shift
from fairlth.config import Run
from fairlth.conflict import meter
from fairlth.images import Data, as_float
from fairlth.lottery import ROUNDED, Choose, Dense, Found, Ticket, floor, longer, search
from fairlth.masks import prunable
from fairlth.retraining import refine
from fairlth.selection import Scores, conflict_aware, select
from fairlth.training import PASSES, count, logits

STRENGTH = 0.1  # of the conflict in the score
GIVE = 0.02  # of the accuracy, for the shift of class biases


def ballot(run: Run, data: Data, dense: Dense) -> Ticket:
    """A fair lottery ticket: conflict lowers scores in the search, validation accuracy steers.

    `run.pressure` is the strength of the feedback on the weights of the groups' losses.
    """
    found = find(run, data, dense)
    return retrain(run, data, dense, found)


def find(run: Run, data: Data, dense: Dense, choose: Choose = select) -> Found:
    """Short levels whose score demotes the units in conflict, read in all the training so far.

    The first readings are those of the dense training. `choose` makes the masks of the scores.
    """
    watch = meter(run, data)
    watch.load_state(dense.conflict)

    def score(model: nn.Module) -> Scores:
        return conflict_aware(prunable(model), watch.conflict(), STRENGTH)

    found = search(run, data, dense, score, watch, choose=choose, short=True)
    PASSES.trained(watch.images)
    return replace(found, notes={"agreement": watch.agreement()})


def retrain(run: Run, data: Data, dense: Dense, found: Found) -> Ticket:
    """The refined training of a found ticket, `lottery.LONGER` times the first level's epochs."""
    schedule = longer(run)
    k = run.settings.rewind_epochs
    required = floor(run, data, dense)
    end = refine(
        found.model,
        data,
        schedule,
        seed=run.seed,
        start=k,
        after_step=found.mask.apply,
        floor=required,
        pressure=run.knob,
    )
    shift = settle(found.model, data, required)
    cost = (found.epochs + schedule.epochs - k) / run.settings.schedule.epochs
    trace = [asdict(step) for step in end.steps]
    notes = found.notes | {"shift": shift.tolist()}
    return Ticket(found.model, found.mask, cost, end.feasible, trace, notes)


def settle(model: nn.Module, data: Data, required: float) -> Tensor:
    """Shifts the class biases as far as GIVE of validation accuracy pays for; returns the shift.

    The accuracy does not fall below what is required.
    """
    outputs = logits(model, data.val)
    accuracy = metrics.accuracy(*count(outputs, data.val))
    least = max(accuracy - GIVE - ROUNDED, required) if accuracy >= required else accuracy
    shift = affordable_shift(outputs, data.val, least)
    add_to_outputs(model, shift, as_float(data.val.x[:PROBED]))
    return shift
