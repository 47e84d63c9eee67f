"""Ballot: conflict-aware selection and refined training, and its two halves alone as ablations."""

from dataclasses import asdict, replace

from torch import nn

from fairlth import config
from fairlth.config import Run
from fairlth.conflict import ConflictMeter
from fairlth.data import Data
from fairlth.methods.base import Ticket
from fairlth.methods.dense import floor
from fairlth.methods.lth import Found, find, find_by_magnitude, find_once, train
from fairlth.models import prunable
from fairlth.refinement import refine
from fairlth.selection import Scores, conflict_aware
from fairlth.training import AfterStep, low_precision

STRENGTH = 0.1  # of the conflict in the score


def ballot(run: Run, data: Data) -> Ticket:
    """Fair lottery ticket: units in conflict are pruned first, and the ticket's training is steered by validation accuracy.

    Source: Gao et al., ISSTA 2024, arXiv 2407.02805, of which only abstract and summaries were at hand. What is known: masks
    by conflict detection, training with a dynamic learning rate and rewinding. Reconstructed: the conflict of a unit
    (`conflict`), its use in the score (`selection.conflict_aware`), the rules of the refined training (`refinement.refine`).
    `pressure` is the strength of the feedback on the groups' weights.
    """
    return refined(run, data, find_by_conflict(run, data))


def ballot_select(run: Run, data: Data) -> Ticket:
    """Ablation: Ballot's selection with plain training."""
    found = find_by_conflict(run, data)
    return Ticket(found.model, found.mask, train(run, data, found), notes=found.notes)


def ballot_refine(run: Run, data: Data) -> Ticket:
    """Ablation: the mask of a standard lottery ticket with Ballot's refined training."""
    return refined(run, data, find_by_magnitude(run, data))


def find_by_conflict(run: Run, data: Data) -> Found:
    """Lottery-ticket levels whose score demotes the units that were in conflict during the level's training."""
    meters: list[ConflictMeter] = []

    def watch(level: int) -> AfterStep:
        seed, schedule = config.seed_for(run.seed, f"level {level}"), run.settings.schedule
        low = low_precision(schedule, data.train.y.device)
        meters.append(ConflictMeter(data.train, seed, batch_size=schedule.batch_size, low=low))
        return meters[-1]

    def score(model: nn.Module) -> Scores:
        return conflict_aware(prunable(model), meters[-1].conflict(), STRENGTH)

    def search() -> Found:
        found = find(run, data, score, watch)
        return replace(found, notes={"agreement": [meter.agreement() for meter in meters]})

    return find_once("ballot", run, data, search, ["conflict", "methods/ballot"])


def refined(run: Run, data: Data, found: Found) -> Ticket:
    """Ballot's training of a found ticket."""
    preset = run.settings
    end = refine(
        found.model,
        data,
        preset.schedule,
        seed=run.seed,
        start=preset.rewind_epochs,
        after_step=found.mask.apply,
        floor=floor(run, data),
        pressure=run.knob,
    )
    cost = (found.epochs + preset.schedule.epochs - preset.rewind_epochs) / preset.schedule.epochs
    return Ticket(found.model, found.mask, cost, end.feasible, [asdict(step) for step in end.steps], found.notes)
