"""What a ticket's card says: what was trained on what, how it fares on test images, what it is for and what it is not for."""

import hashlib
import math
from typing import Any

import numpy as np

from fairlth import metrics
from fairlth.analysis import summaries
from fairlth.config import Strict
from fairlth.data import Data
from fairlth.results import Record
from fairlth.sources import SOURCES

INTENDED_USE = "Research and teaching on sparse networks and fairness. No decision about a person may rest on it."
LIMITS = [
    "Labels of race, gender and age, where the data have them, are coarse guesses by others or by an algorithm: they can show "
    "that groups are treated differently, never who a person is.",
    "The numbers hold for the test images named here; other images, cameras and people may fare otherwise.",
    "They are of one training; intervals are those of the test images, not of training anew.",
    "The hash finds damage, not a forger, who would write a new card.",
]
CONDITIONS = ("version", "commit", "torch", "device", "precision")  # of those in a record, that people read
FLOAT_INPUT = "float32 (images, channels, side, side), each pixel of 0 to 255 divided by 127.5, minus 1"


class Card(Strict):
    """What lies beside a ticket as JSON.

    `sha256` and `bytes` are the ticket file's; `run` the Run's fields; `model`, `in_shape` (channels, side, side) and
    `n_classes` what to build; `data` names the data set, its classes and groups, how many images were used and a fingerprint of
    them; `test` holds the metrics on test images with their intervals, None where a group has no image; `conditions` are those
    of the record.
    """

    file: str
    bytes: int
    sha256: str
    run: dict[str, Any]
    model: str
    in_shape: list[int]
    n_classes: int
    weights: dict[str, int]
    data: dict[str, Any]
    test: dict[str, Any]
    feasible: bool | None
    conditions: dict[str, Any]
    input: str
    intended_use: str
    limits: list[str]


def card_of(record: Record, data: Data, file: str, content: bytes) -> Card:
    """The card of a run's ticket.

    Args:
        record: of the run.
        data: that it was trained on.
        file, content: name and bytes of the ticket's file.
    """
    return Card(
        file=file,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        run=record.run,
        model=record.run["model"],
        in_shape=list(data.in_shape),
        n_classes=data.train.n_classes,
        weights={"kept": record.kept, "total": record.total},
        data=_data(record, data),
        test=tested(record),
        feasible=record.feasible,
        conditions=_no_nan(record.conditions),
        input=FLOAT_INPUT,
        intended_use=INTENDED_USE,
        limits=LIMITS,
    )


def fingerprint(data: Data) -> str:
    """SHA-256 of all images, labels and groups, split by split: changes when one pixel or one label does."""
    digest = hashlib.sha256()
    for split in (data.train, data.val, data.test):
        for tensor in (split.x, split.y, split.group):
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def tested(record: Record) -> dict[str, Any]:
    """Metrics on test images: accuracy with its Wilson interval, CWV and MCD with their noise floors, [right, all] by group."""
    correct, total = record.split("test").by_group()
    overall = metrics.share_interval(correct.sum(), total.sum())
    found = summaries.measures(correct, total) | {"accuracy_low": overall.low, "accuracy_high": overall.high}
    if (total > 0).all():
        found["cwv_error"] = metrics.cwv_error(correct, total)
    groups = {name: [int(c), int(n)] for name, c, n in zip(record.groups, correct, total, strict=True)}
    return {"images": overall.n, **_no_nan(found), "groups": groups}


def markdown(card: Card) -> str:
    """The card as people read it, as Markdown."""
    run, data = card.run, card.data
    facts = {
        "network": f"`{run['model']}`, {card.weights['kept']:,} of {card.weights['total']:,} weights kept",
        "run": ", ".join(f"{name} {value}" for name, value in run.items() if value is not None),
        "input": card.input,
        "file": f"`{card.file}`, {card.bytes:,} bytes, sha256 `{card.sha256}`",
        "data": f"{data['name']} ({data['licence']}), images: "
        + ", ".join(f"{n:,} {split}" for split, n in data["images"].items())
        + f", fingerprint `{data['sha256'][:16]}`",
        "target": f"{data['target']}, fairness over {data['group_by']}",
        "made with": ", ".join(f"{name} {card.conditions[name]}" for name in CONDITIONS),
    }
    lines = [f"# Ticket `{card.file}`", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {text} |" for name, text in facts.items()]
    lines += ["", f"## On {card.test['images']:,} test images", "", *_results(card.test)]
    lines += ["", "## Intended use", "", card.intended_use, "", "## Limits", "", *(f"* {limit}" for limit in card.limits)]
    return "\n".join(lines) + "\n"


def _results(test: dict[str, Any]) -> list[str]:
    """Two tables: the metrics, each with its interval or its noise floor, and the groups."""
    accuracy, low, high = (_number(test[name], 100) for name in ("accuracy", "accuracy_low", "accuracy_high"))
    cwv, error, cwv_floor = (_number(test.get(name), 1e4) for name in ("cwv", "cwv_error", "cwv_floor"))
    mcd, mcd_floor = (_number(test[name], 100) for name in ("mcd", "mcd_floor"))
    lines = ["| metric | value | beside it |", "| --- | --- | --- |"]
    lines += [f"| accuracy % | {accuracy} | 95 % interval {low} to {high} |"]
    lines += [f"| CWV × 10⁴, 0 is fair | {cwv} | standard error {error}, chance alone {cwv_floor} |"]
    lines += [f"| MCD, points, 0 is fair | {mcd} | chance alone {mcd_floor} |"]
    lines += ["", "| group | right | images | accuracy % | 95 % interval |", "| --- | --- | --- | --- | --- |"]
    for name, (correct, total) in test["groups"].items():
        share = metrics.share_interval(correct, total)
        ends = f"{_number(share.low, 100)} to {_number(share.high, 100)}"
        lines.append(f"| {name} | {correct:,} | {total:,} | {_number(share.mean, 100)} | {ends} |")
    return lines


def _number(value: float | None, scale: float) -> str:
    return "–" if value is None or math.isnan(value) else f"{value * scale:.1f}"


def _data(record: Record, data: Data) -> dict[str, Any]:
    name = record.run["dataset"]
    labels = {"target": record.target, "group_by": record.group_by, "classes": record.classes, "groups": record.groups}
    images = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
    return {"name": name, "licence": SOURCES[name].licence, **labels, "images": images, "sha256": fingerprint(data)}


def _no_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no nan."""
    return {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in values.items()}
