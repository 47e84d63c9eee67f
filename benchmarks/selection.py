"""Selection on large networks: exact masks, layer budgets, the greedy rule and conflict scores at
25 M and 138 M weights.

    python benchmarks/selection.py

The rival of an exact mask is one `torch.topk` over the same scores. Peak memory is that of a
process of its own, over what the scores take.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tqdm.auto import tqdm
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
        model = getattr(torchvision.models, name)()
    return {layer: tuple(p.shape) for layer, p in model.named_parameters() if p.dim() > 1}


def random_tensors(name: str) -> dict[str, Tensor]:
    """A random number per weight."""
    generator = torch.Generator().manual_seed(0)
    return {layer: torch.rand(shape, generator=generator) for layer, shape in shapes(name).items()}


def topk(scores: dict[str, Tensor], n_keep: int) -> Tensor:
    """The rival: one torch.topk over all scores."""
    return (
        torch.cat([score.flatten() for score in scores.values()]).topk(n_keep, sorted=False).indices
    )


def mask(scores: dict[str, Tensor], n_keep: int) -> MaskSet:
    """Ours."""
    return MaskSet.from_scores(scores, n_keep)


def memory(name: str, what: Callable, answer: multiprocessing.Queue) -> None:
    """Peak memory of one call, the scores included, over the memory of the scores."""
    what(random_tensors("resnet18"), 1000)  # loads what the call needs
    scores = random_tensors(name)
    size = sum(score.numel() * 4 for score in scores.values())
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    what(scores, int(DENSITY * size / 4))
    answer.put((resident("VmHWM") - before + size) / size)


def resident(name: str) -> int:
    """Bytes of memory of this process, now (VmRSS) or at most (VmHWM); Linux only."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
    )
    return int(line.split()[1]) * 1024


def peak(name: str, what: Callable) -> float:
    """The same, measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=memory, args=(name, what, answer))
    process.start()
    found = answer.get()
    process.join()
    return found


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
        times: dict[str, list[float]] = {"ours": [], "topk": []}
        for number in range(ROUNDS + 1):
            progress.say(f"{name}: round {number} of {ROUNDS}")
            for kind, what in (("ours", mask), ("topk", topk)):
                spent = seconds(what, scores, int(DENSITY * n))
                if number:
                    times[kind].append(spent)
        ours, theirs = (statistics.median(times[kind]) for kind in ("ours", "topk"))
        print(
            f"{name} {n / 1e6:.0f} M: mask {ours:.2f} s, topk {theirs:.2f} s, ratio {ours / theirs:.2f}"
        )
        print(
            f"  peak memory over the scores': mask {peak(name, mask):.2f}, topk {peak(name, topk):.2f}"
        )
        conflict = {layer: torch.rand(len(score)) - 0.5 for layer, score in scores.items()}
        print(
            f"  conflict-aware scores {seconds(conflict_aware, scores, conflict, 0.1):.2f} s, ",
            end="",
        )
        print(f"ERK {1000 * seconds(erk, DENSITY, scores):.1f} ms")
    layer = np.random.default_rng(0).random((10, 512 * 512 * 9), np.float32)
    spent = seconds(keep_shares, layer, int(DENSITY * layer.shape[1]))
    print(
        f"greedy shares, one layer of {layer.shape[1] / 1e6:.1f} M weights, 10 groups: {spent:.2f} s"
    )


if __name__ == "__main__":
    main()
