"""What the method adds to plain training: masks, the watching for conflict, the counts per group.

    make bench

The mask is applied after each step. Rounds of the variants take turns. Random images stand in for
real ones: the time of a step does not depend on what they show.
"""

import statistics
from functools import partial

import torch
from torch import nn

from benchmarks.rounds import Seconds, Way, ratio, time_in_turn
from fairlth.config import PRESETS, paths
from fairlth.conflict import ConflictMeter
from fairlth.images import Data, Split
from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.models import build
from fairlth.selection import magnitude
from fairlth.training import Trainer, in_turn, logits, low_precision, nothing, predict
from fairlth.workflow.cost import random_images

ROUNDS = 9
SCHEDULE = PRESETS["small"].schedule
STEPS = 32  # per round


def trainers(data: Data, model_name: str) -> dict[str, Trainer]:
    """The same network trained plainly, with a mask, and with a mask and a meter."""
    made = {}
    for name in ("dense", "masked", "masked and watched"):
        model = build(model_name, data.in_shape, 10, torch.Generator().manual_seed(0))
        weights = prunable(model)
        mask = MaskSet.from_scores(magnitude(weights), count_kept(0.05, weights))
        low = low_precision(SCHEDULE, torch.device("cpu"))
        meter = ConflictMeter(data.train, seed=0, batch_size=SCHEDULE.batch_size, low=low)
        after = {
            "dense": nothing,
            "masked": mask.apply,
            "masked and watched": in_turn(mask.apply, meter),
        }[name]
        made[name] = Trainer(model, data, SCHEDULE, 0, after)
    return made


def measure(model_name: str) -> Seconds:
    """Seconds of each round of STEPS steps, by variant."""
    made = trainers(random_images(STEPS * SCHEDULE.batch_size, 32), model_name)
    ways: dict[str, Way] = {name: partial(trainer.epoch, 0) for name, trainer in made.items()}
    return time_in_turn(ways, ROUNDS, model_name)


def measure_evaluation(model_name: str) -> Seconds:
    """Seconds of each evaluation of as many images as a round has.

    The variants are accuracy alone, and counts per class and group.
    """
    test = random_images(STEPS * SCHEDULE.batch_size, 32).test
    model = build(model_name, (3, 32, 32), 10, torch.Generator().manual_seed(0))
    model = model.to(memory_format=torch.channels_last)
    ways: dict[str, Way] = {
        "accuracy": partial(accuracy, model, test),
        "counts": partial(predict, model, test),
    }
    return time_in_turn(ways, ROUNDS, f"{model_name}, evaluation")


def accuracy(model: nn.Module, test: Split) -> float:
    """Share of right predictions."""
    return float((logits(model, test).argmax(1) == test.y).float().mean())


def rows(model_name: str, most: float) -> list[str]:
    """One line per question: the ratio, what it should be at most, and what a dense step takes.

    Args:
        model_name: a network.
        most: that a masked step should take, over a dense one.
    """
    seconds = measure(model_name)
    evaluation = measure_evaluation(model_name)
    step = 1000 * statistics.median(seconds["dense"]) / STEPS
    watched = ratio(seconds, "masked and watched", "masked")
    found = (
        ("masked step / dense step", ratio(seconds, "masked", "dense"), most),
        ("level with conflict detection / without", watched, 1.05),
        ("evaluation with counts / accuracy alone", ratio(evaluation, "counts", "accuracy"), 1.05),
    )
    return [
        f"{model_name:9s} {what:41s} {value:26s} at most {bar:.2f}   dense step {step:.1f} ms"
        for what, value, bar in found
    ]


def main() -> None:
    """Prints one line per network and question."""
    torch.set_num_threads(paths.THREADS)
    print(
        f"{paths.THREADS} thread(s), torch {torch.__version__}, batch {SCHEDULE.batch_size}, "
        f"{SCHEDULE.precision}; medians of {ROUNDS} rounds of {STEPS} steps in turn, quartiles in "
        "brackets"
    )
    for model_name, most in (("convnet", 1.05), ("resnet20", 1.02)):
        print(*rows(model_name, most), sep="\n")


if __name__ == "__main__":
    main()
