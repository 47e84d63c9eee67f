"""Where the time of a training step goes: the three largest gains, each taken away, and profiles.

    make bench

A training step at batch 64 on one thread: as it is; with weights not channels last; in float32;
both. Predictions of 1000 images in small batches and in one. The profiles name the operations that
take most of a step.
"""

import statistics
from functools import partial

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.rounds import Way, ratio, time_in_turn
from fairlth.config import PRESETS, Schedule
from fairlth.images import Data, Split, as_float
from fairlth.metrics import Counts
from fairlth.models import build
from fairlth.training import Trainer, count, predict
from fairlth.workflow.cost import random_images

ROUNDS = 5
STEPS = 8
TOP = 6  # operations of a profile
SMALL = PRESETS["small"].schedule
FLOAT32 = SMALL.model_copy(update={"precision": "float32"})
TRAININGS = {  # schedule, and whether weights and images are channels last
    "as it is": (SMALL, True),
    "not channels last": (SMALL, False),
    "float32": (FLOAT32, True),
    "neither": (FLOAT32, False),
}


def trainer(model_name: str, data: Data, schedule: Schedule, last: bool) -> Trainer:
    """A trainer whose weights and images are channels last, or are not."""
    model = build(model_name, data.in_shape, 10, torch.Generator().manual_seed(0))
    made = Trainer(model, data, schedule, 0)
    if not last:
        made.model.to(memory_format=torch.contiguous_format)
        made.data.train.x.data = made.data.train.x.contiguous()
    return made


def variants(model_name: str) -> dict[str, Way]:
    """A few steps by each way, and predictions by two."""
    ways: dict[str, Way] = {}
    for name, (schedule, last) in TRAININGS.items():
        made = trainer(model_name, random_images(STEPS * SMALL.batch_size, 32), schedule, last)
        ways[name] = partial(made.epoch, 1)
    model = made.model.to(memory_format=torch.channels_last)
    test = random_images(1000, 32).test
    ways["predict"] = partial(predict, model, test)
    ways["predict in one batch"] = partial(predict_in_one_batch, model, test)
    return ways


def predict_in_one_batch(model: nn.Module, test: Split) -> Counts:
    """Counts of right predictions, all images in one batch."""
    model.eval()
    with torch.inference_mode():
        return count(model(as_float(test.x)), test)


def top(model_name: str, schedule: Schedule, last: bool) -> str:
    """The operations that take most of a few steps, in percent of all."""
    made = trainer(model_name, random_images(STEPS * SMALL.batch_size, 32), schedule, last)
    made.epoch(1)
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        made.epoch(1)
    rows = [row for row in watched.key_averages() if row.self_cpu_time_total > 0]
    whole = sum(row.self_cpu_time_total for row in rows)
    rows = sorted(rows, key=lambda row: -row.self_cpu_time_total)[:TOP]
    return ", ".join(
        f"{row.key.removeprefix('aten::')} {row.self_cpu_time_total / whole:.0%}" for row in rows
    )


def main() -> None:
    """Prints ratios and profiles of both networks."""
    torch.set_num_threads(1)
    for model_name in ("convnet", "resnet20"):
        seconds = time_in_turn(variants(model_name), ROUNDS, model_name)
        step = 1000 * statistics.median(seconds["as it is"]) / STEPS
        print(f"{model_name}, batch 64, one thread: a step takes {step:.1f} ms; times over it")
        for name in ("not channels last", "float32", "neither"):
            print(f"  {name:22s} {ratio(seconds, name, 'as it is')}")
        whole = ratio(seconds, "predict in one batch", "predict")
        print(f"  predict in one batch over in small ones {whole}")
        print(f"  profile before: {top(model_name, FLOAT32, False)}")
        print(f"  profile now:    {top(model_name, SMALL, True)}")


if __name__ == "__main__":
    main()
