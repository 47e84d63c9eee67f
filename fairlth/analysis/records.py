"""What is kept of a run: a record as JSON, and all records as one tidy table."""

import base64
import hashlib
import json
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fairlth import config
from fairlth.analysis import schema
from fairlth.analysis.schema import COLUMNS, CONDITIONS, KEYS
from fairlth.config import Run, paths
from fairlth.metrics import Counts


@dataclass(frozen=True)
class Record:
    """One finished run: its counts, from which any metric can be recomputed, and how it was made.

    `counts` maps "val", "test" and "test+s", where class biases were shifted by s of the way to
    the fairest shift on validation data (`schema.SHIFTS`), to {"correct", "total"}, each a list of
    classes of a list of groups; `layers` is the mask's report; `cost` is in dense-training
    equivalents by epochs, `spent` by all images passed (`training.Passes`), what is shared in
    full; `predictions` of the test images see `pack_predictions`; `settings` is the preset as it
    was, with fingerprints of your own data set and network; `conditions` include the fingerprint
    of the code and, as `data`, that of the data set's files where they were local.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # how `read` checks a file

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
        """The class predicted for each test image and its probability to 1/65 535, both (n,)."""
        found = {}
        for name, text in self.predictions.items():
            content = zlib.decompress(base64.b64decode(text))
            found[name] = np.frombuffer(content, "<u2")
        return found["class"].astype(np.int64), found["confidence"] / 65_535

    @property
    def kept(self) -> int:
        """Weights that the mask keeps."""
        return sum(layer["kept"] for layer in self.layers)

    @property
    def total(self) -> int:
        """Weights that could have been pruned."""
        return sum(layer["total"] for layer in self.layers)


_RECORD = TypeAdapter(Record)


def pack_predictions(classes: NDArray[np.int64], confidence: NDArray[np.float64]) -> dict[str, str]:
    """Predicted classes (n,) and their probabilities (n,) as text: 16 bits each, zlib, base64.

    Probabilities in [0, 1] are rounded to 1/65 535.
    """
    numbers = {"class": classes, "confidence": np.round(confidence * 65_535)}
    packed = {}
    for name, values in numbers.items():
        content = zlib.compress(values.astype("<u2").tobytes(), 9)
        packed[name] = base64.b64encode(content).decode()
    return packed


def write(record: Record, path: Path) -> None:
    """Writes a record and the hash of its content as JSON, whole or not at all.

    A file that is there already goes to `set_aside` first, unless it is a sound record of the same
    run. One that was made under other settings or with other data goes there, too, with a warning,
    except where trainings take seconds.
    """
    _make_room(record, path)
    content = json.loads(json.dumps(asdict(record)))
    content["sha256"] = _content_hash(content)
    paths.write_atomically(path, json.dumps(content, indent=1).encode())


def read(path: Path, run: Run | None = None) -> Record:
    """Reads a record and checks that it is whole, possible and the one that was asked for.

    A record without a hash, as older versions wrote them, is accepted if all else fits.

    Args:
        path: of its file.
        run: that it must be of; None: of any.

    Raises:
        ValueError: in one sentence: the file is torn or was changed, its counts are impossible, a
            part is missing or unknown, or it is of another run.
    """
    try:
        record = _parsed(path.read_bytes())
        _check_possible(record)
        if run is not None:
            _check_run(record, run)
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{path} is not a whole record of its run ({reason}): move it away and run again."
        ) from error
    return record


def set_aside(path: Path) -> Path:
    """Moves a record to aside/ beside its folder, under a name that is free there.

    Returns:
        Its new path.
    """
    folder = path.parent.parent / "aside"
    folder.mkdir(exist_ok=True)
    target = paths.free_name(folder / path.name)
    os.replace(path, target)
    return target


def _make_room(record: Record, path: Path) -> None:
    """Sets aside what is at a record's path and would be lost."""
    if not path.exists():
        return
    try:
        old = read(path)
    except ValueError:
        set_aside(path)
        return
    if old.run != record.run:
        set_aside(path)
    elif not config.PRESETS[record.run["preset"]].in_process:
        made = ""
        if other_data(old.conditions, record.conditions):
            made = "with other files of its data set"
        if old.settings != record.settings:
            made = "under other settings of its preset"
        if made:
            warnings.warn(f"{path} was made {made}: it is {set_aside(path)} now.", stacklevel=3)


def other_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the conditions of two records name files of other content; not if one names none."""
    return bool(one.get("data") and other.get("data")) and one["data"] != other["data"]


def _parsed(content: bytes) -> Record:
    """The record in a file's bytes; ValueError where they are none or have changed."""
    values = json.loads(content)
    if not isinstance(values, dict):
        raise ValueError("it is not a record")
    written = values.pop("sha256", None)
    if written is not None and written != _content_hash(values):
        raise ValueError("its content has changed since it was written")
    try:
        return _RECORD.validate_json(json.dumps(values))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise ValueError(f"{place}: {fault['msg']}") from None


def _content_hash(values: dict[str, Any]) -> str:
    """SHA-256 of a record's values as JSON, whatever their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _check_possible(record: Record) -> None:
    """Raises ValueError where no run can have made a record."""
    _check_names(record)
    _check_groups(record)
    _check_counts(record)
    first = rows(record)[0]  # what is equal in all rows of a run is right if it is in one
    for name in COLUMNS:
        try:
            schema.in_type(name, [first[name]])
        except ValidationError as error:
            [fault] = error.errors(include_url=False)
            raise ValueError(f"{name}={first[name]!r}: {fault['msg']}") from None
    names = [layer["layer"] for layer in record.layers]
    if len(set(names)) != len(names) or not names:
        raise ValueError(f"its layers {names} are not one or more different ones")
    for layer in record.layers:
        whole = type(layer["kept"]) is type(layer["total"]) is int
        if not whole or not 0 <= layer["kept"] <= layer["total"]:
            raise ValueError(f"{layer['layer']} keeps {layer['kept']} of {layer['total']} weights")
    if math.isnan(record.spent):  # which tables have where older records did not count it
        raise ValueError(f"spent={record.spent} is no number of dense trainings")
    if record.predictions:
        _check_predictions(record)


def _check_names(record: Record) -> None:
    """Raises ValueError where a part of a record lacks what it must have."""
    needed: dict[str, tuple[dict[str, Any], Iterable[str]]] = {
        "run": (record.run, Run.model_fields),
        "conditions": (record.conditions, [*CONDITIONS, "code"]),
        "counts": (record.counts, ["val", "test"]),
    }
    for split, counts in record.counts.items():
        needed[f"counts of {split}"] = (counts, ["correct", "total"])
    for number, layer in enumerate(record.layers):
        needed[f"layer {number}"] = (layer, ["layer", "kept", "total"])
    for part, (there, names) in needed.items():
        lacking = [name for name in names if name not in there]
        if lacking:
            raise ValueError(f"its {part} has no {lacking[0]!r}")


def _check_groups(record: Record) -> None:
    """Raises ValueError where names of classes or groups cannot be."""
    for names in (record.classes, record.groups):
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"the names {names} are not one or more different ones")
    if record.group_by == "class" and record.groups != record.classes:
        raise ValueError(f"its groups are its classes, and it names {record.groups}")


def _check_counts(record: Record) -> None:
    """Raises ValueError where counts are not those of some images of its classes and groups."""
    shape = (len(record.classes), len(record.groups))
    for split, counts in record.counts.items():
        if split not in schema.SPLITS:
            raise ValueError(f"it counts on {split!r}, expected {', '.join(schema.SPLITS)}")
        for name in ("correct", "total"):
            lengths = [len(row) for row in counts[name]]
            if lengths != [shape[1]] * shape[0]:
                raise ValueError(
                    f"{name} of {split} is not {shape[0]} classes of {shape[1]} groups"
                )
        correct, total = record.split(split)
        if (correct < 0).any() or (correct > total).any() or total.max() > schema.LARGEST:
            raise ValueError(f"more or less is right on {split} than there are images")
        if not total.any():
            raise ValueError(f"it counts no image on {split}")
        if split.startswith("test") and counts["total"] != record.counts["test"]["total"]:
            raise ValueError(f"{split} has other numbers of images than test")


def _check_predictions(record: Record) -> None:
    """Raises ValueError where predictions are not one possible class per test image."""
    try:
        classes, confidence = record.predicted()
    except (zlib.error, KeyError) as error:
        raise ValueError(f"its predictions cannot be unpacked: {error}") from None
    images = int(record.split("test").total.sum())
    if not len(classes) == len(confidence) == images or classes.max() >= len(record.classes):
        raise ValueError(f"its predictions are not {images} of {len(record.classes)} classes")


def _check_run(record: Record, run: Run) -> None:
    """Raises ValueError where a record is of another run."""
    for name, value in run.model_dump().items():
        own = record.run[name]
        if own != value or isinstance(own, bool):  # False is 0 to Python
            raise ValueError(f"it is of a run of {name} {record.run[name]!r} and not {value!r}")
    if (record.target, record.group_by) != (run.label, run.groups):
        raise ValueError(
            f"it is of {record.target} by {record.group_by} and not of {run.label} by {run.groups}"
        )


def rows(record: Record) -> list[dict[str, Any]]:
    """One row per split and (class, group) cell, in the columns of COLUMNS."""
    head = record.run | {name: record.conditions[name] for name in CONDITIONS}
    head |= {"target": record.target, "group_by": record.group_by}
    head |= {"feasible": record.feasible, "cost": record.cost, "spent": record.spent}
    head["settings"] = settings_digest(record.settings)
    classes_are_groups = record.group_by == "class"  # then only cells with group = class exist
    found = []
    for split, counts in record.counts.items():
        for i, label in enumerate(record.classes):
            for j, group in enumerate(record.groups):
                if i != j and classes_are_groups:
                    continue
                cell = {"split": split, "class": label, "group": group}
                images = {"correct": counts["correct"][i][j], "total": counts["total"][i][j]}
                found.append(head | cell | images)
    return found


def table(records: list[Record]) -> pd.DataFrame:
    """The tidy table of some records: one row per run, split and (class, group) cell."""
    return pd.DataFrame([row for record in records for row in rows(record)], columns=COLUMNS)


def settings_digest(settings: dict[str, Any]) -> str:
    """Twelve letters that change when a run's settings do, as a table keeps them."""
    return _content_hash(settings)[:12]


def merge_table(frame: pd.DataFrame, preset: str) -> Path:
    """Adds runs to data/results/<preset>.csv; the order of its rows does not depend on theirs.

    A row that the table has stays as it is, whatever it cost to make it again; no row is ever
    dropped. Rows of a run that was made again under other settings of its preset are set aside
    beside the table, with a warning. A preset whose trainings take seconds gets a new table each
    time.

    Args:
        frame: from `table`; some runs of the preset, all or none.
        preset: of all of them.

    Returns:
        The path of the table.

    Raises:
        ValueError: a run is in the table with other counts, classes or groups, or `schema.check`
            refuses the rows or the table; nothing is written.
    """
    path = paths.TABLES / f"{preset}.csv"
    afresh = config.PRESETS[preset].in_process or not table_path(preset).exists()
    parts = [] if afresh else [load(preset)]
    if len(frame):
        new = schema.check(frame, preset, f"the rows to add to {path}")
        parts = [_without_other_settings(old, new, path) for old in parts] + [new]
    if not parts:
        raise ValueError(f"there is no run to write to {path}: make one first.")
    both = pd.concat([part for part in parts if len(part)], ignore_index=True)
    _check_same_counts(both, parts, path)
    both = both.drop_duplicates(schema.CELL)
    both = both.sort_values([*KEYS, "split"], kind="stable", na_position="first", ignore_index=True)
    schema.check(both, preset, f"{path} with the rows to add")
    paths.write_atomically(path, schema.written(both))
    return path


def _check_same_counts(both: pd.DataFrame, parts: list[pd.DataFrame], path: Path) -> None:
    """Raises ValueError where a run is in two tables with other counts or other cells."""
    cells = both.groupby(schema.CELL, dropna=False, sort=False)
    odd = cells[["correct", "total"]].transform("nunique").gt(1).any(axis=1)
    split = [*KEYS, "split"]
    n_cells = both.drop_duplicates(schema.CELL).groupby(split, dropna=False).size()
    for part in parts:
        n_own = part.groupby(split, dropna=False).size()
        other = n_own.index[n_own != n_cells.reindex(n_own.index)]
        odd |= pd.MultiIndex.from_frame(both[split]).isin(other)
    if odd.any():
        run = schema.run_of(both.loc[odd].iloc[0])
        raise ValueError(
            f"{path} has other counts for the run {run}: "
            "find out which are right and remove the others."
        )


def _without_other_settings(old: pd.DataFrame, new: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows of an older table without runs that are new under other settings.

    Those go into a file beside the table.
    """
    made = dict(zip(run_keys(new), new["settings"], strict=True))
    before = zip(run_keys(old), old["settings"], strict=True)
    differs = [made.get(key, digest) != digest and not pd.isna(digest) for key, digest in before]
    other = pd.Series(differs, old.index, dtype=bool)
    if not other.any():
        return old
    beside = path.with_name(f"{path.stem}.other-settings.csv")
    content = schema.written(old[other])
    if beside.exists():
        _, rows_alone = content.split(b"\n", 1)  # without the header
        content = beside.read_bytes() + rows_alone
    paths.write_atomically(beside, content)
    n = len(old[other].drop_duplicates(KEYS))
    told = f"{n} run(s) in {path} were made under other settings of the preset"
    warnings.warn(f"{told}: they are in {beside.name} now.", stacklevel=3)
    return old[~other]


def run_keys(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What tells the run of each row from others of its preset.

    It is task, method, density, seed and pressure, None where that is the method's own.
    """
    pressures = [None if np.isnan(value) else value for value in frame["pressure"].astype(float)]
    others = [frame[name] for name in [*config.TASK, "method", "density", "seed"]]
    return list(zip(*others, pressures, strict=True))


def table_path(preset: str) -> Path:
    """Where the table of a preset is: among the results here, or else the committed one."""
    own = paths.TABLES / f"{preset}.csv"
    return own if own.exists() else paths.COMMITTED_TABLES / f"{preset}.csv"


def load(preset: str) -> pd.DataFrame:
    """Reads and checks data/results/<preset>.csv; columns that an older table lacks are nan.

    Raises:
        ValueError: there is none, or `schema.read` refuses it.
    """
    path = table_path(preset)
    if not path.exists():
        raise ValueError(
            f"{paths.TABLES / path.name} is not there: run `make reproduce PRESET={preset}` first."
        )
    return schema.read(path, preset)
