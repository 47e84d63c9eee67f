"""Networks without whole units over the dense ones: operations, bytes and latency in ONNX Runtime.

    python -m benchmarks.units

Networks are trained for a few steps on random images. Units of the smallest group norm are removed
until at most a quarter or an eighth of the FLOPs is left, one by one or so that each layer keeps a
multiple of 8 or 16. The small networks and the dense one take turns; a ratio is a median over
rounds with its quartiles.
"""

import statistics
from typing import NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm

from benchmarks.export import IMAGES, IN_SHAPE, ROUNDS, timed, trained
from benchmarks.rounds import ratio
from fairlth.config import paths
from fairlth.masks import MaskSet, prunable
from fairlth.methods.units import Removal
from fairlth.models.units import unit_groups, work_of
from fairlth.selection import magnitude
from fairlth.shipping.export import onnx
from fairlth.shipping.remove import remove

NETWORKS = ("vgg11_small", "resnet20")
SHARES = (0.25, 0.125)  # of the dense network's FLOPs
MULTIPLES = (1, 8, 16)
ROW = "{:12s} {:>6} {:>9} {:>7} {:>7} {:>7}  {:26s} {:26s}"
HEADS = ("FLOPs<=", "multiple", "FLOPs", "weights", "bytes", *(f"{n} per call" for n in IMAGES))


class Small(NamedTuple):
    """A network without units, and its shares of the dense one's FLOPs and weights."""

    network: nn.Module
    flops: float
    weights: float


def without_units(model: nn.Module, share: float, multiple: int) -> Small | None:
    """A network without the units of the smallest norm; None where the share is out of reach."""
    groups = unit_groups(model, IN_SHAPE)
    work = work_of(model, IN_SHAPE)
    removal = Removal(model, groups, work, count_flops=True, multiple=multiple)
    if removal.counted(removal.least()) > removal.limit(share):
        return None
    full = MaskSet.full(prunable(model))
    mask = removal.choose(magnitude(prunable(model)), share, full)
    mask.apply(model)
    small = remove(model, mask, IN_SHAPE)
    return Small(small, work.of(mask) / work.of(full), mask.density)


def main() -> None:
    """Prints one line per network, share and multiple."""
    torch.set_num_threads(paths.THREADS)
    print(
        f"over the dense network's, {paths.THREADS} thread(s); latencies: medians and quartiles "
        f"of {ROUNDS} rounds in turn"
    )
    print(ROW.format("network", *HEADS))
    for name in tqdm(NETWORKS, unit="network"):
        cases = {
            f"{share:g}, {multiple}": (share, multiple)
            for share in SHARES
            for multiple in MULTIPLES
        }
        smaller = {case: without_units(trained(name), *how) for case, how in cases.items()}
        made = {case: one for case, one in smaller.items() if one is not None}
        forms = {"dense": onnx(trained(name), IN_SHAPE)}
        forms |= {case: onnx(one.network, IN_SHAPE) for case, one in made.items()}
        seconds_of = {n: timed(forms, n) for n in IMAGES}
        for case, (share, multiple) in cases.items():
            cells = [name, f"{share:g}", multiple]
            if case in made:
                size = len(forms[case]) / len(forms["dense"])
                one = made[case]
                cells += [f"{value:.3f}" for value in (one.flops, one.weights, size)]
                cells += [ratio(seconds, case, "dense") for seconds in seconds_of.values()]
            else:
                cells += ["out of reach", "", "", "", ""]
            print(ROW.format(*cells), flush=True)
        calls = [
            f"{1000 * statistics.median(spent['dense']):.2f} ms" for spent in seconds_of.values()
        ]
        print(f"{name}: dense takes {' and '.join(calls)}")


if __name__ == "__main__":
    main()
