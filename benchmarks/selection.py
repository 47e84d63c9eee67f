"""Selection on large networks, of 25 M and 138 M weights: exact masks, budgets, the greedy rule.

    python benchmarks/selection.py

The rival of an exact mask is one `torch.topk` over the same scores. Peak memory is that of a
process of its own, over what the scores take. Conflict scores are timed, too.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rounds import Way, alone, time_in_turn
from fairlth.masks import MaskSet
from fairlth.methods.allocation import erk
from fairlth.methods.fairgrape import keep_shares
from fairlth.selection import conflict_aware

ROUNDS = 5
DENSITY = 0.05


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Prunable layers of a network of torchvision."""
    import torchvision

    with torch.device("meta"):
        model: nn.Module = getattr(torchvision.models, name)()
    return {layer: tuple(p.shape) for layer, p in model.named_parameters() if p.dim() > 1}


def random_tensors(name: str) -> dict[str, Tensor]:
    """A random number per weight."""
    generator = torch.Generator().manual_seed(0)
    return {layer: torch.rand(shape, generator=generator) for layer, shape in shapes(name).items()}


def topk(scores: dict[str, Tensor], n_keep: int) -> Tensor:
    """The rival: one torch.topk over all scores."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    return flat.topk(n_keep, sorted=False).indices


def memory(name: str, what: Callable) -> float:
    """Peak memory of one call, the scores included, over the memory of the scores."""
    what(random_tensors("resnet18"), 1000)  # loads what the call needs
    scores = random_tensors(name)
    size = sum(score.numel() * 4 for score in scores.values())
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    what(scores, int(DENSITY * size / 4))
    return (resident("VmHWM") - before + size) / size


def resident(name: str) -> int:
    """Bytes of memory of this process, now (VmRSS) or at most (VmHWM); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith(name))
    return int(kibibytes) * 1024


def seconds(what: Callable, *arguments: object) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    what(*arguments)
    return time.perf_counter() - started


def main() -> None:
    """Prints one line per network and question."""
    for name in ("resnet50", "vgg16"):
        scores = random_tensors(name)
        n = sum(score.numel() for score in scores.values())
        n_keep = int(DENSITY * n)
        ways: dict[str, Way] = {
            "ours": partial(MaskSet.from_scores, scores, n_keep),
            "topk": partial(topk, scores, n_keep),
        }
        times = time_in_turn(ways, ROUNDS, name)
        ours = statistics.median(times["ours"])
        theirs = statistics.median(times["topk"])
        of_both = f"mask {ours:.2f} s, topk {theirs:.2f} s, ratio {ours / theirs:.2f}"
        print(f"{name} {n / 1e6:.0f} M: {of_both}")
        ours, theirs = (alone(memory, name, what) for what in (MaskSet.from_scores, topk))
        peaks = f"mask {ours:.2f}, topk {theirs:.2f}"
        print(f"  peak memory over the scores': {peaks}")
        conflict = {layer: torch.rand(len(score)) - 0.5 for layer, score in scores.items()}
        aware = seconds(conflict_aware, scores, conflict, 0.1)
        budget = seconds(erk, DENSITY, scores)
        print(f"  conflict-aware scores {aware:.2f} s, ERK {1000 * budget:.1f} ms")
    importance = np.random.default_rng(0).random((10, 512 * 512 * 9), np.float32)
    n = importance.shape[1]
    spent = seconds(keep_shares, importance, int(DENSITY * n))
    print(f"greedy shares, one layer of {n / 1e6:.1f} M weights, 10 groups: {spent:.2f} s")


if __name__ == "__main__":
    main()
