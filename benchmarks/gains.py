"""Where the time of a step went before and goes now: the three largest gains, each taken away
alone, and profiles.

    make bench

A step of masked training at batch 64 on one thread: as it is; with weights not channels last; in
    float32; both. Predictions of
1000 images in small batches and in one. The profiles name the operations that take most of a step.
"""

import statistics

import torch
from benchmarks.rounds import Way, ratio, time_in_turn
from torch.profiler import ProfilerActivity, profile

from fairlth import training
from fairlth.config import PRESETS
from fairlth.images import Data, as_float
from fairlth.models import build
from fairlth.training import Trainer
from fairlth.workflow.cost import random_images

ROUNDS, STEPS, TOP = 5, 8, 6
SMALL = PRESETS["small"].schedule
FLOAT32 = SMALL.model_copy(update={"precision": "float32"})


def trainer(model_name: str, data: Data, schedule: training.Schedule, last: bool) -> Trainer:
    """A trainer whose weights and images are channels last, or are not."""
    made = Trainer(
        build(model_name, data.in_shape, 10, torch.Generator().manual_seed(0)), data, schedule, 0
    )
    if not last:
        made.model.to(memory_format=torch.contiguous_format)
        made.data.train.x.data = made.data.train.x.contiguous()
    return made


def variants(model_name: str) -> dict[str, Way]:
    """A few steps by each way, and predictions by two."""
    ways: dict[str, Way] = {}
    for name, (schedule, last) in {
        "as it is": (SMALL, True),
        "not channels last": (SMALL, False),
        "float32": (FLOAT32, True),
        "neither": (FLOAT32, False),
    }.items():
        made = trainer(model_name, random_images(STEPS * SMALL.batch_size, 32), schedule, last)
        ways[name] = lambda made=made: made.epoch(1)
    model, test = made.model, random_images(1000, 32).test
    model = model.to(memory_format=torch.channels_last)
    ways["predict"] = lambda: training.predict(model, test)

    def whole() -> None:
        with torch.inference_mode():
            model.eval()
            training.count(model(as_float(test.x)), test)

    ways["predict in one batch"] = whole
    return ways


def top(model_name: str, schedule: training.Schedule, last: bool) -> str:
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
        print(
            f"  predict in one batch over in small ones {ratio(seconds, 'predict in one batch', 'predict')}"
        )
        print(f"  profile before: {top(model_name, FLOAT32, False)}")
        print(f"  profile now:    {top(model_name, SMALL, True)}")


if __name__ == "__main__":
    main()
