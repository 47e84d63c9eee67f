"""Do the fast ways of training end where the plain loop does? The same tickets, trained by each.

    python studies/accuracy.py [convnet|resnet20] [seeds]

The ways are the plain loop that people write (`benchmarks/rivals.py`), and the package in float32
and in bfloat16. Magnitude masks at the initial weights, density 0.05, cifar10 with the images and
schedule of preset `small`. Accuracy and CWV are those of its validation images; differences are
paired by seed. Finished trainings are read from runs/benchmarks/.
"""

import argparse
import json
from dataclasses import replace

import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.rivals import Rival
from benchmarks.training import OURS, SMALL, Ours, masked
from fairlth import data, metrics
from fairlth.config import Run, paths
from fairlth.training import epochs

VARIANTS = ("rival", "float32", "bfloat16")


def end(model_name: str, variant: str, seed: int) -> list[float]:
    """Accuracy and CWV at the end of one training."""
    path = paths.RUNS / "benchmarks" / f"accuracy_{model_name}_{variant}_s{seed}.json"
    if not path.exists():
        found = train(model_name, variant, seed)
        paths.write_atomically(path, json.dumps(found).encode())
    return json.loads(path.read_text())


def train(model_name: str, variant: str, seed: int) -> list[float]:
    """See `end`; trains it now."""
    run = Run(
        dataset="cifar10",
        model=model_name,
        method="lth",
        density=0.05,
        seed=seed,
        preset="small",
    )
    loaded = data.load(run)
    loaded = replace(loaded, test=loaded.val)
    model, mask = masked(model_name, loaded, seed)
    loop: Rival | Ours
    if variant == "rival":
        loop = Rival(model, mask, loaded, SMALL, seed)
    else:
        schedule = SMALL.model_copy(update=OURS[variant])
        loop = Ours(model, mask, loaded, schedule, seed)
    for _ in epochs(0, SMALL.epochs, f"{model_name}, {variant}, seed {seed}"):
        loop.epoch()
    counts = loop.evaluate()
    right = np.array(counts[0])
    total = np.array(counts[1])
    return [float(right.sum() / total.sum()), metrics.cwv(right, total)]


def change(values: np.ndarray, reference: np.ndarray) -> str:
    """Mean differences of accuracy and CWV (seeds, 2), with halves of their 95 % t intervals."""
    differences = (values - reference) * [100, 1e4]
    points, cwv = (metrics.mean_interval(column) for column in differences.T)
    told = f"{points.mean:+.2f} +- {points.high - points.mean:.2f} points"
    return f"{told}, {cwv.mean:+.1f} +- {cwv.high - cwv.mean:.1f}"


def main() -> None:
    """Prints the means of every variant and its differences from float32."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="convnet", choices=["convnet", "resnet20"])
    parser.add_argument("seeds", nargs="?", type=int, default=8, help="at least 2")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"seeds={options.seeds} leaves no interval: name at least 2.")
    torch.set_num_threads(2)
    ends = {}
    for name in tqdm(VARIANTS, unit="variant"):
        found = [end(options.model, name, seed) for seed in range(options.seeds)]
        ends[name] = np.array(found)
    print(
        f"{options.model}, cifar10, density 0.05, {options.seeds} seeds; validation; difference "
        "from ours in float32 with 95 % interval"
    )
    for name, values in ends.items():
        accuracy, cwv = values.mean(0)
        line = f"{name:9s} accuracy {100 * accuracy:.2f} %, CWV x 1e4 {1e4 * cwv:.1f}"
        if name != "float32":
            line += f"; {change(values, ends['float32'])}"
        print(line)


if __name__ == "__main__":
    main()
