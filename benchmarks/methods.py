"""What each method costs: its time over that of a dense training, beside the cost of its records.

    make bench

Each method trains everything it needs, the dense net included, on random images in ten classes with
the schedule of preset `small`; nothing is shared. Rounds take turns over the methods. Time above
the counted cost is overhead: masks, scores, branches, readings of conflict.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from benchmarks.rounds import ratio
from fairlth import methods
from fairlth.config import METHOD_TABLE, Run, paths
from fairlth.images import Data
from fairlth.workflow.cost import random_images

ROUNDS = 5
IMAGES = 256
NAMES = [name for name, row in METHOD_TABLE.items() if row.structure == "weights"]


def seconds(method: str, data: Data) -> tuple[float, float]:
    """Wall seconds of one run from nothing, and the cost that its ticket states."""
    density = 1.0 if method == "dense" else 0.05
    run = Run(
        dataset="cifar10", model="convnet", method=method, density=density, seed=0, preset="small"
    )
    with tempfile.TemporaryDirectory() as folder:
        paths.RUNS = Path(folder)  # so that no dense training is found
        started = time.perf_counter()
        cost = methods.make(run, data).cost
        return time.perf_counter() - started, cost


def main() -> None:
    """Prints one line per method: counted cost, measured ratio with quartiles."""
    torch.set_num_threads(1)
    data = random_images(IMAGES, 32)
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    costs = {}
    for number in range(ROUNDS + 1):
        for name in tqdm(NAMES, f"round {number} of {ROUNDS}", leave=False):
            spent, costs[name] = seconds(name, data)
            if number > 0:
                times[name].append(spent)
    print(
        f"cost of each method in dense trainings, {IMAGES} images, {ROUNDS} rounds, one thread; "
        f"dense: {statistics.median(times['dense']):.2f} s"
    )
    for name in NAMES:
        print(f"{name:18s} counted {costs[name]:5.2f}   measured {ratio(times, name, 'dense')}")


if __name__ == "__main__":
    main()
