"""Which selection and which training give fairer tickets at equal accuracy? Rules crossed on the
sets for tuning.

    python benchmarks/selection_study.py lth,cont-demote.1 plain,refine2-0.05 --density 0.05 --seeds
    0 5 --tasks cifar10 race

Tasks: cifar10, utkface by race, and cifar10 with a long tail, 50 images of the first class to one
    of the last.

A ticket is found by each selection rule and trained by each training rule, seeds paired. It is
steered by the run's validation images and judged on training images that the run left out, so that
the test split stays unseen. Outputs are kept in runs/study/, where finished trainings are read
from; `study_tables.py` compares them.

Selection rules: "lth" resets the weights after each level; "magnitude@half" and "@third" do, too,
    after levels of half and a
third of the epochs; "cont-" and a rule of `signals` lets the weights go on; "fine2-" does, too, in
many levels of two epochs
each. Training rules: "plain2" is twice as many epochs, "refine2-0.05" the refined training of twice
    as many with that pressure,
"projected" drops what opposes fairness in each unit.
"""

import argparse
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from signals import SIGNALS, PerUnit, nanmean

from fairlth import config, data, progress
from fairlth.config import PRESETS, Run, Schedule, paths
from fairlth.data import splits
from fairlth.images import Data, Split
from fairlth.lottery import FINE, Found, fresh_model
from fairlth.masks import MaskSet, prunable
from fairlth.methods.dense import floor, train_once
from fairlth.retraining import refine
from fairlth.selection import levels, select
from fairlth.training import fit, in_turn, logits

TASKS = {"cifar10": {"dataset": "cifar10"}, "race": {"dataset": "utkface", "target": "race"}}
TASKS |= {"long-tail": {"dataset": "cifar10_lt"}}
HELD_OUT = 10_000  # images at most
PRESET = PRESETS["small"]
FOLDER = paths.RUNS / "study"


@dataclass(frozen=True)
class Search:
    """How a ticket is found: by which signal, with levels of which share of the epochs, the weights
    going on or reset.

    `fine` above 0 is that many epochs in each level after the first, which keeps FINE of the
    weights.
    """

    signal: str = "magnitude"
    length: float = 1.0
    go_on: bool = False
    fine: int = 0


@dataclass(frozen=True)
class Training:
    """How a ticket is trained: times the epochs, times the learning rate, refined with a pressure,
    or step by step per unit.
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
    """A run and its data, with training images that it left out where the test split was."""
    run = Run(
        model="convnet", method="lth", density=density, seed=seed, preset="small", **TASKS[task]
    )
    source = data.source_of(run)
    PRESETS["small"] = PRESET.model_copy(update={"n_train": None})
    whole = data.load(run.model_copy(update={"dataset": source.like or run.dataset}))
    PRESETS["small"] = PRESET
    if source.long_tail > 1:
        train, rest = tail(whole.train, source.long_tail, config.seed_for(seed, "split"))
        return run, replace(whole, train=train, test=rest)
    rest, train = splits._draw(task, whole.train, PRESET.n_train, config.seed_for(seed, "split"))
    if len(rest) > HELD_OUT:
        rest = splits._draw(task, rest, HELD_OUT, config.seed_for(seed, "tuning"))[1]
    return run, replace(whole, train=train, test=rest)


def tail(split: Split, ratio: float, seed: int) -> tuple[Split, Split]:
    """Training images with a long tail, as `data.long_tailed` would leave, and as many of every
    class that it left out.
    """
    order, c = (
        torch.randperm(len(split), generator=torch.Generator().manual_seed(seed)),
        split.n_classes,
    )
    share = ratio ** (-torch.arange(c) / (c - 1))
    parts = [order[split.y[order] == label] for label in range(c)]
    sizes = (PRESET.n_train * share / share.sum()).int().tolist()
    kept = torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])
    rest = torch.cat([part[n : n + HELD_OUT // c] for part, n in zip(parts, sizes, strict=True)])
    return splits._take(split, kept.numpy()), splits._take(split, rest.numpy())


def find(run: Run, loaded: Data, search: Search) -> Found:
    """The levels of `methods.lth.find` with every rule of the study."""
    model, dense, k = fresh_model(run, loaded), train_once(run, loaded), PRESET.rewind_epochs
    short = k + max(1, round(search.length * (PRESET.schedule.epochs - k)))
    schedule, mask = (
        PRESET.schedule.model_copy(update={"epochs": short}),
        MaskSet.full(prunable(model)),
    )
    model.load_state_dict(dense.rewind)
    agreement = []
    for level, density in enumerate(
        levels(run.density, FINE if search.fine else PRESET.keep_per_level)
    ):
        if level and search.fine:
            schedule = schedule.model_copy(update={"epochs": k + search.fine})
        if not search.go_on:
            model.load_state_dict(dense.rewind)
        mask.apply(model)
        signal = SIGNALS[search.signal](loaded, config.seed_for(run.seed, f"level {level}"))
        seed = run.seed + 100 * level * search.go_on
        fit(
            model,
            loaded,
            schedule,
            seed=seed,
            start=k,
            after_step=in_turn(mask.apply, signal),
            label=f"level {level + 1}",
        )
        mask = select(signal.score(model), density, within=mask)
        agreement.append(signal.agreement())
    if not search.go_on:
        model.load_state_dict(dense.rewind)
    mask.apply(model)
    return Found(model, mask, 0, {"agreement": nanmean(agreement)})


def train(run: Run, loaded: Data, found: Found, training: Training) -> None:
    """Trains a found ticket by a rule, in place."""
    schedule, k = longer(training), PRESET.rewind_epochs
    if training.pressure is not None:
        options = {"floor": floor(run, loaded), "pressure": training.pressure}
        refine(
            found.model,
            loaded,
            schedule,
            seed=run.seed,
            start=k,
            after_step=found.mask.apply,
            **options,
        )
    elif training.per_unit:
        loss = PerUnit(found.model, loaded.train.n_groups)
        fit(
            found.model,
            loaded,
            schedule,
            seed=run.seed,
            start=k,
            after_step=found.mask.apply,
            loss=loss,
        )
    else:
        fit(found.model, loaded, schedule, seed=run.seed, start=k, after_step=found.mask.apply)


def longer(training: Training) -> Schedule:
    """The preset's schedule with as many times the epochs after the rewind point, and the learning
    rate.
    """
    plain, k = PRESET.schedule, PRESET.rewind_epochs
    return plain.model_copy(
        update={"epochs": k + training.times * (plain.epochs - k), "lr": training.lr * plain.lr}
    )


def path(task: str, seed: int, density: float, search: str, training: str) -> Path:
    """Where the outputs of a training lie."""
    return FOLDER / f"{task}_d{density}_s{seed}_{search}_{training}.safetensors"


def run_all(task: str, seed: int, density: float, search: str, trainings: list[str]) -> None:
    """Finds one ticket and trains it by all the rules that are missing."""
    missing = [name for name in trainings if not path(task, seed, density, search, name).exists()]
    if not missing:
        return
    run, loaded = load(task, seed, density)
    found = find(run, loaded, SEARCHES[search])
    start = {name: value.clone() for name, value in found.model.state_dict().items()}
    for name in missing:
        progress.say(f"{task}, seed {seed}, density {density}: {search}, {name}")
        found.model.load_state_dict(start)
        train(run, loaded, found, TRAININGS[name])
        parts = {"agreement": torch.tensor(found.notes["agreement"])}
        parts |= {"val_y": loaded.val.y, "held_y": loaded.test.y}
        parts |= {
            "val": logits(found.model, loaded.val).half(),
            "held": logits(found.model, loaded.test).half(),
        }
        paths.write_atomically(path(task, seed, density, search, name), save(parts))


def read(file: Path) -> dict[str, torch.Tensor]:
    """Outputs and classes of the validation and the left-out images."""
    return load_file(file)


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("searches", help=", ".join(SEARCHES))
    parser.add_argument("trainings", help=", ".join(TRAININGS))
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 5))
    parser.add_argument("--tasks", nargs="+", default=["cifar10", "race"], choices=list(TASKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed, task, search in itertools.product(
        range(*options.seeds), options.tasks, options.searches.split(",")
    ):
        run_all(task, seed, options.density, search, options.trainings.split(","))


if __name__ == "__main__":
    main()
