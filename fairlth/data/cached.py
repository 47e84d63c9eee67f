"""Decoded images on disk: each file says what it is and has a hash of its content."""

import hashlib
import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fairlth.config import paths
from fairlth.data.catalogue import Table, Tables, first_line

CODE = ("data/pixels", "data/listing", "data/folder", "data/decode")  # what decides the content
LOADED = paths.code_fingerprint(CODE)  # files may change while a process runs


def keep(path: Path, about: dict[str, Any], tables: Tables) -> None:
    """Writes a cached file that says what it is; where it cannot be written, says so."""
    tensors = {}
    for split, table in tables.splits.items():
        tensors[f"{split}/"] = table.x
        for name, column in table.columns.items():
            tensors[f"{split}/{name}"] = column
    labels = json.dumps({"names": tables.names, "unusable": tables.unusable})
    notes = {"about": json.dumps(about), "code": LOADED, "labels": labels}
    notes["sha256"] = _hash(tensors, labels)
    try:
        paths.write_atomically(path, save(tensors, notes))
    except OSError as error:
        warnings.warn(f"{error} The images are decoded again next time.", stacklevel=2)


def read(path: Path, about: dict[str, Any]) -> Tables | None:
    """What a cached file has; None where there is none that is sound and of this code."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
        if json.loads(notes["about"]) != about:
            raise ValueError("it was made from other files or in another size")
        if notes["sha256"] != _hash(tensors, notes["labels"]):
            raise ValueError("its content is not what was written")
    except Exception as error:
        reason = "it does not say what it is" if isinstance(error, KeyError) else first_line(error)
        _set_aside(path, reason)
        return None
    if notes["code"] != LOADED:
        return None
    return _tables(tensors, json.loads(notes["labels"]))


def _tables(tensors: dict[str, Tensor], labels: dict[str, Any]) -> Tables:
    columns: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        split, column = key.split("/", 1)
        columns.setdefault(split, {})[column] = tensor
    splits = {split: Table(own.pop(""), own) for split, own in columns.items()}
    return Tables(splits, labels["names"], labels["unusable"])


def _hash(tensors: dict[str, Tensor], labels: str) -> str:
    digest = hashlib.sha256(labels.encode())
    for key in sorted(tensors):
        digest.update(repr((key, tuple(tensors[key].shape), tensors[key].dtype)).encode())
        digest.update(tensors[key].contiguous().numpy().data)
    return digest.hexdigest()


def _set_aside(path: Path, reason: str) -> None:
    """Moves a cached file that cannot be used to `aside/` beside it, and says so."""
    aside = path.parent / "aside" / path.name
    with suppress(OSError):  # another process may have moved it
        aside.parent.mkdir(exist_ok=True)
        os.replace(path, aside)
    warnings.warn(
        f"{path} cannot be used ({reason}): it is in {aside} now, and the images are decoded anew.",
        stacklevel=2,
    )
