"""From files or the hub to uint8 tensors: decoded once, then cached."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fairlth import config, progress
from fairlth.data.catalogue import SOURCES, Source, Table, Tables, first_line

Rows = Iterable[dict[str, Any]]


def fingerprint(name: str) -> str:
    """Changes with the content of a data set of your own or the way it is read; "" for the others, which have one content.

    Decoded images and records know it, so that both are made anew after a change; copying or moving the files is none.
    """
    source = SOURCES[name]
    if not source.own:
        return ""
    files = local_files(name)
    inside = source.folder or config.DATA / name
    names = tuple(Path(path).relative_to(inside).as_posix() for paths in files.values() for path in paths)
    return _content(repr(replace(source, fetch=None, folder=None)), inside, names, _fingerprint(source, files))


@cache
def _content(how: str, inside: Path, names: tuple[str, ...], stamp: str) -> str:
    """Of what is in the files; `stamp` says when to read them again."""
    digest = hashlib.sha256(how.encode())
    for name in names:
        digest.update(repr((name, hashlib.sha256((inside / name).read_bytes()).hexdigest())).encode())
    return digest.hexdigest()[:12]


def decoded(name: str, side: int, downloads: bool) -> Tables:
    """All splits of a data set, images `side` pixels a side, from the cache or decoded now and cached.

    Local parquet under `$FAIRLTH_DATA/<name>/` wins over the hub.

    Raises:
        ValueError: no data, a damaged or empty file, a column that is not there; one sentence names it.
    """
    name = SOURCES[name].like or name
    source, files = SOURCES[name], local_files(name)
    if source.embedded and source.fetch is not None:
        return source.fetch(source, side)
    stamp = fingerprint(name) or _fingerprint(source, files)
    cache_file = config.CACHE / f"{name}-{side}-{stamp}.safetensors"
    if cache_file.exists():
        return _load(cache_file)
    if not files and not downloads:
        raise ValueError(f"{name} is not in {config.DATA / name}/train-*.parquet and this preset downloads nothing: place it.")
    if source.fetch is not None and (source.folder is not None or not files):
        tables = source.fetch(source, side)
    else:
        tables = _decode(name, _open(name, files) if files else _download(name), side)
    _save(cache_file, tables)
    return tables


def local_files(name: str) -> dict[str, list[str]]:
    """Local parquet files by split; a folder without train files is an error, no folder at all is not.

    Where the set has no validation split of its own and there is no test file, the valid file is the test split. Of a folder of
    images all files, in one list.
    """
    if (images := SOURCES[name].folder) is not None:
        return {"all": sorted(str(path) for path in images.rglob("*") if path.is_file())}
    folder = config.DATA / (SOURCES[name].like or name)
    found = {split: sorted(folder.glob(f"{split}-*.parquet")) for split in ("train", "valid", "test")}
    if not found["test"] and "valid" not in SOURCES[name].splits:
        found["test"] = found.pop("valid")
    if folder.is_dir() and not found["train"]:
        raise ValueError(f"{folder} holds no train-*.parquet: place the file there, or remove the folder to use the hub.")
    return {split: [str(path) for path in paths] for split, paths in found.items() if paths}


def _open(name: str, files: dict[str, list[str]]) -> dict[str, Rows]:
    """Streams over local parquet files, each tried once."""
    import datasets

    splits = {}
    for split, paths in files.items():
        try:
            splits[split] = datasets.load_dataset("parquet", data_files=paths, split="train", streaming=True)
            next(iter(splits[split]))
        except StopIteration:
            raise ValueError(f"{paths[0]} has no rows: replace the {split} file of {name}.") from None
        except Exception as error:
            raise ValueError(f"{paths[0]} is not a whole parquet file ({first_line(error)}): replace it.") from error
    return splits


def _download(name: str) -> dict[str, Rows]:
    import datasets

    source = SOURCES[name]
    progress.say(f"{name}: downloading {source.hub} from the hub")
    try:
        return {
            ours: datasets.load_dataset(source.hub, source.configuration, split=theirs)
            for ours, theirs in source.splits.items()
        }
    except Exception as error:
        raise ValueError(
            f"{name} is neither in {config.DATA / name}/train-*.parquet nor to be had from the hub as {source.hub} "
            f"({first_line(error)}): place the files or connect to the network."
        ) from error


def _decode(name: str, splits: dict[str, Rows], side: int) -> Tables:
    """Images to uint8 tensors, label columns to codes that mean the same in every split."""
    source = SOURCES[name]
    features = dict(next(iter(splits.values())).features)  # type: ignore[attr-defined]
    if source.image not in features:
        raise ValueError(f"{name} has no image column {source.image!r} in its files, they have {', '.join(features)}.")
    images, raw = {}, {}
    for split, rows in splits.items():
        images[split], raw[split] = _read(f"{name} {split}", rows, source, side)
    columns, names = _columns(raw, features, source)
    return Tables({split: Table(images[split], columns[split]) for split in splits}, names)


def _read(label: str, rows: Rows, source: Source, side: int) -> tuple[Tensor, dict[str, list[Any]]]:
    """One split's images (n, channels, side, side) and its other columns as lists."""
    from datasets import Image

    pixels: list[np.ndarray] = []
    columns: dict[str, list[Any]] = {}
    try:
        for row in rows.cast_column(source.image, Image()):  # type: ignore[attr-defined]
            pixels.append(pixels_of(row.pop(source.image), source, side))
            for column, value in row.items():
                columns.setdefault(column, []).append(value)
            if len(pixels) % 2000 == 0:
                progress.say(f"{label}: {len(pixels)} images decoded")
    except Exception as error:
        raise ValueError(
            f"{label}: image number {len(pixels)} cannot be read ({first_line(error)}): replace the file."
        ) from error
    return torch.from_numpy(np.stack(pixels)), columns


def pixels_of(image: Any, source: Source, side: int) -> np.ndarray:
    """(channels, side, side) uint8; what is not square is cropped at its centre, what is larger is averaged down."""
    from PIL.Image import Resampling
    from PIL.ImageOps import fit

    image = image.convert("L" if source.grey else "RGB")
    if image.size != (side, side):
        image = fit(image, (side, side), Resampling.BOX)
    pixels = np.asarray(image)
    return pixels[None] if source.grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _columns(
    raw: dict[str, dict[str, list[Any]]], features: dict[str, Any], source: Source
) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[str]]]:
    """Label columns as codes, by split, and the names of the codes; numbers also in bands where the source has some."""
    columns: dict[str, dict[str, Tensor]] = {split: {} for split in raw}
    names: dict[str, list[str]] = {}
    for column in _label_columns(raw):
        ours = source.aliases.get(column, column)
        names[ours] = getattr(features[column], "names", None) or _values(rows[column] for rows in raw.values())
        for split, rows in raw.items():
            columns[split][ours] = _codes(rows[column], names[ours], coded=hasattr(features[column], "names"))
    for band, (column, edges) in source.bands.items():
        if column not in names:
            continue
        names[band] = [f"{low}-{high - 1}" for low, high in pairwise(edges)] + [f"{edges[-1]}+"]
        for split, rows in raw.items():
            columns[split][band] = torch.bucketize(torch.tensor(rows[column]), torch.tensor(edges[1:]), right=True)
    return columns, names


def _label_columns(raw: dict[str, dict[str, list[Any]]]) -> list[str]:
    """Columns that every split has and whose values are plain; ValueError names one with holes."""
    found = []
    for column in next(iter(raw.values())):
        values = [value for rows in raw.values() for value in rows.get(column, [[]])]
        if any(value is None for value in values):
            raise ValueError(f"column {column!r} has rows without a value: fill them or leave the column out of the files.")
        if all(isinstance(value, str | int | float) for value in values):
            found.append(column)
    return found


def _values(columns: Iterable[list[Any]]) -> list[str]:
    """All values of a column over its splits, in order."""
    return [str(value) for value in sorted({value for column in columns for value in column})]


def _codes(values: list[Any], names: list[str], coded: bool) -> Tensor:
    """The position of each value in `names`; `coded` values are positions already."""
    code = {name: number for number, name in enumerate(names)}
    return torch.tensor(values if coded else [code[str(value)] for value in values])


def _fingerprint(source: Source, files: dict[str, list[str]]) -> str:
    """Changes when a local file or the way it is read does, so that it is decoded anew."""
    stats = [(path, Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for paths in files.values() for path in paths]
    return hashlib.sha256(repr((source.image, source.grey, source.aliases, source.bands, stats)).encode()).hexdigest()[:12]


def _save(path: Path, tables: Tables) -> None:
    tensors = {f"{split}/{name}": column for split, table in tables.splits.items() for name, column in table.columns.items()}
    tensors |= {f"{split}/": table.x for split, table in tables.splits.items()}
    config.write_atomically(path, save(tensors, {"names": json.dumps(tables.names)}))


def _load(path: Path) -> Tables:
    with safe_open(path, "pt") as file:
        names = json.loads(file.metadata()["names"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
    splits = {}
    for split in {key.split("/")[0] for key in tensors}:
        columns = {key.removeprefix(f"{split}/"): value for key, value in tensors.items() if key.startswith(f"{split}/")}
        splits[split] = Table(columns.pop(""), columns)
    return Tables(splits, names)
