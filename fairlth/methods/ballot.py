"""Ballot: conflict-aware selection and refined training, and its two halves alone as ablations."""

from dataclasses import asdict, replace

from torch import Tensor, nn

from fairlth import metrics
from fairlth.config import Run
from fairlth.images import Data, as_float
from fairlth.masks import prunable
from fairlth.methods.base import Ticket
from fairlth.methods.dense import floor, meter, train_once
from fairlth.methods.lth import Found, find_at_rate, find_gradually, find_once, longer, train
from fairlth.refinement import refine
from fairlth.selection import Scores, conflict_aware
from fairlth.shift import PROBED, add_to_head, affordable_shift
from fairlth.training import PASSES, count, logits

STRENGTH = 0.1  # of the conflict in the score
GIVE = 0.02  # of the accuracy, for the shift of class biases


def ballot(run: Run, data: Data) -> Ticket:
    """Fair lottery ticket: units in conflict are pruned first, and the ticket's training is steered by validation accuracy.

    Source: Gao et al., ISSTA 2024, arXiv 2407.02805, of which only abstract and summaries were at hand. What is known: masks
    by conflict detection, training with a dynamic learning rate and rewinding. Reconstructed: the conflict of a unit
    (`conflict`), its use in the score (`selection.conflict_aware`), short levels after which only the learning rate is rewound
    and the weights go on (`lth.find_gradually`), the rules of the refined training (`refinement.refine`), which takes
    `lth.LONGER` times the epochs of the first level, and the shift of class biases at its end, which may cost GIVE of the
    accuracy (`shift`). `pressure` is the strength of the feedback on the groups' weights.
    """
    return refined(run, data, find_by_conflict(run, data))


def ballot_select(run: Run, data: Data) -> Ticket:
    """Ablation: Ballot's selection with plain training."""
    found = find_by_conflict(run, data)
    return Ticket(found.model, found.mask, train(run, data, found), notes=found.notes)


def ballot_refine(run: Run, data: Data) -> Ticket:
    """Ablation: the same levels by magnitude alone, with Ballot's refined training."""
    return refined(run, data, find_at_rate(run, data))


def find_by_conflict(run: Run, data: Data) -> Found:
    """Short levels whose score demotes the units in conflict, read in all the training so far, that of the dense net first."""
    watch = meter(run, data)

    def score(model: nn.Module) -> Scores:
        return conflict_aware(prunable(model), watch.conflict(), STRENGTH)

    def search() -> Found:
        watch.load_state(train_once(run, data).conflict)
        found = find_gradually(run, data, score, watch)
        PASSES.trained(watch.images)
        return replace(found, notes={"agreement": watch.agreement()})

    return find_once("ballot", run, data, search, ["conflict", "methods/ballot"])


def refined(run: Run, data: Data, found: Found) -> Ticket:
    """Ballot's training of a found ticket, and the shift of its biases."""
    schedule = longer(run)
    k = run.settings.rewind_epochs
    required = floor(run, data)
    end = refine(
        found.model, data, schedule, seed=run.seed, start=k, after_step=found.mask.apply, floor=required, pressure=run.knob
    )
    shift = settle(found.model, data, required)
    cost = (found.epochs + schedule.epochs - k) / run.settings.schedule.epochs
    notes = found.notes | {"shift": shift.tolist()}
    return Ticket(found.model, found.mask, cost, end.feasible, [asdict(step) for step in end.steps], notes)


def settle(model: nn.Module, data: Data, required: float) -> Tensor:
    """Shifts the class biases as far as GIVE of validation accuracy pays for, but not below what is required; the shift."""
    outputs = logits(model, data.val)
    accuracy = metrics.accuracy(*count(outputs, data.val))
    least = max(accuracy - GIVE, required) if accuracy >= required else accuracy
    shift = affordable_shift(outputs, data.val, least)
    add_to_head(model, shift, as_float(data.val.x[:PROBED]))
    return shift
