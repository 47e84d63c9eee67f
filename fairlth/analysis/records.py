"""What is kept of a run: a record as JSON, and all records as one tidy table."""

import base64
import hashlib
import json
import warnings
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairlth import config
from fairlth.config import paths
from fairlth.metrics import Counts

KEYS = [*config.TASK, "method", "density", "seed", "preset", "pressure"]
CONDITIONS = [
    "version",
    "commit",
    "torch",
    "device",
    "precision",
    "seconds",
    "shared_seconds",
    "memory",
]
COLUMNS = [
    *KEYS,
    "split",
    "class",
    "group",
    "correct",
    "total",
    "feasible",
    *CONDITIONS,
    "cost",
    "spent",
    "settings",
]
SHIFTS = (
    0.25,
    0.5,
    1.0,
)  # how far every ticket's class biases are shifted as well: its accuracy-fairness curve after training


@dataclass(frozen=True)
class Record:
    """One finished run: counts per class and group, so that any metric can be recomputed, and its
    conditions.

    `counts` maps "val", "test" and "test+s", where class biases were shifted by s of the way to the
    fairest shift on validation data (see SHIFTS), to {"correct", "total"}, each a list of classes
    of a list of groups; `layers` is the mask's report; `cost` is in dense-training equivalents by
    epochs, `spent` by all images passed (`training.Passes`), what is shared in full; `predictions`
    of the test images see `pack_predictions`; `settings` is the preset as it was.
    """

    run: dict[str, Any]
    target: str
    group_by: str
    classes: list[str]
    groups: list[str]
    counts: dict[str, dict[str, list[list[int]]]]
    layers: list[dict[str, Any]]
    cost: float
    spent: float
    feasible: bool | None
    predictions: dict[str, str]
    trace: list[dict[str, Any]]
    notes: dict[str, Any]
    settings: dict[str, Any]
    conditions: dict[str, Any]

    def split(self, name: str) -> Counts:
        """The counts of "val" or "test" as arrays (classes, groups)."""
        return Counts(np.array(self.counts[name]["correct"]), np.array(self.counts[name]["total"]))

    def predicted(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The class that each test image was taken for, and its probability; both (n,), in the
        split's order.
        """
        return unpack_predictions(self.predictions)

    @property
    def kept(self) -> int:
        """Weights that the mask keeps."""
        return sum(layer["kept"] for layer in self.layers)

    @property
    def total(self) -> int:
        """Weights that could have been pruned."""
        return sum(layer["total"] for layer in self.layers)


def pack_predictions(classes: NDArray[np.int64], confidence: NDArray[np.float64]) -> dict[str, str]:
    """Predicted classes (n,) and their probabilities (n,) in [0, 1] to 1/65 535, as text: 16 bits
    each, zlib, base64.
    """
    numbers = {"class": classes, "confidence": np.round(confidence * 65_535)}
    return {
        name: base64.b64encode(zlib.compress(values.astype("<u2").tobytes(), 9)).decode()
        for name, values in numbers.items()
    }


def unpack_predictions(packed: dict[str, str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What `pack_predictions` was given, probabilities to 1/65 535."""
    found = {
        name: np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2")
        for name, text in packed.items()
    }
    return found["class"].astype(np.int64), found["confidence"] / 65_535


def write(record: Record, path: Path) -> None:
    """Writes a record as JSON, whole or not at all."""
    paths.write_atomically(path, json.dumps(asdict(record), indent=1).encode())


def read(path: Path) -> Record:
    """Reads a record; ValueError in one sentence where the file is not a whole one."""
    try:
        return Record(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is not a whole record of this version ({error}): delete it and run again."
        ) from error


def rows(record: Record) -> list[dict[str, Any]]:
    """One row per split and (class, group) cell, in the columns of COLUMNS."""
    head = record.run | {
        "target": record.target,
        "group_by": record.group_by,
        "feasible": record.feasible,
    }
    head |= {name: record.conditions[name] for name in CONDITIONS}
    head |= {
        "cost": record.cost,
        "spent": record.spent,
        "settings": settings_digest(record.settings),
    }
    own = record.group_by == "class"  # then only the cells with group = class exist
    return [
        head
        | {
            "split": split,
            "class": c,
            "group": g,
            "correct": counts["correct"][i][j],
            "total": counts["total"][i][j],
        }
        for split, counts in record.counts.items()
        for i, c in enumerate(record.classes)
        for j, g in enumerate(record.groups)
        if i == j or not own
    ]


def table(records: list[Record]) -> pd.DataFrame:
    """The tidy table of some records: one row per run, split and (class, group) cell."""
    return pd.DataFrame([row for record in records for row in rows(record)], columns=COLUMNS)


def settings_digest(settings: dict[str, Any]) -> str:
    """Twelve letters that change when a run's settings do, as a table keeps them."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def merge_table(frame: pd.DataFrame, preset: str) -> Path:
    """Adds runs to data/results/<preset>.csv and returns its path; the order of rows does not
    depend on that of runs.

    A row that the table has stays as it is, whatever it cost to make it again; no row is ever
    dropped. Rows of a run that was made again under other settings of its preset are set aside
    beside the table, with a warning. A preset whose trainings take seconds gets a new table each
    time.

    Args:
        frame: from `table`; some runs of the preset, or all.
        preset: of all of them.

    Raises:
        ValueError: a run is in the table with other counts, or a row is of another preset; nothing
            is written.
    """
    if strange := sorted(set(frame["preset"]) - {preset}):
        raise ValueError(
            f"rows of preset {strange[0]!r} do not belong into {preset}.csv: give the runs of "
            f"{preset!r} alone."
        )
    path = paths.TABLES / f"{preset}.csv"
    afresh = config.PRESETS[preset].in_process or not table_path(preset).exists()
    old = frame.iloc[:0] if afresh else load(preset)
    old = _set_aside(old, frame, path)
    cell = [*KEYS, "split", "class", "group"]
    both = pd.concat([old, frame], ignore_index=True)
    one_run = both.assign(pressure=both["pressure"].astype(float)).groupby(
        cell, dropna=False, sort=False
    )
    odd = one_run[["correct", "total"]].transform("nunique").gt(1).any(axis=1)
    if odd.any():
        run = both.loc[odd, KEYS].iloc[0]
        named = ", ".join(f"{name} {value}" for name, value in run.items() if not pd.isna(value))
        raise ValueError(
            f"{path} has other counts for the run {named}: find out which are right and remove the "
            "others."
        )
    both = both[one_run.cumcount() == 0]
    both = both.sort_values([*KEYS, "split"], kind="stable", na_position="first")
    paths.write_atomically(path, both.to_csv(index=False).encode())
    return path


def _set_aside(old: pd.DataFrame, new: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows of an older table without those of runs that are new under other settings, which go
    into a file beside it.
    """
    made = dict(zip(run_keys(new), new["settings"], strict=True))
    before = zip(run_keys(old), old["settings"], strict=True)
    differs = [made.get(key, digest) != digest and not pd.isna(digest) for key, digest in before]
    other = pd.Series(differs, old.index, dtype=bool)
    if not other.any():
        return old
    beside = path.with_name(f"{path.stem}.other-settings.csv")
    rows = old[other].astype(str)
    if beside.exists():
        rows = pd.concat([pd.read_csv(beside, dtype=str), rows])
    paths.write_atomically(beside, rows.to_csv(index=False).encode())
    n = old[other].drop_duplicates(KEYS).shape[0]
    told = f"{n} run(s) in {path} were made under other settings of the preset"
    warnings.warn(f"{told}: they are in {beside.name} now.", stacklevel=3)
    return old[~other]


def run_keys(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What tells the run of each row from others of its preset: task, method, density, seed,
    pressure (None: its own).
    """
    pressures = [None if np.isnan(value) else value for value in frame["pressure"].astype(float)]
    return list(
        zip(
            *(frame[name] for name in [*config.TASK, "method", "density", "seed"]),
            pressures,
            strict=True,
        )
    )


def table_path(preset: str) -> Path:
    """Where the table of a preset is: among the results of this place, or else the committed
    one.
    """
    own = paths.TABLES / f"{preset}.csv"
    return own if own.exists() else paths.ROOT / "data" / "results" / f"{preset}.csv"


def load(preset: str) -> pd.DataFrame:
    """Reads data/results/<preset>.csv; columns that an older table lacks are nan. ValueError where
    there is none.
    """
    path = table_path(preset)
    if not path.exists():
        raise ValueError(
            f"{paths.TABLES / path.name} is not there: run `make reproduce PRESET={preset}` first."
        )
    text = {
        "class": str,
        "group": str,
        "target": str,
        "group_by": str,
    }  # a class may be called 0, a group None
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""]).reindex(
        columns=COLUMNS
    )
