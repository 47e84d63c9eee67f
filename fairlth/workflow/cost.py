"""What a training step takes on this machine, and its floor: operations over the device's rate."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from fairlth import config, data
from fairlth.analysis.conditions import processor
from fairlth.config import Run, Schedule, paths
from fairlth.images import Data, Split
from fairlth.models import build
from fairlth.training import Trainer, low_precision

SAMPLE = 8  # images of a small batch
PATIENCE = 2.0  # seconds that a timed step may take on CPU by its reckoning


class Step(NamedTuple):
    """What decides how long one training step takes on a device."""

    model: str
    side: int
    batch: int
    precision: str


def step_of(run: Run, device: torch.device) -> Step:
    """The training step of a run on a device."""
    schedule = run.settings.schedule
    side = min(data.source_of(run).side, run.settings.image_size)
    precision = "bfloat16" if low_precision(schedule, device) else "float32"
    return Step(run.model, side, schedule.batch_size, precision)


def time_steps(preset: str) -> dict[Step, float]:
    """Seconds of every kind of step that the preset's runs make, timed now on this device.

    Raises:
        ValueError: there is no such preset.
    """
    torch.set_num_threads(paths.THREADS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    schedules = {
        step_of(run, device): run.settings.schedule for run in config.grid(preset, ("dense",))
    }
    found = {}
    for step, schedule in tqdm(schedules.items(), desc="timing steps", unit="network"):
        found[step] = seconds(step, schedule)
    return found


def seconds(step: Step, schedule: Schedule) -> float:
    """Seconds of one training step, timed now on this machine's device with random images.

    A whole batch is timed, or where that would take longer than PATIENCE two small ones: a fixed
    part, and one that grows with the number of images.
    """
    return _of_batch(step.model, schedule, random_images(step.batch, step.side))


def seconds_on(run: Run, data: Data) -> float:
    """The same with a run's own images and classes, so of any network and any shape of images."""
    return _of_batch(run.model, run.settings.schedule, data)


def _of_batch(name: str, schedule: Schedule, data: Data) -> float:
    """Seconds of a step with a whole batch, from the time of this or of two small ones."""
    timed = partial(_spent, name, schedule, data)
    batch = min(schedule.batch_size, len(data.train))
    few = min(SAMPLE, batch)
    short = timed(few)
    if torch.cuda.is_available() or short * batch / few < PATIENCE:
        return timed(batch)
    longer = timed(2 * few)
    per_image = max(0.0, longer - short) / few
    return short + per_image * (batch - few)


def _spent(name: str, schedule: Schedule, data: Data, n: int) -> float:
    """Seconds of a step with a batch of the first n training images; the first one warms up."""
    rows = torch.arange(n, device=data.train.y.device)
    sample = replace(data, train=data.train.take(rows))
    short = schedule.model_copy(update={"batch_size": n, "compile": False})
    generator = torch.Generator().manual_seed(0)
    model = build(name, sample.in_shape, sample.train.n_classes, generator)
    trainer = Trainer(model.to(sample.train.y.device), sample, short, seed=0)
    spent = []
    for _ in range(4):
        started = time.perf_counter()
        trainer.epoch(0)  # reads the loss, so that a GPU has finished
        spent.append(time.perf_counter() - started)
    return min(spent[1:])


def read_steps(path: Path) -> tuple[dict[Step, float], str]:
    """The table that `write_steps` has written: seconds of each step, and the device's name.

    Raises:
        ValueError: it is no such table.
    """
    try:
        frame = pd.read_csv(path)
        rows = frame[[*Step._fields, "seconds"]].itertuples(index=False)
        return {Step(*row[:4]): float(row[4]) for row in rows}, str(frame["device"][0])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is not a table of timed steps ({error}): write one with --save."
        ) from None


def write_steps(steps: Mapping[Step, float], path: Path) -> None:
    """Writes timed steps and the device's name as CSV, for a plan on another machine.

    Raises:
        OSError: it cannot be written.
    """
    device = device_name()
    rows = [{"device": device} | step._asdict() | {"seconds": n} for step, n in steps.items()]
    paths.write_atomically(path, pd.DataFrame(rows).to_csv(index=False).encode())


def device_name() -> str:
    """The device that steps are timed on here."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor()}, {paths.THREADS} thread(s)"


def step_floor(
    model: str, schedule: Schedule, side: int = 32, steps: int = 4, rounds: int = 5
) -> dict[str, Any]:
    """One network's training step beside its floor, as a row of a table.

    The floor is the step's floating-point operations (products and additions of its convolutions
    and linear layers, forward and backward) over the rate of one large matrix product, measured
    beside it in the same precision. `share` is floor over step: 1 means nothing to gain.

    Args:
        model: a name of `models`.
        schedule: batch size, precision and compilation.
        side: pixels of the random images.
        steps, rounds: medians over so many rounds of so many steps.
    """
    data = random_images(steps * schedule.batch_size, side)
    network = build(model, data.in_shape, 10, torch.Generator().manual_seed(0))
    trainer = Trainer(network.to(data.train.y.device), data, schedule, seed=0)
    flops = step_flops(trainer, data.train.x[: schedule.batch_size])
    trainer.epoch(0)
    spent = []
    rates = []
    for _ in range(rounds):
        started = time.perf_counter()
        trainer.epoch(0)
        spent.append((time.perf_counter() - started) / steps)
        rates.append(matmul_rate(data.train.x.device, trainer.low))
    step = statistics.median(spent)
    rate = statistics.median(rates)
    named = {
        "model": model,
        "batch": schedule.batch_size,
        "precision": "bfloat16" if trainer.low else "float32",
    }
    measured = {
        "GFLOP": flops / 1e9,
        "GFLOP/s": rate / 1e9,
        "floor ms": 1000 * flops / rate,
        "step ms": 1000 * step,
    }
    return named | measured | {"share": flops / rate / step}


def step_flops(trainer: Trainer, x: Tensor) -> int:
    """Floating-point operations of a forward and a backward pass on uint8 images x.

    A product and its addition are two.
    """
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(
            trainer.model(x.float()), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        ).backward()
    return counter.get_total_flops()


def matmul_rate(device: torch.device, low: bool) -> float:
    """Floating-point operations per second of a product of square matrices; bfloat16 if `low`.

    A GPU needs larger ones to reach its rate, and is faster where all values are alike.
    """
    side = 8192 if device.type == "cuda" else 2048
    a = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    a = a.to(device, torch.bfloat16 if low else torch.float32)
    a @ a
    _wait(device)
    started = time.perf_counter()
    a @ a
    _wait(device)
    return 2 * side**3 / (time.perf_counter() - started)


def random_images(n: int, side: int, n_classes: int = 10) -> Data:
    """n random images, for timing: what they show does not change a step's time."""
    x = torch.randint(
        0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    labels = torch.arange(n) % n_classes
    names = [str(c) for c in range(n_classes)]
    split = Split(x, labels, labels, n_classes, n_classes).to(
        torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    return Data(split, split, split, names, names, mirror=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
