"""What a preset would take, before anything is trained: runs, dense trainings, device hours, disk.

fairlth plan paper
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from fairlth import config, data
from fairlth.analysis.schema import SHIFTS
from fairlth.config import Run, Task, paths, workload
from fairlth.models import MODELS, build, given_as_trained, prunable
from fairlth.training import PREDICT_ON_GPU
from fairlth.workflow import reckoning
from fairlth.workflow.cost import Step, step_of

IMAGES = {  # to train and validate on, see data/README.md; validation splits of the source left out
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
VALUES = {  # number of values of the label columns that presets name
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
SOME = 10  # values of a label column that is not in the table
BYTES_PER_CELL = 2 * 8 * (2 + len(SHIFTS))  # right and all images of a class and group, each split
BYTES_PER_RECORD = 4_000  # the rest of it: layers, trace, settings, conditions
BYTES_PER_WEIGHT = {"dense": 8, "lth": 9}  # two states; with a mask
BYTES_PER_SEARCH = 5  # a state and a mask


def images(run: Run) -> int:
    """Number of training images of a run.

    Raises:
        ValueError: the table of this module lacks the data set, and the preset has no n_train.
    """
    if run.settings.n_train is not None:
        return run.settings.n_train
    if run.dataset not in IMAGES:
        raise ValueError(
            f"how many images {run.dataset} has is not known before it is loaded: "
            "give the preset n_train."
        )
    has_validation_split = "valid" in data.source_of(run).splits
    return IMAGES[run.dataset] - (0 if has_validation_split else run.settings.n_val)


def table(preset: str, steps: Mapping[Step, float]) -> pd.DataFrame:
    """One row per task, and a last one with their sums.

    `hours` are those of one device that makes the runs one after the other: training steps alone,
    without predictions. `H100 hours` are reckoned, see `reckoning`. A training that several runs
    share is counted once.

    Args:
        preset: a key of `config.PRESETS`.
        steps: seconds of each step, from `cost.time_steps` or `cost.read_steps`; a step that is not
            among them leaves nan.

    Raises:
        ValueError: there is no such preset, or see `images`.
    """
    config.check_preset(preset)
    trained = [name for name in MODELS if given_as_trained(name)]
    work = workload.work(config.every_run(preset), trained)
    known = {step[:3]: seconds for step, seconds in steps.items()}  # one precision per table
    scale = config.PRESETS[preset]
    tasks = dict.fromkeys([*scale.tasks, *scale.group_tasks])
    rows = [_row(task, work, known) for task in tasks]
    frame = pd.DataFrame(rows)
    total = frame.drop(columns=["task", "model"]).sum(skipna=False)
    last = pd.DataFrame([{"task": "all", "model": ""} | total.to_dict()])
    both = pd.concat([frame, last], ignore_index=True)
    return both.astype({"runs": int, "done": int})


def _row(
    task: Task, work: Mapping[Run, float], known: Mapping[tuple[Any, ...], float]
) -> dict[str, Any]:
    """One task's row: what its runs take together."""
    wanted = task.model_dump().items()
    own = {run: n for run, n in work.items() if wanted <= run.model_dump().items()}
    one = next(iter(own))
    step = step_of(one, torch.device("cpu"))
    schedule = one.settings.schedule
    n_steps = schedule.epochs * (images(one) // step.batch)
    hours = n_steps * known.get(step[:3], float("nan")) / 3600
    on_card = n_steps * reckoning.step(step_on_card(one)).seconds / 3600
    trainings = sum(own.values())
    target = "" if one.label == "label" else f" {one.label}"
    return {
        "task": f"{task.dataset}{target} by {task.group_by or 'class'}",
        "model": task.model,
        "runs": len(own),
        "done": sum(config.record_path(run, paths.RUNS).exists() for run in own),
        "dense trainings": trainings,
        "hours": trainings * hours,
        "H100 hours": trainings * on_card,
        **gigabytes(own),
    }


def step_on_card(run: Run) -> Step:
    """The training step of a run on a card that does all that its schedule asks for."""
    step = step_of(run, torch.device("cpu"))
    return step._replace(precision=run.settings.schedule.precision)


def gigabytes(runs: Mapping[Run, float]) -> dict[str, float]:
    """Disk that the runs of one task take: records, tickets, and the trainings that they share."""
    one = next(iter(runs))
    source = data.source_of(one)
    values = VALUES.get(one.dataset, {})
    n_classes = values.get(one.label, SOME)
    n_groups = values.get(one.group_by, SOME) if one.group_by else n_classes
    side = min(source.side, one.settings.image_size)
    shape = (1 if source.grey else 3, side, side)
    model = build(one.model, shape, n_classes, torch.Generator())
    n_all = sum(value.numel() for value in model.state_dict().values())
    n_weights = sum(weight.numel() for weight in prunable(model).values())
    trainings = {key for run in runs for key in workload.shared(run)}
    shared = sum(n_all * BYTES_PER_WEIGHT.get(key[0], BYTES_PER_SEARCH) for key in trainings)
    records = len(runs) * (BYTES_PER_CELL * n_classes * n_groups + BYTES_PER_RECORD)
    unpruned = 4 * (n_all - n_weights)
    tickets = sum(unpruned + _packed(run.density, n_weights) for run in runs)
    return {"records GB": records / 1e9, "tickets GB": tickets / 1e9, "shared GB": shared / 1e9}


def _packed(density: float, n_weights: int) -> float:
    """Bytes of the kept weights and of their places: a bit per weight or two bytes per kept one."""
    return 4 * density * n_weights + min(n_weights / 8, 2 * density * n_weights)


def text(preset: str, frame: pd.DataFrame, device: str) -> str:
    """The table as people read it, with what it rests on."""
    digits = {"dense trainings": 1, "hours": 1, "H100 hours": 2, "records GB": 2}
    digits |= {"tickets GB": 1, "shared GB": 1}
    steps = dict.fromkeys(step_on_card(run) for run in config.grid(preset, ("dense",)))
    rounded = {"GFLOP": 1, "GB": 2, "ms": 2, "share %": 1, "peak GB": 1}
    rests_on = reckoning.table([*steps]).round(rounded)
    return (
        f"Plan of preset {preset}\n{frame.round(digits).to_string(index=False)}\n"
        f"Hours are of {device}: one step of each network timed, times the steps of all trainings, "
        "one run after the other; predictions, scores and the start of each run come on top.\n"
        "Shared trainings are counted once. Nothing was trained.\n\n"
        f"What H100 hours rest on, per training step\n{rests_on.to_string(index=False)}\n"
        f"{reckoning.ASSUMED}\n{reckoning.MEASURED}\n"
        "Share: operations over what the card could do in that time.\n"
        f"Peak GB: reckoned of a step of SGD and of a prediction of {PREDICT_ON_GPU} images; the "
        "data set, masks, states that are kept and some 2 GB of torch come on top of it."
    )
