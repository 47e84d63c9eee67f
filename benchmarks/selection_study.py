"""Which selection and which training give fairer tickets at equal accuracy? Rules crossed on the two tuning data sets.

    python benchmarks/selection_study.py SELECTIONS TRAININGS [--density .05] [--seeds 0 6] [--tasks cifar10 race]

A ticket is found by each selection rule and trained by each training rule, seeds paired. It is chosen and steered by the run's
validation images and judged on training images that the run left out ("tuning images"), so that the test split stays unseen.
Outputs are kept in runs/study/ and finished trainings are read from there; `study_tables.py` draws the curves.
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import signals
import torch
from safetensors.torch import load_file, save

from fairlth import config, data, metrics, progress
from fairlth.config import PRESETS, Run
from fairlth.conflict import fairness_weights, running_means
from fairlth.data import Data
from fairlth.masks import MaskSet
from fairlth.methods.dense import floor, train_once
from fairlth.methods.lth import Found, at_rewind, find_by_magnitude, find_once
from fairlth.models import prunable
from fairlth.refinement import refine
from fairlth.selection import levels, select
from fairlth.training import fit, in_turn, logits

TASKS = {
    "cifar10": {"dataset": "cifar10"},
    "race": {"dataset": "utkface", "target": "race"},
    "cifar10lt": {"dataset": "cifar10"},
}
TUNING = 10_000  # images at most
PRESET = PRESETS["small"]
FOLDER = config.RUNS / "study"


def load(task: str, seed: int, density: float) -> tuple[Run, Data]:
    """A run and its data, with tuning images where the test split was."""
    run = Run(model="convnet", method="lth", density=density, seed=seed, preset="small", **TASKS[task])
    PRESETS["small"] = PRESET.model_copy(update={"n_train": None})
    whole = data.load(run)
    PRESETS["small"] = PRESET
    rest, train = data._draw(task, whole.train, PRESET.n_train, config.seed_for(seed, "split"))
    if len(rest) > TUNING:
        rest = data._draw(task, rest, TUNING, config.seed_for(seed, "tuning"))[1]
    if task == "cifar10lt":
        train = long_tailed(train)
    return run, replace(whole, train=train, test=rest)


def long_tailed(split: data.Split) -> data.Split:
    """Class c keeps 50^(-c/9) of its images: imbalance 1:50."""
    share = 50 ** (-torch.arange(10) / 9)
    keep = [(split.y == c).nonzero()[:, 0] for c in range(10)]
    return data._take(split, torch.cat([rows[: round(len(rows) * float(share[c]))] for c, rows in enumerate(keep)]).numpy())


def by_signal(name: str, early: float = 1.0) -> Callable[[Run, Data], Found]:
    """A search whose levels are watched by a signal of `signals` (None: magnitude), each level `early` of a training."""

    def search(run: Run, loaded: Data) -> Found:
        return find_once(f"study-{name}-{early}", run, loaded, lambda: _search(run, loaded, name, early))

    return search


def _search(run: Run, loaded: Data, name: str, early: float) -> Found:
    preset, dense = run.settings, train_once(run, loaded)
    found = at_rewind(run, loaded, MaskSet.full(prunable(_empty(run, loaded))))
    model, mask, k = found.model, found.mask, preset.rewind_epochs
    schedule = preset.schedule.model_copy(update={"epochs": k + max(1, round(early * (preset.schedule.epochs - k)))})
    notes = []
    for level, density in enumerate(levels(run.density, preset.keep_per_level)):
        model.load_state_dict(dense.rewind)
        mask.apply(model)
        watch = signals.SIGNALS[name](loaded, config.seed_for(run.seed, f"level {level}"))
        loss = watch.loss if hasattr(watch, "loss") else None
        options = {"loss": loss} if loss else {}
        fit(
            model,
            loaded,
            schedule,
            seed=run.seed,
            start=k,
            after_step=in_turn(mask.apply, watch),
            label=f"level {level}",
            **options,
        )
        mask = select(watch.score(model), density, within=mask)
        notes.append(watch.notes())
    return replace(at_rewind(run, loaded, mask), notes={"levels": notes})


def _empty(run: Run, loaded: Data) -> torch.nn.Module:
    from fairlth.methods.base import fresh_model

    return fresh_model(run, loaded)


def plain(epochs: float, lr: float = 1.0, decay: float = 1.0) -> Callable:
    """Cross-entropy for some trainings' worth of epochs."""

    def train(run: Run, loaded: Data, found: Found) -> None:
        schedule = longer(epochs).model_copy(
            update={"lr": PRESET.schedule.lr * lr, "weight_decay": PRESET.schedule.weight_decay * decay}
        )
        fit(found.model, loaded, schedule, seed=run.seed, start=1, after_step=found.mask.apply)

    return train


def longer(times: float) -> config.Schedule:
    """The schedule with as many times the epochs after the rewind point."""
    schedule = PRESET.schedule
    return schedule.model_copy(update={"epochs": 1 + round(times * (schedule.epochs - 1))})


def steered(times: float, pressure: float, lr: float = 1.0) -> Callable:
    """The refined training."""

    def train(run: Run, loaded: Data, found: Found) -> None:
        schedule = longer(times)
        schedule = schedule.model_copy(update={"lr": schedule.lr * lr})
        refine(
            found.model, loaded, schedule, seed=run.seed, start=1, after_step=found.mask.apply,
            floor=floor(run, loaded), pressure=pressure,
        )  # fmt: skip

    return train


TRAININGS: dict[str, Callable] = {"plain": plain(1), "plain2": plain(2), "plain3": plain(3)}
TRAININGS |= {"plain_lr2": plain(1, lr=2.0), "plain_lr4": plain(1, lr=4.0), "plain_wd0": plain(1, decay=0.0)}
TRAININGS |= {"plain2_lr2": plain(2, lr=2.0), "plain3_lr2": plain(3, lr=2.0)}
TRAININGS |= {f"refine{times}_{p}": steered(times, p) for times in (1, 2, 3) for p in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)}
TRAININGS |= {f"refine{times}_lr2_{p}": steered(times, p, 2.0) for times in (2, 3) for p in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)}


class PerUnit:
    """A loss whose gradient lost, unit by unit, the part that opposes fairness; as `loss` of a trainer."""

    def __init__(self, model: torch.nn.Module, groups: int) -> None:
        self.model, self.means = model, torch.full((groups,), torch.nan)

    def __call__(self, outputs: torch.Tensor, batch: object) -> torch.Tensor:
        losses = torch.nn.functional.cross_entropy(outputs, batch.y, reduction="none")
        self.means = running_means(self.means, losses.detach(), batch.group)
        weights = list(prunable(self.model).values())
        fair = (losses * fairness_weights(self.means, batch.group)).sum()
        opposing = torch.autograd.grad(fair, weights, retain_graph=True)
        accuracy = torch.autograd.grad(losses.mean(), weights, retain_graph=True)
        change = 0.0
        for weight, a, f in zip(weights, accuracy, opposing, strict=True):
            a, f = a.flatten(1), f.flatten(1)
            push = ((a * f).sum(1) / f.square().sum(1).clamp(min=1e-20)).clamp(max=0)
            change = change - (weight * (push[:, None] * f).reshape(weight.shape)).sum()  # its gradient is -push f
        return losses.mean() + change


def projected(run: Run, loaded: Data, found: Found) -> None:
    """Conflict-aware steps."""
    fit(
        found.model, loaded, PRESET.schedule, seed=run.seed, start=1, after_step=found.mask.apply,
        loss=PerUnit(found.model, loaded.train.n_groups),
    )  # fmt: skip


TRAININGS["projected"] = projected
SELECTIONS: dict[str, Callable] = {"lth": find_by_magnitude}
SELECTIONS |= {name: by_signal(name) for name in signals.SIGNALS} | {
    f"{name}@half": by_signal(name, 0.5) for name in signals.SIGNALS
}
SELECTIONS |= {f"{name}@third": by_signal(name, 0.3) for name in signals.SIGNALS}


def end(task: str, seed: int, density: float, selection: str, training: str) -> dict[str, np.ndarray]:
    """Outputs on validation and on tuning images, and the classes of both."""
    path = FOLDER / f"{task}_d{density}_s{seed}_{selection}_{training}.safetensors"
    if not path.exists():
        run, loaded = load(task, seed, density)
        found = SELECTIONS[selection](run, loaded)
        TRAININGS[training](run, loaded, found)
        parts = {}
        for name, split in (("val", loaded.val), ("tune", loaded.test)):
            outputs = logits(found.model, split)
            parts |= {f"{name}_logits": outputs.half(), f"{name}_y": split.y}
            right = torch.bincount(split.y[outputs.argmax(1) == split.y], minlength=split.n_classes).numpy()
            print(
                path.stem,
                name,
                f"{right.sum() / len(split):.4f} {1e4 * metrics.cwv(right, split.y.bincount().numpy()):.1f}",
                flush=True,
            )
        config.write_atomically(path, save(parts))
    return load_file(path)


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("selections")
    parser.add_argument("trainings")
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 6))
    parser.add_argument("--tasks", nargs="+", default=["cifar10", "race"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = list(
        itertools.product(range(*options.seeds), options.tasks, options.selections.split(","), options.trainings.split(","))
    )
    for number, (seed, task, selection, training) in enumerate(wanted):
        progress.say(f"{number + 1} of {len(wanted)}: {task}, seed {seed}, {selection}, {training}")
        end(task, seed, options.density, selection, training)


if __name__ == "__main__":
    main()
