"""What a training step costs at least, and what it takes: operations over the device's rate of matrix products."""

import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fairlth.config import Schedule
from fairlth.images import Data, Split
from fairlth.models import build
from fairlth.training import Trainer


def step_floor(model: str, schedule: Schedule, side: int = 32, steps: int = 4, rounds: int = 5) -> dict[str, Any]:
    """One network's training step beside its floor, as a row: `share` of the floor in the step; 1 means nothing to gain.

    The floor is the step's floating-point operations (products and additions of its convolutions and linear layers, forward
    and backward) over the rate of one large matrix product measured beside it in the same precision.

    Args:
        model: a name of `models`.
        schedule: batch size, precision and compilation.
        side: pixels of the random images.
        steps, rounds: medians over so many rounds of so many steps.
    """
    data = random_images(steps * schedule.batch_size, side)
    trainer = Trainer(build(model, data.in_shape, 10, torch.Generator().manual_seed(0)), data, schedule, seed=0)
    flops = step_flops(trainer, data.train.x[: schedule.batch_size])
    trainer.epoch(0)
    spent, rates = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        trainer.epoch(0)
        spent.append((time.perf_counter() - started) / steps)
        rates.append(matmul_rate(data.train.x.device, trainer.low))
    step, rate = statistics.median(spent), statistics.median(rates)
    named = {"model": model, "batch": schedule.batch_size, "precision": "bfloat16" if trainer.low else "float32"}
    measured = {"GFLOP": flops / 1e9, "GFLOP/s": rate / 1e9, "floor ms": 1000 * flops / rate, "step ms": 1000 * step}
    return named | measured | {"share": flops / rate / step}


def step_flops(trainer: Trainer, x: Tensor) -> int:
    """Floating-point operations of a forward and a backward pass on uint8 images x, a product and its addition being two."""
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(trainer.model(x.float()), torch.zeros(len(x), dtype=torch.int64, device=x.device)).backward()
    return counter.get_total_flops()


def matmul_rate(device: torch.device, low: bool, side: int = 2048) -> float:
    """Floating-point operations per second of one product of square matrices, in bfloat16 if `low`."""
    a = torch.ones(side, side, device=device, dtype=torch.bfloat16 if low else torch.float32)
    a @ a
    _wait(device)
    started = time.perf_counter()
    a @ a
    _wait(device)
    return 2 * side**3 / (time.perf_counter() - started)


def random_images(n: int, side: int) -> Data:
    """n random images in ten classes, for timing: what is on them does not change the time of a step."""
    x = torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels, names = torch.arange(n) % 10, [str(c) for c in range(10)]
    split = Split(x, labels, labels, 10, 10).to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Data(split, split, split, names, names, mirror=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
