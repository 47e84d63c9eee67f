"""How time and memory grow with images, weights and classes: 1, 4 and 16 times as many.

    make bench

Each is measured in a process of its own. The last column is the time of 16 times as much over 16
times the time of once: at most 1 means that nothing grows faster than its input. Memory is the
growth of the resident peak over what the process held before the work. A first round, in which the
machine has to find the memory, does not count. Weights, once, are already more than a core's
caches hold.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from tqdm.auto import tqdm

from benchmarks.rounds import alone
from benchmarks.selection import resident
from fairlth.bias_shift import fair_shift
from fairlth.config import PRESETS
from fairlth.conflict import ConflictMeter
from fairlth.masks import MaskSet
from fairlth.methods.balancing_act import Multipliers
from fairlth.methods.fairgrape import group_importance, keep_shares, rows_by_group
from fairlth.models import build
from fairlth.retraining import reweight
from fairlth.selection import conflict_aware
from fairlth.training import Trainer, logits, predict
from fairlth.workflow.cost import random_images

ROUNDS = 3
TIMES = (1, 4, 16)
IMAGES = 4096  # of what grows with classes
SCHEDULE = PRESETS["small"].schedule
Work = Callable[[], object]


def network(n_classes: int) -> nn.Module:
    """A fresh convnet."""
    return build("convnet", (3, 32, 32), n_classes, torch.Generator().manual_seed(0))


def images(times: int) -> Work:
    """An epoch of masked training on 512 images and the evaluation of as many."""
    data = random_images(512 * times, 32)
    trainer = Trainer(network(10), data, SCHEDULE, 0)
    return lambda: (trainer.epoch(1), predict(trainer.model, data.test))


def weights(times: int) -> Work:
    """Conflict-aware scores and an exact mask of 4 layers, 20 million weights together."""
    scores = {str(layer): torch.rand(8192 * times, 600) for layer in range(4)}
    conflict = {layer: torch.rand(len(score)) - 0.5 for layer, score in scores.items()}
    return lambda: MaskSet.from_scores(conflict_aware(scores, conflict, 0.1), 1_000_000 * times)


def greedy(times: int) -> Work:
    """The greedy rule of FairGRAPE in one layer of a million weights, 10 groups."""
    generator = torch.Generator().manual_seed(0)
    importance = torch.rand(10, 1_000_000 * times, generator=generator).numpy()
    return lambda: keep_shares(importance, 50_000 * times)


def classes(times: int) -> Work:
    """What grows with classes in a refined training, 10 classes once.

    That is a reading of conflict, group weights, multipliers and the bias shift.
    """
    split = random_images(IMAGES, 32, 10 * times).train
    model = network(10 * times)
    meter = ConflictMeter(split, seed=0)
    outputs = logits(model, split)
    predictions = predict(model, split)
    counts = predictions.by_group()

    def work() -> None:
        meter.observe(model)
        meter.conflict()
        reweight(torch.ones(split.n_groups), predictions, 0.5)
        Multipliers(counts, 0.03).update(torch.ones(64), split.group[:64])
        fair_shift(outputs, split)

    return work


def importance(times: int) -> Work:
    """Importance of every weight for each of 10 groups, 32 images per group."""
    data = random_images(IMAGES, 32, 10 * times)
    model = network(10 * times)
    return lambda: group_importance(model, data.train, rows_by_group(data.train, 32, 0))


def measure(make: Callable[[int], Work], times: int) -> tuple[float, float]:
    """Median seconds and mebibytes of memory."""
    torch.set_num_threads(1)
    make(1)()  # loads what the work needs
    work = make(times)
    before = resident("VmRSS")
    work()
    spent = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    memory = (resident("VmHWM") - before) / 2**20
    return statistics.median(spent), memory


def main() -> None:
    """Prints one line per piece of work."""
    print(
        f"seconds and MiB at 1, 4, 16 times the input, one thread, medians of {ROUNDS}; then time "
        "at 16 over 16 times that at 1"
    )
    for make in (images, weights, greedy, classes, importance):
        found = [alone(measure, make, times) for times in tqdm(TIMES, make.__name__, leave=False)]
        cells = "   ".join(f"{seconds:8.3f} s {memory:6.0f} MiB" for seconds, memory in found)
        growth = found[-1][0] / found[0][0] / TIMES[-1]
        print(f"{make.__name__:11s} {cells}   {growth:.2f}")


if __name__ == "__main__":
    main()
