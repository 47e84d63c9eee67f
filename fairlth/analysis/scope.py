"""Which rows of a table belong to some runs, and which runs a table lacks."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from fairlth import config
from fairlth.analysis import records
from fairlth.config import Run

PAIRED = [*config.TASK, "method", "density", "seed"]


def task_of(run: Run) -> tuple[str, str, str, str]:
    """What the columns of `config.TASK` say of a run."""
    return run.dataset, run.label, run.groups, run.model


def key(run: Run) -> tuple[Any, ...]:
    """What tells a run from others of its preset in a table, see `records.run_keys`."""
    return (*task_of(run), run.method, run.density, run.seed, run.pressure)


def rows_of(frame: pd.DataFrame, runs: Iterable[Run]) -> pd.DataFrame:
    """A table's rows of some runs: same task, method, density, pressure and seed."""
    wanted = {key(run) for run in runs}
    return frame[[one in wanted for one in records.run_keys(frame)]]


def missing(frame: pd.DataFrame, runs: Iterable[Run]) -> str:
    """One sentence on the runs that a table lacks: methods without any run, and how many others.

    "" where it lacks none.
    """
    there = set(frame[PAIRED].drop_duplicates().itertuples(index=False, name=None))
    lacking = [run for run in runs if key(run)[:-1] not in there]
    methods = set(frame["method"])
    parts = []
    if absent := list(dict.fromkeys(run.method for run in lacking if run.method not in methods)):
        parts.append(f"every run of {', '.join(absent)}")
    others = [_task_name(run) for run in lacking if run.method in methods]
    parts += [f"{others.count(name)} of {name}" for name in dict.fromkeys(others)]
    return f"Not in the table: {'; '.join(parts)}." if parts else ""


def _task_name(run: Run) -> str:
    return config.task_name(dict(zip(config.TASK, task_of(run), strict=True)))
