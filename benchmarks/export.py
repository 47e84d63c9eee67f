"""What a ticket gains outside torch: bytes on disk, operations, and latency in ONNX Runtime on CPU,
over the dense network's.

    python benchmarks/export.py

Networks trained for a few steps on random images and cut by magnitude, over all layers together
(`global`) or in each layer alike (`by layer`): how many channels are left without weights depends
on that more than on anything else. Rounds of the forms take turns.
"""

import statistics
import time
import zlib
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from tqdm.auto import tqdm
from fairlth.config import Schedule, paths
from fairlth.masks import MaskSet, prunable
from fairlth.methods.allocation import uniform
from fairlth.models import build
from fairlth.selection import magnitude, select, select_by_layer
from fairlth.shipping.compact import compact
from fairlth.shipping.export import flops, int8, onnx, outputs, session
from fairlth.shipping.ticket import tensors
from fairlth.training import Trainer
from fairlth.workflow.cost import random_images

NETWORKS, DENSITIES, IN_SHAPE = ("convnet", "resnet18"), (0.2, 0.05, 0.02), (3, 32, 32)
IMAGES = (1, 32)  # a call
ROUNDS, SECONDS, STEPS = 9, 0.05, 4  # a round of the dense form takes about so many seconds
ROW = "{:9s} {:>5} {:9s} {:>8} {:>7} {:>9} {:>7} {:>6} {:>8}  {:26s} {:26s} {:26s} {:26s}"
HEADS = (
    "stored",
    "ONNX",
    "compact",
    "int8",
    "FLOPs",
    "dead",
    *(f"{form}, {n} a call" for n in IMAGES for form in ("compact", "int8")),
)


def pruned(name: str, density: float, rule: str) -> tuple[nn.Module, MaskSet]:
    """A network after a few steps, so that its norms are not the identity, and its mask, which is
    applied.
    """
    data = random_images(STEPS * 64, IN_SHAPE[1])
    model = build(name, IN_SHAPE, 10, torch.Generator().manual_seed(0))
    Trainer(model, data, Schedule(epochs=1, batch_size=64, lr=0.01), 0).epoch(0)
    weights = prunable(model)
    scores = magnitude(weights)
    mask = (
        select(scores, density)
        if rule == "global"
        else select_by_layer(scores, uniform(density, weights))
    )
    mask.apply(model)
    return model.cpu().eval(), mask


def latency(forms: dict[str, bytes], n_images: int) -> dict[str, list[float]]:
    """Seconds of a call in each round, by form; the dense form is first and decides how many calls
    a round has.
    """
    sessions: dict[str, Any] = {name: session(content) for name, content in forms.items()}
    x = 2 * torch.rand(n_images, *IN_SHAPE, generator=torch.Generator().manual_seed(0)) - 1
    for own in sessions.values():
        called(own, x, 3)  # warms up
    calls = max(1, round(SECONDS / called(sessions["dense"], x, 3)))
    rounds = [
        {name: called(own, x, calls) for name, own in sessions.items()} for _ in range(ROUNDS)
    ]
    return {name: [spent[name] for spent in rounds] for name in forms}


def called(own: Any, x: Tensor, calls: int) -> float:
    """Seconds of one of so many calls."""
    started = time.perf_counter()
    for _ in range(calls):
        outputs(own, x)
    return (time.perf_counter() - started) / calls


def ratio(seconds: dict[str, list[float]], name: str) -> str:
    """Median of the rounds' ratios to the dense form, and their quartiles."""
    ratios = [one / other for one, other in zip(seconds[name], seconds["dense"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def row(name: str, density: float, rule: str) -> tuple[list[str], str]:
    """The ratios of one ticket, and the dense network's own numbers."""
    model, mask = pruned(name, density, rule)
    small = compact(model)
    forms = {"dense": onnx(model, IN_SHAPE), "compact": onnx(small, IN_SHAPE)}
    forms["int8"] = int8(forms["dense"])
    dense, stored = (
        len(zlib.compress(save(tensors(model, kept)), 9)) for kept in (MaskSet({}), mask)
    )
    sizes = [f"{size / dense:.3f}" for size in (stored, *map(len, forms.values()))]
    work = flops(model, IN_SHAPE)
    timed = {n: latency(forms, n) for n in IMAGES}
    ratios = [ratio(seconds, form) for seconds in timed.values() for form in ("compact", "int8")]
    spent = ", ".join(
        f"{1000 * statistics.median(timed[n]['dense']):.2f} ms a call of {n}" for n in IMAGES
    )
    about = f"{name}: dense {dense / 1e6:.2f} MB, {work / 1e6:.1f} MFLOP an image, {spent}"
    return [
        name,
        f"{density:g}",
        rule,
        *sizes,
        f"{flops(small, IN_SHAPE) / work:.3f}",
        gone(model, small),
        *ratios,
    ], about


def gone(model: nn.Module, small: nn.Module) -> str:
    """Output channels taken out, of all."""
    before, after = (
        sum(len(weight) for weight in prunable(net).values()) for net in (model, small)
    )
    return f"{before - after}/{before}"


def main() -> None:
    """Prints one line a ticket."""
    torch.set_num_threads(paths.THREADS)
    print(
        f"over the dense network's, {paths.THREADS} thread(s); latencies: medians and quartiles of {ROUNDS} rounds in turn"
    )
    print(ROW.format("network", "kept", "cut", *HEADS))
    for name in NETWORKS:
        for density in DENSITIES:
            for rule in ("global", "by layer"):
                cells, about = row(name, density, rule)
                print(ROW.format(*cells), flush=True)
                progress.say(f"{name} at {density:g}, {rule}")
        print(about)


if __name__ == "__main__":
    main()
