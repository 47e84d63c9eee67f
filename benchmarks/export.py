"""What a ticket gains outside torch, compared with the dense network: bytes, operations, latency.

    python benchmarks/export.py

The latency is that of ONNX Runtime on CPU. Networks are trained for a few steps on random images
and pruned by magnitude, over all layers together (`global`) or in each layer alike (`by layer`):
how many channels are left without weights depends on that most. Rounds of the forms take turns.
"""

import itertools
import statistics
import zlib

import torch
from safetensors.torch import save
from torch import nn
from tqdm.auto import tqdm

from benchmarks.rounds import ratio
from fairlth.config import Schedule, paths
from fairlth.masks import MaskSet, prunable
from fairlth.methods.allocation import uniform
from fairlth.models import build
from fairlth.selection import magnitude, select, select_by_layer
from fairlth.shipping.compact import compact
from fairlth.shipping.export import flops, int8, latency, onnx
from fairlth.shipping.ticket import tensors
from fairlth.training import Trainer
from fairlth.workflow.cost import random_images

NETWORKS = ("convnet", "resnet18")
DENSITIES = (0.2, 0.05, 0.02)
IN_SHAPE = (3, 32, 32)
RULES = ("global", "by layer")
IMAGES = (1, 32)  # per call
ROUNDS = 9
STEPS = 4  # of training
ROW = "{:9s} {:>5} {:9s} {:>8} {:>7} {:>9} {:>7} {:>6} {:>8}  {:26s} {:26s} {:26s} {:26s}"
HEADS = (
    "stored",
    "ONNX",
    "compact",
    "int8",
    "FLOPs",
    "dead",
    *(f"{form}, {n} per call" for n in IMAGES for form in ("compact", "int8")),
)


def trained(name: str) -> nn.Module:
    """A network after a few steps, so that its batch norms are not the identity."""
    data = random_images(STEPS * 64, IN_SHAPE[1])
    model = build(name, IN_SHAPE, 10, torch.Generator().manual_seed(0))
    Trainer(model, data, Schedule(epochs=1, batch_size=64, lr=0.01), 0).epoch(0)
    return model.cpu().eval()


def mask_of(model: nn.Module, density: float, rule: str) -> MaskSet:
    """The mask of a network's largest weights, over all layers together or in each layer alike."""
    weights = prunable(model)
    scores = magnitude(weights)
    if rule == "global":
        return select(scores, density)
    return select_by_layer(scores, uniform(density, weights))


def timed(forms: dict[str, bytes], n_images: int) -> dict[str, list[float]]:
    """Seconds per call with random images in each round, by form."""
    return latency(forms, random_images(n_images, IN_SHAPE[1]).train.x, ROUNDS)


def row(name: str, density: float, rule: str) -> tuple[list[str], str]:
    """The ratios of one ticket, and the dense network's own numbers."""
    model = trained(name)
    dense = stored_bytes(model, MaskSet({}))
    mask = mask_of(model, density, rule)
    mask.apply(model)
    small = compact(model)
    forms = {"dense": onnx(model, IN_SHAPE), "compact": onnx(small, IN_SHAPE)}
    forms["int8"] = int8(forms["dense"])
    sizes = [stored_bytes(model, mask), *(len(content) for content in forms.values())]
    work = flops(model, IN_SHAPE)
    seconds_of = {n: timed(forms, n) for n in IMAGES}
    cells = [name, f"{density:g}", rule, *(f"{size / dense:.3f}" for size in sizes)]
    cells += [f"{flops(small, IN_SHAPE) / work:.3f}", gone(model, small)]
    cells += [
        ratio(seconds, form, "dense")
        for seconds in seconds_of.values()
        for form in ("compact", "int8")
    ]
    calls = [
        f"{1000 * statistics.median(seconds['dense']):.2f} ms per call of {n}"
        for n, seconds in seconds_of.items()
    ]
    of_dense = [f"{dense / 1e6:.2f} MB", f"{work / 1e6:.1f} MFLOP per image", *calls]
    return cells, f"{name}: dense {', '.join(of_dense)}"


def stored_bytes(model: nn.Module, mask: MaskSet) -> int:
    """Bytes of a network on disk, as `shipping.ticket` stores it."""
    return len(zlib.compress(save(tensors(model, mask)), 9))


def gone(model: nn.Module, small: nn.Module) -> str:
    """Output channels taken out, of all."""
    before = sum(len(weight) for weight in prunable(model).values())
    after = sum(len(weight) for weight in prunable(small).values())
    return f"{before - after}/{before}"


def main() -> None:
    """Prints one line per ticket."""
    torch.set_num_threads(paths.THREADS)
    print(
        f"over the dense network's, {paths.THREADS} thread(s); latencies: medians and quartiles "
        f"of {ROUNDS} rounds in turn"
    )
    print(ROW.format("network", "kept", "cut", *HEADS))
    for name in NETWORKS:
        for density, rule in tqdm([*itertools.product(DENSITIES, RULES)], name, unit="ticket"):
            cells, about = row(name, density, rule)
            print(ROW.format(*cells), flush=True)
        print(about)


if __name__ == "__main__":
    main()
