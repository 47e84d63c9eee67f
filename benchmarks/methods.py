"""What each method costs: its time over that of a dense training, beside what its records count.

    make bench
    python -m benchmarks.methods --real

Each method trains everything it needs, the dense net included, with the schedule of preset `small`;
nothing is shared. Rounds take turns over the methods. `cost` counts training steps, `spent` all
passes. Time above `spent` is overhead: masks, scores, branches.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from benchmarks.rounds import ratio
from fairlth import data, methods
from fairlth.config import METHOD_TABLE, Run, paths
from fairlth.config.presets import CLAIMED
from fairlth.images import Data
from fairlth.methods.sharing import LEDGER
from fairlth.training import PASSES
from fairlth.workflow.cost import random_images
from fairlth.workflow.experiments import dense_images

ROUNDS = 5
IMAGES = 256
NAMES = [name for name, row in METHOD_TABLE.items() if row.structure == "weights"]


class Made(NamedTuple):
    """One run from nothing: its wall seconds, its `cost` and what it `spent`."""

    seconds: float
    cost: float
    spent: float


def run_of(method: str) -> Run:
    """A run of cifar10 at density 0.05, preset `small`."""
    density = 1.0 if method == "dense" else 0.05
    return Run(
        dataset="cifar10", model="convnet", method=method, density=density, seed=0, preset="small"
    )


def make(method: str, loaded: Data) -> Made:
    """Trains a method and all that it needs."""
    run = run_of(method)
    LEDGER.clear()
    before = PASSES.images
    with tempfile.TemporaryDirectory() as folder:
        paths.RUNS = Path(folder)  # so that no dense training is found
        started = time.perf_counter()
        cost = methods.make(run, loaded).cost
        seconds = time.perf_counter() - started
    images = PASSES.images - before + LEDGER.read_images()
    return Made(seconds, cost, images / dense_images(run, loaded))


def main() -> None:
    """Prints a line per method: counted cost and spent, measured ratios with quartiles."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--real", action="store_true", help="images of cifar10, methods of the claims, 3 rounds"
    )
    real = parser.parse_args().real
    torch.set_num_threads(1)
    loaded = data.load(run_of("dense")) if real else random_images(IMAGES, 32)
    names = list(CLAIMED) if real else NAMES
    rounds = 3 if real else ROUNDS
    times: dict[str, list[float]] = {name: [] for name in names}
    counted = {}
    make("ballot", random_images(IMAGES, 32))  # warms up
    for number in range(rounds):
        for name in tqdm(names, f"round {number + 1} of {rounds}", leave=False):
            counted[name] = make(name, loaded)
            times[name].append(counted[name].seconds)
    dense = statistics.median(times["dense"])
    print(
        f"each method in dense trainings, {len(loaded.train)} images, {rounds} rounds, one thread; "
        f"dense: {dense:.2f} s"
    )
    for name in names:
        ratios = [one / other for one, other in zip(times[name], times["dense"], strict=True)]
        over = statistics.median(ratios) / counted[name].spent
        print(
            f"{name:18s} cost {counted[name].cost:5.2f}   spent {counted[name].spent:5.2f}   "
            f"measured {ratio(times, name, 'dense')}, {over:.2f} of spent"
        )


if __name__ == "__main__":
    main()
