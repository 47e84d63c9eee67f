"""The audit of a preset: its runs, their answers to test images, and a table of what it found."""

import pandas as pd

from fairlth import config, data
from fairlth.analysis import audit, records, scope
from fairlth.analysis.audit import Answers
from fairlth.config import Run, paths
from fairlth.config.parameters import truth
from fairlth.images import Data
from fairlth.workflow import experiments

AUDITED = ("dense", "lth", "lth_long", "lth_long_shift", "ballot")
Found = dict[str, dict[int, Answers]]  # method -> seed -> answers


def settings(preset: str) -> list[list[Run]]:
    """The runs that 21_audit looks at, a list per task and density.

    They are those of AUDITED methods at the lowest density, where pruning takes most: all tasks of
    the preset, then the settings beside its grid; with the seeds of its sweep.
    """
    config.check_preset(preset)
    scale = config.PRESETS[preset]
    tasks = dict.fromkeys(scale.tasks + scale.group_tasks)
    pairs = [(task, min(scale.densities)) for task in tasks]
    pairs += [(cell.task, min(cell.densities)) for cell in scale.also]
    return [
        config.grid(preset, AUDITED, (density,), scale.sweep_seeds, tasks=(task,))
        for task, density in dict.fromkeys(pairs)
    ]


def load(runs: list[Run]) -> tuple[Data, Found]:
    """The data of one task, and what each run's network says of the test images.

    Runs that are missing are made. All seeds have the same test images.

    Raises:
        ValueError: a record keeps no predictions, or was made with other test images.
    """
    loaded = data.load(runs[0])
    found: Found = {}
    for record, run in zip(experiments.run_or_load(runs), runs, strict=True):
        found.setdefault(run.method, {})[run.seed] = audit.answers(record, loaded.test)
    return loaded, found


def table(preset: str, train: bool | str) -> pd.DataFrame:
    """`audit.by_seed` of a preset's runs: a row per task, density, method, seed and group.

    Args:
        preset: a key of `config.PRESETS`.
        train: makes runs that are missing and writes data/results/<preset>.audit.csv; False reads
            that file.

    Raises:
        ValueError: a parameter is not one of these, or there is no file to read.
    """
    wanted = settings(preset)
    if not truth("train", train):
        path = records.table_path(f"{preset}.audit")
        if not path.exists():
            raise ValueError(f"data/results/{path.name} is not there: use train=True.")
        numbers = ("validated", *audit.RATES, *audit.ERRORS)
        rates = {rate: [""] for rate in numbers}  # empty ones are nan, empty names are not
        return pd.read_csv(path, keep_default_na=False, na_values=rates)
    frame = pd.concat([of_setting(runs) for runs in wanted], ignore_index=True)
    paths.write_atomically(paths.TABLES / f"{preset}.audit.csv", frame.to_csv(index=False).encode())
    return frame


def of_setting(runs: list[Run]) -> pd.DataFrame:
    """`audit.by_seed` of one task and density, its methods one below the other."""
    loaded, found = load(runs)
    dense = experiments.run_or_load(run for run in runs if run.method == "dense")
    validated = audit.validated(dense)
    task = dict(zip(config.TASK, scope.task_of(runs[0]), strict=True))
    parts = []
    for method, tickets in found.items():
        if method != "dense":
            rows = audit.by_seed(found["dense"], tickets, loaded.classes, loaded.groups, validated)
            parts.append(rows.assign(**task, method=method, density=runs[-1].density))
    columns = [
        *audit.BY,
        "seed",
        "group",
        "images",
        "right",
        "validated",
        *audit.RATES,
        *audit.ERRORS,
    ]
    return pd.concat(parts, ignore_index=True)[columns]
