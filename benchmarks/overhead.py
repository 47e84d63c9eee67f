"""What the method adds to plain training: the mask after each step, the watching for conflict, the
counts per group.

    make bench

Rounds of the variants take turns. Random images stand in for real ones: the time of a step does not
    depend on what is on them.
"""

import statistics

import torch
from benchmarks.rounds import Seconds, Way, ratio, time_in_turn

from fairlth.config import PRESETS, paths
from fairlth.conflict import ConflictMeter
from fairlth.images import Data
from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.models import build
from fairlth.selection import magnitude
from fairlth.training import Trainer, in_turn, logits, low_precision, predict
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
            "dense": lambda model: None,
            "masked": mask.apply,
            "masked and watched": in_turn(mask.apply, meter),
        }[name]
        made[name] = Trainer(model, data, SCHEDULE, 0, after)
    return made


def measure(model_name: str) -> Seconds:
    """Seconds of each round of STEPS steps, by variant."""
    made = trainers(random_images(STEPS * SCHEDULE.batch_size, 32), model_name)
    ways: dict[str, Way] = {
        name: lambda trainer=trainer: trainer.epoch(0) for name, trainer in made.items()
    }
    return time_in_turn(ways, ROUNDS, model_name)


def measure_evaluation(model_name: str) -> Seconds:
    """Seconds of each evaluation of as many images as a round has: accuracy alone, and counts per
    class and group.
    """
    test = random_images(STEPS * SCHEDULE.batch_size, 32).test
    model = build(model_name, (3, 32, 32), 10, torch.Generator().manual_seed(0)).to(
        memory_format=torch.channels_last
    )
    ways: dict[str, Way] = {
        "accuracy": lambda: float((logits(model, test).argmax(1) == test.y).float().mean()),
        "counts": lambda: predict(model, test),
    }
    return time_in_turn(ways, ROUNDS, f"{model_name}, evaluation")


def main() -> None:
    """Prints one line per network and question."""
    torch.set_num_threads(paths.THREADS)
    rows = []
    for model_name, bar in (("convnet", "at most 1.05"), ("resnet20", "at most 1.02")):
        seconds = measure(model_name)
        step = 1000 * statistics.median(seconds["dense"]) / STEPS
        rows.append(
            (model_name, "masked step / dense step", ratio(seconds, "masked", "dense"), bar, step)
        )
        watched = ratio(seconds, "masked and watched", "masked")
        rows.append(
            (model_name, "level with conflict detection / without", watched, "at most 1.05", step)
        )
        counted = ratio(measure_evaluation(model_name), "counts", "accuracy")
        rows.append(
            (model_name, "evaluation with counts / accuracy alone", counted, "at most 1.05", step)
        )
    threads = f"{torch.get_num_threads()} thread(s), torch {torch.__version__}, batch {SCHEDULE.batch_size}, {SCHEDULE.precision}"
    print(f"{threads}; medians of {ROUNDS} rounds of {STEPS} steps in turn, quartiles in brackets")
    for model_name, what, value, bar, step in rows:
        print(f"{model_name:9s} {what:41s} {value:26s} {bar:14s} dense step {step:.1f} ms")


if __name__ == "__main__":
    main()
