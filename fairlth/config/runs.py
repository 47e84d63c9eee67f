"""Runs: one training each, with all that decides its outcome, and the grids of the notebooks."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from fairlth.config import paths
from fairlth.config.method_table import KNOBS, METHOD_TABLE, STUDIES
from fairlth.config.presets import (
    PRESETS,
    Preset,
    Task,
    check_preset,
    usual_is_none,
    usual_target,
)
from fairlth.config.schema import Strict

# columns that name what is learned, by what, for whom
TASK = ["dataset", "target", "group_by", "model"]


WITH_UNDERSCORE = {  # names of the package that have one, and keep it in the names of files
    "dataset": {"fashion_mnist", "cifar10_lt", "tiny_imagenet"},
    "model": {"vgg11_small", "mobilenet_v2"},
    "method": {name for name in METHOD_TABLE if "_" in name},
}


class Run(Strict):
    """One training with everything that decides its outcome.

    `density` is the fraction of prunable weights kept, `pressure` moves a method along its
    accuracy-fairness curve (None: the method's own default), `target` is the label column,
    `group_by` the attribute that fairness is over (None: the classes themselves). A `model` of None
    takes the first one of the preset's tasks.
    """

    dataset: str
    model: str
    method: str
    density: Annotated[float, Field(gt=0, le=1)]
    seed: Annotated[int, Field(ge=0)]
    preset: str
    pressure: Annotated[float, Field(ge=0)] | None = None
    target: str | None = None
    group_by: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_model(cls, values: dict[str, Any]) -> dict[str, Any]:
        values = usual_is_none(values)
        preset = values.get("preset")
        if values.get("model") is None and isinstance(preset, str) and preset in PRESETS:
            return values | {"model": PRESETS[preset].tasks[0].model}
        return values

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, preset: str) -> str:
        if preset not in PRESETS:
            raise ValueError(f"there is no such preset, choose one of {', '.join(PRESETS)}")
        return preset

    @model_validator(mode="after")
    def _dense_is_dense(self) -> "Run":
        if self.method == "dense" and self.density != 1:
            raise ValueError(
                f"the dense method keeps every weight, so its density is 1.0 and not {self.density}"
            )
        return self

    @field_validator("group_by")
    @classmethod
    def _is_no_word_of_ours(cls, group_by: str | None) -> str | None:
        if group_by == "class":
            raise ValueError(
                "it is what tables call the classes themselves: leave it out to compare these, or "
                "give the column another name"
            )
        return group_by

    @property
    def label(self) -> str:
        """The label column that is learned."""
        return self.target or usual_target(self.dataset)

    @property
    def group_column(self) -> str:
        """The column whose values are the groups that fairness is over."""
        return self.group_by or self.label

    @property
    def groups(self) -> str:
        """What fairness is over, for tables: the attribute's name, or "class"."""
        return self.group_by or "class"

    @property
    def settings(self) -> Preset:
        """The preset's content, as the run's data set has it."""
        return PRESETS[self.preset].at(self.dataset)

    @property
    def knob(self) -> float:
        """The pressure, or where none is given the method's own; 0 for a method without one."""
        own = KNOBS[self.method].default if self.method in KNOBS else 0.0
        return own if self.pressure is None else self.pressure

    def slug(self) -> str:
        """A file name that a person can read; different runs of a preset have different ones.

        What is no letter, digit or one of `.-_` is written as `%` and its number, and so is a `_`
        in a name that is not the package's: `a` and `b_c` are not `a_b` and `c`.
        """
        parts = []
        for field, own in WITH_UNDERSCORE.items():
            name = getattr(self, field)
            told = quote(name, safe="")
            parts.append(told if name in own else told.replace("_", "%5F"))
        parts += [f"d{self.density!r}", f"s{self.seed}"]
        for name in ("pressure", "target", "group_by"):
            value = getattr(self, name)
            if value is not None:
                told = quote(str(value), safe="").replace("-", "%2D")
                parts.append(f"{name.replace('_', '-')}-{told}")
        return "_".join(parts)


def grid(
    preset: str,
    methods: Iterable[str],
    densities: tuple[float, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
    pressure: float | None = None,
    tasks: tuple[Task, ...] | None = None,
) -> list[Run]:
    """All runs of a preset for some methods; the dense net once per task and seed.

    Args:
        preset: a key of PRESETS.
        methods: their names.
        densities, seeds, tasks: None: the preset's. Of none of them there is no run.
        pressure: of all of them.
    """
    check_preset(preset)
    scale = PRESETS[preset]
    wanted = scale.densities if densities is None else densities
    return [
        Run(
            method=method,
            density=density,
            seed=seed,
            preset=preset,
            pressure=pressure,
            **task.model_dump(),
        )
        for task in (scale.tasks if tasks is None else tasks)
        for method in methods
        for density in ((1.0,) if method == "dense" else wanted)
        for seed in (scale.seeds if seeds is None else seeds)
    ]


def study(notebook: str, preset: str) -> list[Run]:
    """The runs that an experiment notebook shows, of the methods that it and the preset name.

    12_sparsity goes along densities and pressures; 14_cost and 20_groups have one density,
    20_groups tasks of its own; to 11_comparison and 15_equal_accuracy come the settings that the
    preset has beside its grid.

    Raises:
        ValueError: no such notebook or preset, or the preset names a method that no notebook
            compares.
    """
    check_preset(preset)
    if notebook not in STUDIES:
        raise ValueError(f"notebook={notebook!r} is refused: choose one of {', '.join(STUDIES)}.")
    scale = PRESETS[preset]
    methods = _named(STUDIES[notebook], preset)
    if notebook == "20_groups":
        return grid(preset, methods, scale.densities[:1], tasks=scale.group_tasks)
    if notebook == "14_cost":
        return grid(preset, methods, scale.densities[:1], scale.sweep_seeds)
    if notebook == "12_sparsity":
        return _sweep(preset, methods)
    runs = grid(preset, methods)
    if notebook in ("11_comparison", "15_equal_accuracy"):
        for cell in scale.also:
            runs += grid(
                preset,
                [name for name in cell.methods if name in methods],
                cell.densities,
                tasks=(cell.task,),
            )
    return list(dict.fromkeys(runs))


def _named(methods: tuple[str, ...], preset: str) -> list[str]:
    """Those of a notebook's methods that the preset names; all where it names none."""
    chosen = PRESETS[preset].methods
    beside = [name for cell in PRESETS[preset].also for name in cell.methods]
    known = {method for studied in STUDIES.values() for method in studied}
    for name in (*(chosen or ()), *beside):
        if name not in known:
            raise ValueError(
                f"preset {preset!r} names the method {name!r}, which is unknown: choose of "
                f"{', '.join(sorted(known))}."
            )
    return [method for method in methods if chosen is None or method in chosen]


def _sweep(preset: str, methods: list[str]) -> list[Run]:
    """The runs of 12_sparsity: along densities, and at the first density along pressures."""
    scale = PRESETS[preset]
    runs = grid(preset, methods, scale.sparsities, scale.sweep_seeds, tasks=scale.sweep_tasks)
    if not scale.pressures:
        return runs
    for name in _named(tuple(name for name, knob in KNOBS.items() if knob.others), preset):
        for pressure in (None, *KNOBS[name].others):
            runs += grid(preset, [name], scale.densities[:1], scale.sweep_seeds, pressure)
    return list(dict.fromkeys(runs))


def every_run(preset: str) -> list[Run]:
    """The runs of all experiment notebooks of a preset, each once."""
    return list(dict.fromkeys(run for notebook in STUDIES for run in study(notebook, preset)))


def task_name(row: Mapping[str, Any]) -> str:
    """A task for a title, from a table's row: data set, what fairness is over, and the model."""
    target = "" if row["target"] == "label" else f" {row['target']}"
    return f"{row['dataset']}{target} by {row['group_by']}, {row['model']}"


def record_path(run: Run, runs: Path | None = None) -> Path:
    """Where the run's record lies; that file is the only mark of a finished run.

    `runs` is the folder of all runs, None: `paths.RUNS` as it is now.
    """
    return (runs or paths.RUNS) / run.preset / "records" / f"{run.slug()}.json"


def ticket_path(run: Run, runs: Path | None = None) -> Path:
    """Where the run's trained ticket lies; `runs` as in `record_path`."""
    return (runs or paths.RUNS) / run.preset / "tickets" / f"{run.slug()}.safetensors.zlib"


def shared_path(run: Run, kind: str, digest: str) -> Path:
    """Where a training lies that the run shares with others of its task and seed."""
    return (
        paths.RUNS
        / run.preset
        / "shared"
        / f"{kind}_{run.dataset}_{run.model}_s{run.seed}_{digest}.safetensors"
    )


def seed_for(seed: int, purpose: str) -> int:
    """One independent seed per purpose ("init", "order", "selection", ...) from the run's seed."""
    return zlib.crc32(f"{purpose}/{seed}".encode())
