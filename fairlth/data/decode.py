"""From files or the hub to uint8 tensors: decoded once, then cached."""

import hashlib
import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlth.config import paths
from fairlth.data import cached, folder
from fairlth.data.catalogue import SOURCES, Source, Table, Tables, column_named, first_line
from fairlth.data.listing import SPLIT_OF, files_of, some
from fairlth.data.pixels import pixels_of, watched

FILE = re.compile(r"(train|valid|validation|val|test)(-.*)?\.parquet", re.IGNORECASE)
Rows = Iterable[dict[str, Any]]
Columns = dict[str, list[Any]]


def source_named(name: str) -> Source:
    """The row of SOURCES; a folder in `$FAIRLTH_DATA` gets its row now.

    Raises:
        ValueError: there is none, and the sentence names the choices.
    """
    folder.find(name)
    if name not in SOURCES:
        raise ValueError(
            f"dataset={name!r} is unknown: choose one of {', '.join(SOURCES)}, or add a folder of "
            "images by data.add_folder."
        )
    return SOURCES[name]


def fingerprint(name: str) -> str:
    """Changes with the content of your data set or the way it is read; "" for those of the package.

    Decoded images and records know it, so that both are made anew after a change. Copying or moving
    the files is no change, nor is a file that is not read.
    """
    source = source_named(name)
    if not source.own:
        return ""
    place = source.folder or paths.DATA / name
    how = repr(replace(source, licence="", fetch=None, folder=None))
    digest = hashlib.sha256(how.encode())
    for path in chain.from_iterable(local_files(name).values()):
        inside = Path(path).relative_to(place).as_posix()
        digest.update(repr((inside, _hash_of(path))).encode())
    return digest.hexdigest()[:12]


def content(name: str) -> str:
    """Changes with the content of the local files of a data set, whatever they are called.

    It is "" where there are none, or none that can be read.
    """
    try:
        source_named(name)
        files = local_files(name)
        hashes = [(split, _hash_of(path)) for split, named in files.items() for path in named]
    except (ValueError, OSError):
        return ""
    return hashlib.sha256(repr(hashes).encode()).hexdigest()[:12] if hashes else ""


def _hash_of(path: str) -> str:
    """A hash of a file, read once in a process unless it changes."""
    stat = os.stat(path)
    return _hash_as_it_was(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hash_as_it_was(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(source: Source, files: str) -> str:
    """Changes when local files or the way they are read do, so that they are decoded anew."""
    read = (source.hub, source.image, source.grey, source.aliases, source.bands)
    return hashlib.sha256(repr((*read, files)).encode()).hexdigest()[:12]


def decoded(name: str, side: int, downloads: bool) -> Tables:
    """All splits of a data set, images `side` pixels per side, from the cache or decoded now.

    Local parquet files in `$FAIRLTH_DATA/<name>/` win over the hub.

    Raises:
        ValueError: no data, a damaged or empty file, an image column that is not there; one
            sentence names it.
    """
    name = SOURCES[name].like or name
    source = SOURCES[name]
    if source.embedded and source.fetch is not None:
        return source.fetch(source, side)
    files = local_files(name)
    stamp = fingerprint(name) or _stamp(source, content(name))
    about = {"data": name, "side": side, "files": stamp}
    path = paths.CACHE / f"{name}-{side}-{stamp}.safetensors"
    tables = cached.read(path, about)
    if tables is None:
        tables = _made(name, files, side, downloads)
        cached.keep(path, about, tables)
    return tables


def _made(name: str, files: dict[str, list[str]], side: int, downloads: bool) -> Tables:
    source = SOURCES[name]
    if source.folder is not None:
        return folder.decode(source, side)
    if files:
        return _decode(name, _open(name, files), side)
    if not downloads:
        place = paths.DATA / name
        raise ValueError(
            f"{name} is not in {place}/train-*.parquet and this preset downloads nothing: place it."
        )
    if source.fetch is not None:
        return source.fetch(source, side)
    return _decode(name, _download(name), side)


def local_files(name: str) -> dict[str, list[str]]:
    """Local files by split: parquet files by their names, or the files of a folder of images.

    `train-*.parquet`, `valid-*` (or `validation-*`, `val-*`) and `test-*` are the splits. Where the
    hub's validation split is what the catalogue tests on, so is the local one, unless there is a
    test file. Of a folder of images all files are in one list.

    Raises:
        ValueError: a folder without a training file; no folder at all is no error.
    """
    source = SOURCES[name]
    if source.folder is not None:
        return {"all": [str(source.folder / file) for file in files_of(source.folder)]}
    place = paths.DATA / (source.like or name)
    found: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    others = []
    for path in sorted(place.glob("[!.]*")):
        match = FILE.fullmatch(path.name)
        if match:
            found[SPLIT_OF[match[1].casefold()]].append(str(path))
        elif path.suffix.casefold() == ".parquet":
            others.append(path.name)
    _check_files(place, found, others)
    if not found["test"] and source.splits.get("test") in ("valid", "validation"):
        found["test"] = found.pop("valid")
    return {split: named for split, named in found.items() if named}


def _check_files(place: Path, found: dict[str, list[str]], others: list[str]) -> None:
    """A folder needs a training file, and a parquet file that is no split is named."""
    names = "train-*.parquet, valid-*.parquet or test-*.parquet"
    if place.is_dir() and not found["train"]:
        seen = f" and has {some(others)}" if others else ""
        raise ValueError(
            f"{place} holds no train-*.parquet{seen}: place the file there under such a name, or "
            "remove the folder to use the hub."
        )
    if others:
        warnings.warn(f"{place}: {some(others)} is not read: expected {names}.", stacklevel=2)


def _open(name: str, files: dict[str, list[str]]) -> dict[str, Rows]:
    """Streams over local parquet files, each tried once."""
    import datasets

    splits = {}
    for split, named in files.items():
        try:
            rows = datasets.load_dataset("parquet", data_files=named, split="train", streaming=True)
            next(iter(rows))
        except StopIteration:
            raise ValueError(
                f"{named[0]} has no rows: replace the {split} file of {name}."
            ) from None
        except Exception as error:
            raise ValueError(
                f"{named[0]} is not a whole parquet file ({first_line(error)}): replace it."
            ) from error
        splits[split] = rows
    return splits


def _download(name: str) -> dict[str, Rows]:
    import datasets

    source = SOURCES[name]
    try:
        return {
            ours: datasets.load_dataset(source.hub, source.configuration, split=theirs)
            for ours, theirs in source.splits.items()
        }
    except Exception as error:
        raise ValueError(
            f"{name} is neither in {paths.DATA / name}/train-*.parquet nor to be had from the hub "
            f"as {source.hub} ({first_line(error)}): place the files or connect to the network."
        ) from error


def _decode(name: str, splits: dict[str, Rows], side: int) -> Tables:
    """Images to uint8 tensors, label columns to codes that mean the same in every split."""
    source = SOURCES[name]
    images = {}
    values: dict[str, Columns] = {}
    classes: dict[str, dict[str, list[str] | None]] = {}
    for split, rows in splits.items():
        features = dict(rows.features)  # type: ignore[attr-defined]
        images[split], values[split] = _read(f"{name} {split}", rows, list(features), source, side)
        classes[split] = {column: getattr(kind, "names", None) for column, kind in features.items()}
    columns, names, unusable = _columns(values, classes, source)
    tables = {split: Table(images[split], columns[split]) for split in splits}
    return Tables(tables, names, unusable)


def _read(
    label: str, rows: Rows, features: list[str], source: Source, side: int
) -> tuple[Tensor, Columns]:
    """One split's images (n, channels, side, side) and its other columns as lists."""
    from datasets import Image

    image = column_named(source.image, features)
    if image is None:
        have = ", ".join(features)
        raise ValueError(
            f"{label} has no image column {source.image!r} in its files, they have {have}."
        )
    pixels: list[np.ndarray] = []
    columns: Columns = {}
    pictures = rows.cast_column(image, Image())  # type: ignore[attr-defined]
    try:
        for row in watched(pictures, f"{label} decoded"):
            pixels.append(pixels_of(row.pop(image), side, source.grey))
            for column, value in row.items():
                columns.setdefault(column, []).append(value)
    except Exception as error:
        raise ValueError(
            f"{label}: image number {len(pixels)} cannot be used ({first_line(error)}): replace it."
        ) from error
    return torch.from_numpy(np.stack(pixels)), columns


def _columns(
    values: dict[str, Columns],
    classes: dict[str, dict[str, list[str] | None]],
    source: Source,
) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[str]], dict[str, str]]:
    """Label columns as codes by split, the names of the codes, why other columns are unusable."""
    codes: dict[str, dict[str, Tensor]] = {split: {} for split in values}
    names: dict[str, list[str]] = {}
    unusable: dict[str, str] = {}
    for column in dict.fromkeys(column for rows in values.values() for column in rows):
        ours = _our_name(column, source)
        parts = {split: rows.get(column) for split, rows in values.items()}
        named = {split: known.get(column) for split, known in classes.items()}
        fault = _name_fault(ours, [*names, *unusable], source) or _fault(parts, named)
        if fault is not None:
            unusable[ours] = fault
            names.pop(ours, None)
            continue
        whole = {split: part for split, part in parts.items() if part is not None}
        known = next(iter(named.values()))
        order = range(len(known)) if known else _values(whole.values())
        names[ours] = known or [str(value) for value in order]
        code = {value: number for number, value in enumerate(order)}
        for split, part in whole.items():
            codes[split][ours] = torch.tensor([code[value] for value in part])
    _add_bands(source, values, codes, names, unusable)
    return codes, names, unusable


def _our_name(column: str, source: Source) -> str:
    for theirs, ours in source.aliases.items():
        if column.casefold() == theirs.casefold():
            return ours
    return column


def _name_fault(ours: str, others: list[str], source: Source) -> str | None:
    """Why a column cannot have this name, as the end of a sentence on it, if so."""
    if not ours.strip():
        return "has no name"
    if ours in others:
        return "stands for two columns of the files: leave one of them out"
    if column_named(ours, [*source.bands]):
        return "is in the files and is made of another column, too: give it another name"
    return None


def _fault(
    parts: Mapping[str, list[Any] | None], named: Mapping[str, list[str] | None]
) -> str | None:
    """Why a column can be neither label nor group, as the end of a sentence on it, if so."""
    kinds = {}
    for split, part in parts.items():
        if part is None:
            return f"is not in the {split} files"
        missing = sum(_is_missing(value) for value in part)
        if missing:
            return f"has {missing} {split} row(s) without a value: fill them or leave them out"
        kinds[split] = _kind(part) if named[split] is None else f"classes {named[split]}"
        if kinds[split] is None:
            return "has values that are no single words or numbers"
        fault = _code_fault(split, part, named[split])
        if fault is not None:
            return fault
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{kind} in {split}"[:120] for split, kind in kinds.items())
        return f"is not the same in all splits ({told}): write it alike"
    return None


def _code_fault(split: str, part: list[Any], named: list[str] | None) -> str | None:
    """What is wrong with the codes of a column whose classes have names."""
    if named is None:
        return None
    hidden = sum(code < 0 for code in part)
    if hidden:
        return (
            f"has {hidden} hidden label(s), such as {min(part)}, in {split}: leave that file out "
            "or take one with labels"
        )
    if max(part) >= len(named):
        return f"has the label {max(part)} in {split}, and {len(named)} classes from 0 on"
    return None


def _is_missing(value: Any) -> bool:
    """None, nan or an empty word."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def _kind(part: list[Any]) -> str | None:
    for kind, text in ((bool, "true or false"), (int | float, "numbers"), (str, "words")):
        if all(isinstance(value, kind) for value in part):
            return text
    return None


def _values(parts: Iterable[list[Any]]) -> list[Any]:
    """All values of a column over its splits, in order."""
    return sorted({value for part in parts for value in part})


def _add_bands(
    source: Source,
    values: dict[str, Columns],
    codes: dict[str, dict[str, Tensor]],
    names: dict[str, list[str]],
    unusable: dict[str, str],
) -> None:
    """The source's bands of numbers as further columns, such as ages."""
    for band, (wanted, edges) in source.bands.items():
        column = column_named(wanted, [*names, *unusable])
        if column is None or column_named(band, [*unusable]):
            continue
        if column in unusable:
            unusable[band] = f"needs column {column!r}, which {unusable[column]}"
            continue
        numbers = {split: rows[column] for split, rows in values.items()}
        lowest = _values(numbers.values())[0]
        named = names[column] != [str(value) for value in _values(numbers.values())]
        if named or _kind([lowest]) != "numbers" or lowest < edges[0]:
            unusable[band] = f"needs numbers from {edges[0]} on in column {column!r}"
            continue
        names[band] = [f"{low}-{high - 1}" for low, high in pairwise(edges)] + [f"{edges[-1]}+"]
        inner = torch.tensor(edges[1:])
        for split, part in numbers.items():
            codes[split][band] = torch.bucketize(torch.tensor(part), inner, right=True)
