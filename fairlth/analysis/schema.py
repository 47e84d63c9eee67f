"""The schema of a table of results: columns, types, and what the rows of a run have in common.

It is the same at reading and at writing. A fault is one sentence with the file and the row or run.
Rows are counted as in a spreadsheet, where the header is row 1.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from fairlth import config

SHIFTS = (0.25, 0.5, 1.0)  # how far every ticket's class biases are shifted as well
SPLITS = ("val", "test", *(f"test+{share:g}" for share in SHIFTS))
LARGEST = 1_000_000_000  # images that a count may name

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]

TYPES: dict[str, Any] = {  # of each column, in the order of a table
    "dataset": Name,
    "target": str,
    "group_by": str,
    "model": Name,
    "method": Name,
    "density": Annotated[float, Field(gt=0, le=1)],
    "seed": Annotated[int, Field(ge=0)],
    "preset": Name,
    "pressure": Amount | None,
    "split": Literal[SPLITS],
    "class": str,
    "group": str,
    "correct": Count,
    "total": Count,
    "feasible": bool | None,
    "version": str,
    "commit": str,
    "torch": str,
    "device": str,
    "precision": str,
    "seconds": Amount,
    "shared_seconds": Amount,
    "memory": Amount | None,
    "cost": Amount,
    "spent": Amount | None,
    "settings": Name | None,
}
COLUMNS = list(TYPES)
KEYS = [*config.TASK, "method", "density", "seed", "preset", "pressure"]  # they tell runs apart
CELL = [*KEYS, "split", "class", "group"]  # they tell rows apart
CONDITIONS = COLUMNS[COLUMNS.index("version") : COLUMNS.index("cost")]
LATER = ["spent", "settings"]  # columns that an older table lacks
ONE_PER_RUN = ["feasible", *CONDITIONS, "cost", "spent", "settings"]

_LISTS = {name: TypeAdapter(list[kind]) for name, kind in TYPES.items()}  # type: ignore[valid-type]
_MAY_BE_EMPTY = {name for name, kind in TYPES.items() if type(None) in get_args(kind)}
_NUMBERS = {"density", "pressure", "seconds", "shared_seconds", "memory", "cost", "spent"}


def read(path: Path, preset: str) -> pd.DataFrame:
    """The table in a CSV file, checked; columns that an older table lacks are nan.

    Text is read as it is: a class may be called "", "2024", "True" or "nan".

    Args:
        path: of a file in UTF-8 with commas and a header.
        preset: of all of its rows.

    Raises:
        ValueError: the file is not such a table, or `check` refuses it.
    """
    text = _text(path)
    header, rows = _cells(text, path)
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    return check(columns, preset, str(path))


def written(frame: pd.DataFrame) -> bytes:
    """A table as CSV; what `read` reads is equal to it."""
    names = [name for name in frame if TYPES[name] is str]
    has_returns = any(frame[name].str.contains("\r", regex=False).any() for name in names)
    quoting = csv.QUOTE_ALL if has_returns else csv.QUOTE_MINIMAL  # minimal leaves them bare
    return frame.to_csv(index=False, lineterminator="\n", quoting=quoting).encode()


def check(
    columns: Mapping[str, Sequence[Any]] | pd.DataFrame, preset: str, source: str
) -> pd.DataFrame:
    """A table with the columns of COLUMNS in their order and types.

    Args:
        columns: values or their texts, by column.
        preset: of all rows.
        source: what a sentence on a fault begins with, such as the file.

    Raises:
        ValueError: a column is missing or unknown, or there is no row; a value is of another type
            or out of range; a row is of another preset; more images are right than there are; a
            row is there twice; the rows of a run differ in what a run has once, in their cells or
            in the images of a test cell.
    """
    if isinstance(columns, pd.DataFrame):
        columns = columns.to_dict("list")
    missing = [name for name in COLUMNS if name not in columns and name not in LATER]
    if missing and columns:
        raise ValueError(f"{source} has no column {missing[0]!r}: take the whole file again.")
    strange = [name for name in columns if name not in TYPES]
    if strange:
        raise ValueError(f"{source} has a column {strange[0]!r} that no table has: remove it.")
    n = len(columns.get("seed", ()))
    if n == 0:
        raise ValueError(f"{source} has no row: take the whole file again or make its runs anew.")
    frame = pd.DataFrame({name: _typed(name, columns, n, source) for name in COLUMNS})
    _check_rows(frame, preset, source)
    _check_runs(frame, source)
    return frame


def in_type(name: str, values: Sequence[Any]) -> list[Any]:
    """Values of a column, or their texts, in its type; None where one is empty.

    Raises:
        pydantic.ValidationError: one is of another type, out of range, or empty where none may be.
    """
    given = list(values)
    if name in _MAY_BE_EMPTY:
        given = [None if _is_empty(value) else value for value in given]
    return _LISTS[name].validate_python(given)


def check_one_preset(frame: pd.DataFrame) -> None:
    """Raises ValueError where rows or runs say that they are of several presets."""
    presets = sorted(set(frame.get("preset", ())))
    if len(presets) > 1:
        raise ValueError(f"rows of presets {', '.join(presets)} are mixed: give those of one.")


def run_of(row: Mapping[str, Any]) -> str:
    """A row's run in words."""
    return ", ".join(f"{name} {row[name]}" for name in KEYS if not pd.isna(row[name]))


def _text(path: Path) -> str:
    """The text of a file that may be a table."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder and not a table: move it away.")
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(f"{path} is empty: take the whole file again or make its runs anew.")
    if content.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a pointer of Git LFS and not the table: run `git lfs pull`.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from None
    lines = text.splitlines()
    if any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in lines):
        raise ValueError(
            f"{path} has conflict markers of git: take one side's whole file, "
            "then `fairlth gather` adds the records that are here."
        )
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if sign in lines[0] and "," not in lines[0]:
            raise ValueError(f"{path} has {name} between its columns: save it with commas.")
    return text


def _cells(text: str, path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV text, all of one length."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise ValueError(f"{path} is not whole CSV ({error}): take the whole file again.") from None
    header = rows[0]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]!r} twice: remove one.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise ValueError(
                f"{path}: row {number} has {len(row)} values for {len(header)} columns: "
                "take the whole file again."
            )
    return header, rows[1:]


def _typed(name: str, columns: Mapping[str, Sequence[Any]], n: int, source: str) -> Any:
    """A column in its type; nan where a value is empty or the column is missing."""
    if name not in columns:
        return np.full(n, np.nan)
    try:
        values = in_type(name, columns[name])
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        row = int(fault["loc"][0])
        raise ValueError(
            f"{source}: row {row + 2} has {name}={fault['input']!r} ({fault['msg']}): "
            "correct it, or remove its run and make that anew."
        ) from None
    if name in _NUMBERS:
        return np.array(values, float)
    if name in _MAY_BE_EMPTY:
        return pd.Series([np.nan if value is None else value for value in values], dtype=object)
    return values


def _is_empty(value: Any) -> bool:
    """Whether a table's cell has no value."""
    return value is None or value == "" or value != value  # the last is nan


def _check_rows(frame: pd.DataFrame, preset: str, source: str) -> None:
    """Raises ValueError for the first row that no run of the preset has."""
    other = frame["preset"] != preset
    if other.any():
        row = int(np.argmax(other))
        raise ValueError(
            f"{source}: row {row + 2} is of preset {frame.loc[row, 'preset']!r} and not of "
            f"{preset!r}: give each preset a table of its own."
        )
    beyond = frame["correct"] > frame["total"]
    if beyond.any():
        row = int(np.argmax(beyond))
        correct, total = frame.loc[row, ["correct", "total"]]
        raise ValueError(
            f"{source}: row {row + 2} has {correct} right answers of {total} images: "
            "correct it, or remove its run and make that anew."
        )
    twice = frame.duplicated(CELL)
    if twice.any():
        row = int(np.argmax(twice))
        raise ValueError(
            f"{source} has a run twice ({run_of(frame.loc[row])}): "
            f"row {row + 2} repeats one above, remove one of them."
        )


def _check_runs(frame: pd.DataFrame, source: str) -> None:
    """Raises ValueError for the first run whose rows do not belong together."""
    number = frame.groupby(KEYS, dropna=False, sort=False).ngroup()
    runs = frame.groupby(number, sort=False)
    for name in ONE_PER_RUN:
        values = runs[name].nunique(dropna=False)
        _refuse(values > 1, runs, source, f"has rows that differ in {name}")
    for split in ("val", "test"):
        lacks = ~(frame["split"] == split).groupby(number).any()
        _refuse(lacks, runs, source, f"has no rows of split {split!r}")
    empty = frame.groupby([number, "split"])["total"].sum().eq(0).groupby(level=0).any()
    _refuse(empty, runs, source, "counts no image in some split")
    cells = frame.groupby([number, "class", "group"], sort=False)
    n_splits = runs["split"].nunique()
    whole = (cells.size() == n_splits.reindex(cells.size().index, level=0)).groupby(level=0).all()
    _refuse(~whole, runs, source, "lacks rows of some classes or groups in some split")
    tested = frame[frame["split"] != "val"]
    totals = tested.groupby([number[tested.index], "class", "group"], sort=False)["total"].nunique()
    differs = (totals > 1).groupby(level=0).any()
    _refuse(differs, runs, source, "has other numbers of test images in some splits than in others")


def _refuse(faulty: pd.Series, runs: Any, source: str, fault: str) -> None:
    """Raises ValueError with the first run of which it is true."""
    if not faulty.any():
        return
    first = faulty.index[faulty.to_numpy().argmax()]
    row = runs.nth(0).iloc[first]
    raise ValueError(
        f"{source}: a run ({run_of(row)}) {fault}: take the whole file again, or remove the run "
        "and make it anew."
    )
