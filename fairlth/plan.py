"""What a preset would take, before anything is trained: runs, dense trainings, device hours, disk.

python -m fairlth.plan paper
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from fairlth import command, config, data, progress, workload
from fairlth.config import Run, Schedule
from fairlth.cost import random_images
from fairlth.masks import prunable
from fairlth.models import build
from fairlth.results import SHIFTS, processor
from fairlth.training import Trainer, low_precision

SAMPLE, PATIENCE = 8, 2.0  # images of a small batch; seconds that a timed step may take on CPU by its reckoning
IMAGES = {  # to train and validate on, as the sources of data/README.md have them; their own validation splits left out
    "digits": 1348,
    "fashion_mnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "fer2013": 28_006,
    "tiny_imagenet": 100_000,
    "celeba": 162_770,
    "utkface": 13_989,
    "fairface": 86_744,
}
VALUES = {  # of the label columns that presets name
    "digits": {"label": 10, "odd": 2, "ink": 3},
    "fashion_mnist": {"label": 10},
    "cifar10": {"label": 10},
    "cifar100": {"fine_label": 100, "coarse_label": 20},
    "fer2013": {"label": 7},
    "tiny_imagenet": {"label": 200},
    "celeba": {"Smiling": 2, "Male": 2},
    "utkface": {"race": 5, "gender": 2, "age_band": 5},
    "fairface": {"race": 7, "gender": 2, "age": 9},
}
LABELS = {(dataset, column): n for dataset, columns in VALUES.items() for column, n in columns.items()}
BYTES_A_CELL = 2 * 8 * (2 + len(SHIFTS))  # right and all images of a class and group on each split, as indented JSON
BYTES_A_RECORD = 4_000  # the rest of it: layers, trace, settings, conditions


class Step(NamedTuple):
    """What decides how long one training step takes on a device."""

    model: str
    side: int
    batch: int
    precision: str


def images(run: Run) -> int:
    """Training images of a run; ValueError where the table of this module lacks the data set."""
    if run.settings.n_train is not None:
        return run.settings.n_train
    if run.dataset not in IMAGES:
        raise ValueError(f"how many images {run.dataset} has is not known before it is loaded: give the preset n_train.")
    return IMAGES[run.dataset] - (0 if "valid" in data.source_of(run).splits else run.settings.n_val)


def step_of(run: Run, device: torch.device) -> Step:
    """The training step of a run on a device."""
    schedule, side = run.settings.schedule, min(data.source_of(run).side, run.settings.image_size)
    return Step(run.model, side, schedule.batch_size, "bfloat16" if low_precision(schedule, device) else "float32")


def seconds(step: Step, schedule: Schedule) -> float:
    """Seconds of one training step, timed now on this machine's device with random images.

    A whole batch is timed, or where that would take longer than PATIENCE two small ones: a fixed part, and one that grows.
    """
    few = min(SAMPLE, step.batch)
    short = _timed(step, schedule, few)
    if torch.cuda.is_available() or short * step.batch / few < PATIENCE:
        return _timed(step, schedule, step.batch)
    return short + max(0.0, _timed(step, schedule, 2 * few) - short) * (step.batch - few) / few


def _timed(step: Step, schedule: Schedule, n: int) -> float:
    """Seconds of a step with a batch of n images; the first one warms up."""
    sample = random_images(n, step.side)
    short = schedule.model_copy(update={"batch_size": n, "compile": False})
    trainer = Trainer(build(step.model, sample.in_shape, 10, torch.Generator().manual_seed(0)), sample, short, seed=0)
    spent = []
    for _ in range(4):
        started = time.perf_counter()
        trainer.epoch(0)  # reads the loss, so that a GPU has finished
        spent.append(time.perf_counter() - started)
    return min(spent[1:])


def time_steps(preset: str) -> dict[Step, float]:
    """Seconds of every kind of step that the preset's runs make, timed now."""
    torch.set_num_threads(config.THREADS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[Step, float] = {}
    for run in config.grid(preset, ("dense",)):
        if (step := step_of(run, device)) not in found:
            progress.say(f"timing a step of {step.model} at {step.side} pixels")
            found[step] = seconds(step, run.settings.schedule)
    return found


def read_steps(path: Path) -> dict[Step, float]:
    """The table that `write_steps` left; ValueError in one sentence where it is no such table."""
    try:
        frame = pd.read_csv(path)
        return {Step(*row[:4]): row[4] for row in frame[[*Step._fields, "seconds"]].itertuples(index=False)}
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a table of timed steps ({error}): write one with --save.") from None


def write_steps(steps: Mapping[Step, float], path: Path) -> None:
    """Writes timed steps and the device's name as CSV, for a plan on another machine."""
    frame = pd.DataFrame([{"device": device_name()} | step._asdict() | {"seconds": spent} for step, spent in steps.items()])
    config.write_atomically(path, frame.to_csv(index=False).encode())


def device_name() -> str:
    """The device that steps are timed on here."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()}, {config.THREADS} thread(s)"


def table(preset: str, steps: Mapping[Step, float]) -> pd.DataFrame:
    """One row per task and a last one over all: runs, those done, dense trainings (shared ones once), hours, gigabytes.

    Hours are those of one device that makes the runs one after the other: training steps alone, predictions left out.

    Args:
        preset: a key of `config.PRESETS`.
        steps: from `time_steps` or `read_steps`; a step that is not among them leaves nan.
    """
    config.check_preset(preset)
    work, rows = workload.work(config.every_run(preset)), []
    known = {step[:3]: spent for step, spent in steps.items()}  # one precision a table
    for task in dict.fromkeys([*config.PRESETS[preset].tasks, *config.PRESETS[preset].group_tasks]):
        own = {run: n for run, n in work.items() if {**task.model_dump()}.items() <= run.model_dump().items()}
        one = next(iter(own))
        step, schedule = step_of(one, torch.device("cpu")), one.settings.schedule
        hours = schedule.epochs * (images(one) // step.batch) * known.get(step[:3], float("nan")) / 3600
        by = f" {task.target or ''} by {task.group_by or 'class'}".replace("  ", " ")
        row = {"task": task.dataset + by, "model": task.model, "runs": len(own)}
        row |= {"done": sum(config.record_path(run, config.RUNS).exists() for run in own), "dense trainings": sum(own.values())}
        rows.append(row | {"hours": sum(own.values()) * hours} | gigabytes(own))
    frame = pd.DataFrame(rows)
    total = frame.drop(columns=["task", "model"]).sum(skipna=False)
    return pd.concat([frame, pd.DataFrame([{"task": "all", "model": ""} | total.to_dict()])], ignore_index=True)


def gigabytes(runs: Mapping[Run, float]) -> dict[str, float]:
    """Disk that the runs of one task take: records, tickets (see `shipping.ticket`), and the trainings that they share."""
    one = next(iter(runs))
    target = one.target or data.source_of(one).target
    n_classes = LABELS.get((one.dataset, target), 10)
    n_groups = LABELS.get((one.dataset, one.group_by), 10) if one.group_by else n_classes
    side = min(data.source_of(one).side, one.settings.image_size)
    shape = (1 if data.source_of(one).grey else 3, side, side)
    model = build(one.model, shape, n_classes, torch.Generator())
    n, weights = (sum(value.numel() for value in part.values()) for part in (model.state_dict(), prunable(model)))
    found = {key for run in runs for key in workload.shared(run)}
    kept = sum({"dense": 8 * n, "lth": 9 * n}.get(key[0], 5 * n) for key in found)  # two states; search, mask and ticket
    records = len(runs) * (BYTES_A_CELL * n_classes * n_groups + BYTES_A_RECORD)
    tickets = sum(4 * (n - weights) + _packed(run.density, weights) for run in runs)
    return {"records GB": records / 1e9, "tickets GB": tickets / 1e9, "shared GB": kept / 1e9}


def _packed(density: float, weights: int) -> float:
    """Bytes of the kept weights and of their places, after zlib: 5 to 6 for every one that is kept, as measured."""
    return min(5.5 * density, 4.0) * weights


def text(preset: str, frame: pd.DataFrame, device: str) -> str:
    """The table as people read it, with what it rests on."""
    shown = frame.round({"dense trainings": 1, "hours": 1, "records GB": 2, "tickets GB": 1, "shared GB": 1})
    rest = (
        f"Hours are of {device}: one step of each network timed, times the steps of all its trainings, one run after the "
        "other; predictions, scores and the start of each run come on top.\n"
        "Shared trainings are counted once. Nothing was trained."
    )
    return f"Plan of preset {preset}\n{shown.to_string(index=False)}\n{rest}"


def show(preset: str, given: Path | None, keep: Path | None) -> None:
    """Prints the plan with steps timed now, or with those `given`, and keeps them where it is told to."""
    config.check_preset(preset)
    steps = read_steps(given) if given else time_steps(preset)
    if keep:
        write_steps(steps, keep)
    device = str(pd.read_csv(given)["device"][0]) if given else device_name()
    print(text(preset, table(preset, steps), device))


def main() -> int:
    """The command line; 2 for bad input."""
    parser = argparse.ArgumentParser(description="What a preset would take.")
    parser.add_argument("preset")
    parser.add_argument("--steps", type=Path, help="timed steps of another machine, as --save has written them")
    parser.add_argument("--save", type=Path, help="where to write the steps timed here")
    arguments = parser.parse_args()
    return command.ended(lambda: show(arguments.preset, arguments.steps, arguments.save))


if __name__ == "__main__":
    sys.exit(main())
