"""Which selection and which training give fairer tickets at equal accuracy?

    python studies/selection_study.py lth,cont-demote.1 plain,refine2-0.05 --density 0.05 \
        --seeds 0 5 --tasks cifar10 race

Every selection rule is crossed with every training rule, seeds paired. A ticket is steered by the
run's validation images and judged on training images that the run left out, so that the test split
stays unseen. Outputs are kept in runs/study/, where finished trainings are read from;
`study_tables.py` compares them.

Tasks: cifar10, utkface by race, and cifar10 with a long tail, 50 images of the first class per
image of the last.

Selection rules: "lth" resets the weights after each level; "magnitude@half" and "magnitude@third"
do so, too, after levels of half and a third of the epochs; "cont-" and a signal of `signals` lets
the weights go on; "fine2-" and a signal does so, too, in many levels of two epochs each.

Training rules: "plain2" takes twice as many epochs, "refine2-0.05" is the refined training of twice
as many with pressure 0.05, "projected" removes from each unit's gradient what opposes fairness.
"""

import argparse
import itertools
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tqdm.auto import tqdm

from fairlth import config, data
from fairlth.config import PRESETS, Run, Schedule, paths
from fairlth.config.method_table import FINE
from fairlth.data import splits
from fairlth.images import Data, Split
from fairlth.lottery import Dense, Found, floor
from fairlth.masks import MaskSet, prunable
from fairlth.methods.sharing import dense_once
from fairlth.retraining import refine
from fairlth.selection import levels, select
from fairlth.training import fit, in_turn, logits
from studies.signals import SIGNALS, PerUnit, nanmean

TASKS: dict[str, dict[str, Any]] = {
    "cifar10": {"dataset": "cifar10"},
    "race": {"dataset": "utkface", "target": "race"},
    "long-tail": {"dataset": "cifar10_lt"},
}
HELD_OUT = 10_000  # images at most
PRESET = PRESETS["small"]
N_TRAIN = PRESET.n_train or 0  # which preset small names
FOLDER = paths.RUNS / "study"


@dataclass(frozen=True)
class Search:
    """How a ticket is found.

    `signal` scores the weights. A level takes `length` of the epochs; its weights go on after it
    (`go_on`) or are reset. `fine` above 0 is the number of epochs in each level after the first,
    which then keeps FINE of the weights.
    """

    signal: str = "magnitude"
    length: float = 1.0
    go_on: bool = False
    fine: int = 0


@dataclass(frozen=True)
class Training:
    """How a ticket is trained.

    It takes `times` the epochs and `lr` times the learning rate. With a `pressure` it is refined,
    with `per_unit` each step is corrected by unit.
    """

    times: int = 1
    lr: float = 1.0
    pressure: float | None = None
    per_unit: bool = False


SEARCHES = {
    "lth": Search(),
    "magnitude@half": Search(length=0.5),
    "magnitude@third": Search(length=0.3),
}
SEARCHES |= {f"cont-{name}": Search(name, go_on=True) for name in SIGNALS}
SEARCHES |= {
    f"fine{epochs}-{name}": Search(name, go_on=True, fine=epochs)
    for epochs in (1, 2, 3)
    for name in SIGNALS
}
TRAININGS = {
    "plain": Training(),
    "plain2": Training(2),
    "plain3": Training(3),
    "projected": Training(per_unit=True),
}
TRAININGS |= {f"plain-lr{times}": Training(lr=times) for times in (2, 4)}
TRAININGS |= {
    f"refine{times}-{pressure}": Training(times, pressure=pressure)
    for times in (1, 2, 3)
    for pressure in (0.0, 0.02, 0.05, 0.1, 0.3)
}


def load(task: str, seed: int, density: float) -> tuple[Run, Data]:
    """A run and its data, with training images that it left out in place of the test split."""
    choices = TASKS[task] | {"model": "convnet", "method": "lth", "preset": "small"}
    run = Run(density=density, seed=seed, **choices)
    source = data.source_of(run)
    whole = with_all_images(run.model_copy(update={"dataset": source.like or run.dataset}))
    split_seed = config.seed_for(seed, "split")
    if source.long_tail > 1:
        train, rest = tail(whole.train, source.long_tail, split_seed)
        return run, replace(whole, train=train, test=rest)
    rest, train = splits._draw(task, whole.train, N_TRAIN, split_seed)
    if len(rest) > HELD_OUT:
        _, rest = splits._draw(task, rest, HELD_OUT, config.seed_for(seed, "tuning"))
    return run, replace(whole, train=train, test=rest)


def with_all_images(run: Run) -> Data:
    """The run's data with all training images that validation leaves."""
    PRESETS["small"] = PRESET.model_copy(update={"n_train": None})
    try:
        return data.load(run)
    finally:
        PRESETS["small"] = PRESET


def tail(split: Split, ratio: float, seed: int) -> tuple[Split, Split]:
    """Training images with a long tail, and as many of every class that were left out.

    Class c of C has a share of the preset's images in proportion to ratio^(-c / (C - 1)).
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(split), generator=generator)
    n_classes = split.n_classes
    share = ratio ** (-torch.arange(n_classes) / (n_classes - 1))
    sizes = (N_TRAIN * share / share.sum()).int().tolist()
    kept = []
    rest = []
    for label, n in enumerate(sizes):
        rows = order[split.y[order] == label]
        kept.append(rows[:n])
        rest.append(rows[n : n + HELD_OUT // n_classes])
    train = splits._take(split, torch.cat(kept).numpy())
    return train, splits._take(split, torch.cat(rest).numpy())


def find(run: Run, loaded: Data, dense: Dense, search: Search) -> Found:
    """The levels of `lottery.search` with every rule of the study.

    The first level is trained here, from the rewind point, so that a signal can watch it.
    """
    k = PRESET.rewind_epochs
    epochs = max(1, round(search.length * (PRESET.schedule.epochs - k)))
    model = dense.at(dense.rewind)
    mask = MaskSet.full(prunable(model))
    agreement = []
    plan = levels(run.density, FINE if search.fine else PRESET.keep_per_level)
    for level, density in enumerate(plan):
        if level > 0 and search.fine:
            epochs = search.fine
        if not search.go_on:
            model.load_state_dict(dense.rewind)
        mask.apply(model)
        signal = SIGNALS[search.signal](loaded, config.seed_for(run.seed, f"level {level}"))
        fit(
            model,
            loaded,
            PRESET.schedule.model_copy(update={"epochs": k + epochs}),
            seed=run.seed + 100 * level if search.go_on else run.seed,
            start=k,
            after_step=in_turn(mask.apply, signal),
            label=f"level {level + 1} of {len(plan)}",
        )
        mask = select(signal.score(model, density), density, within=mask)
        agreement.append(signal.agreement())
    if not search.go_on:
        model.load_state_dict(dense.rewind)
    mask.apply(model)
    return Found(model, mask, 0, {"agreement": nanmean(agreement)})


def train(run: Run, loaded: Data, dense: Dense, found: Found, training: Training) -> None:
    """Trains a found ticket by a rule, in place."""
    model = found.model
    schedule = longer(training)
    options: dict[str, Any] = {
        "seed": run.seed,
        "start": PRESET.rewind_epochs,
        "after_step": found.mask.apply,
    }
    if training.pressure is not None:
        required = floor(run, loaded, dense)
        pressure = training.pressure
        refine(model, loaded, schedule, floor=required, pressure=pressure, **options)
    elif training.per_unit:
        fit(model, loaded, schedule, loss=PerUnit(model, loaded.train.n_groups), **options)
    else:
        fit(model, loaded, schedule, **options)


def longer(training: Training) -> Schedule:
    """The preset's schedule with the rule's epochs after the rewind point and learning rate."""
    plain = PRESET.schedule
    k = PRESET.rewind_epochs
    epochs = k + training.times * (plain.epochs - k)
    return plain.model_copy(update={"epochs": epochs, "lr": training.lr * plain.lr})


def path(task: str, seed: int, density: float, search: str, training: str) -> Path:
    """Where the outputs of a training are stored."""
    return FOLDER / f"{task}_d{density}_s{seed}_{search}_{training}.safetensors"


def run_all(task: str, seed: int, density: float, search: str, trainings: list[str]) -> None:
    """Finds one ticket and trains it by all the rules that are missing."""
    missing = [name for name in trainings if not path(task, seed, density, search, name).exists()]
    if not missing:
        return
    run, loaded = load(task, seed, density)
    dense = dense_once(run, loaded)
    found = find(run, loaded, dense, SEARCHES[search])
    start = {name: value.clone() for name, value in found.model.state_dict().items()}
    for name in missing:
        found.model.load_state_dict(start)
        train(run, loaded, dense, found, TRAININGS[name])
        parts = {
            "agreement": torch.tensor(found.notes["agreement"]),
            "val": logits(found.model, loaded.val).half(),
            "val_y": loaded.val.y,
            "held": logits(found.model, loaded.test).half(),
            "held_y": loaded.test.y,
        }
        paths.write_atomically(path(task, seed, density, search, name), save(parts))


def names(choices: Collection[str], text: str) -> list[str]:
    """The names in a text, separated by commas; one that is none of the choices is refused."""
    found = text.split(",")
    for name in found:
        if name not in choices:
            known = ", ".join(choices)
            raise argparse.ArgumentTypeError(f"{name!r} is unknown: choose from {known}.")
    return found


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("searches", type=partial(names, SEARCHES), help=", ".join(SEARCHES))
    parser.add_argument("trainings", type=partial(names, TRAININGS), help=", ".join(TRAININGS))
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 5), help="first, and after last")
    parser.add_argument("--tasks", nargs="+", default=["cifar10", "race"], choices=list(TASKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = [*itertools.product(range(*options.seeds), options.tasks, options.searches)]
    for seed, task, search in tqdm(plan, unit="ticket"):
        run_all(task, seed, options.density, search, options.trainings)


if __name__ == "__main__":
    main()
