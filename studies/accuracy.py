"""Do the fast ways of training end where the slow ones do? The same tickets by the plain loop, in
float32 and in bfloat16.

    python benchmarks/accuracy.py [convnet|resnet20] [seeds]

Magnitude masks at the initial weights, density 0.05, cifar10 with the images and schedule of preset
`small`; accuracy and CWV on its validation images, whose differences are paired by seed. Finished
trainings are read from runs/benchmarks/.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from rivals import Rival
from scipy import stats
from training import OURS, SMALL, Ours, masked

from fairlth import data, metrics, progress
from fairlth.config import Run, paths
from fairlth.images import Data

VARIANTS = {"rival": None} | {name: OURS[name] for name in ("float32", "bfloat16")}


def end(model_name: str, variant: str, seed: int) -> list[float]:
    """Accuracy and CWV at the end of one training."""
    path = paths.RUNS / "benchmarks" / f"accuracy_{model_name}_{variant}_s{seed}.json"
    if not path.exists():
        paths.write_atomically(path, json.dumps(_train(model_name, variant, seed)).encode())
    return json.loads(Path(path).read_text())


def _train(model_name: str, variant: str, seed: int) -> list[float]:
    loaded = data.load(
        Run(
            dataset="cifar10",
            model=model_name,
            method="lth",
            density=0.05,
            seed=seed,
            preset="small",
        )
    )
    loaded = Data(
        loaded.train, loaded.val, loaded.val, loaded.classes, loaded.groups, loaded.mirror
    )
    model, mask = masked(model_name, loaded, seed)
    changes = VARIANTS[variant]
    schedule = SMALL.model_copy(update=changes or {})
    loop = (Ours if changes else Rival)(model, mask, loaded, schedule, seed)
    for number in range(schedule.epochs):
        progress.say(
            f"{model_name}, {variant}, seed {seed}: epoch {number + 1} of {schedule.epochs}"
        )
        loop.epoch()
    right, total = (np.array(counts) for counts in loop.evaluate())
    return [float(right.sum() / total.sum()), metrics.cwv(right, total)]


def main() -> None:
    """Prints the means of every variant and its differences from float32, with 95 % t intervals."""
    model_name, n = (
        (sys.argv[1] if len(sys.argv) > 1 else "convnet"),
        int(sys.argv[2] if len(sys.argv) > 2 else 8),
    )
    torch.set_num_threads(2)
    ends = {name: np.array([end(model_name, name, seed) for seed in range(n)]) for name in VARIANTS}
    print(
        f"{model_name}, cifar10, density 0.05, {n} seeds; validation; difference from ours in "
        "float32 with 95 % interval"
    )
    for name, values in ends.items():
        accuracy, cwv = values.mean(0)
        line = f"{name:9s} accuracy {100 * accuracy:.2f} %, CWV x 1e4 {1e4 * cwv:.1f}"
        if name != "float32":
            change = (values - ends["float32"]) * [100, 1e4]
            half = stats.sem(change) * stats.t.ppf(0.975, n - 1)
            points, cwv_change = change.mean(0)
            line += f"; {points:+.2f} +- {half[0]:.2f} points"
            line += f", {cwv_change:+.1f} +- {half[1]:.1f}"
        print(line)


if __name__ == "__main__":
    main()
