"""A ticket's card: the hash of its file, what its run's record says, and how to read it.

Beside the ticket a card is JSON; `markdown` is the form that people read.
"""

import hashlib
import html
import json
import math
import re
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from fairlth import metrics
from fairlth.analysis import audit, summaries
from fairlth.analysis.records import Record
from fairlth.config import Strict
from fairlth.data import SOURCES
from fairlth.images import Data
from fairlth.metrics import Counts

LARGEST_SIDE = 1024  # pixels of an image that a card may name
LARGEST_OUTPUT = 100_000  # classes that a card may name
CONSTANT = 1e-6  # outputs that differ by less than this share of the largest are all the same
AUDITED = {  # what an audit says of each group -> its column
    "ece": "ECE %",
    "brier": "Brier × 100",
    "lost": "lost %",
    "changed": "changed %",
}
MARKUP = re.compile(r"[`*\[\]|~^{}!]|(?<![^\W_])_|_(?![^\W_])")  # _ inside a word is none
FORMULA = re.compile(r"[$\\]")
CONDITIONS = ("version", "commit", "torch", "device", "precision")  # those that people read

READING = """\
import zlib
import numpy as np
from safetensors.torch import load
tensors = load(zlib.decompress(np.fromfile({file}, dtype="uint8")))
masks = {{key.removeprefix("kept_zeros/"): tensors.pop(key) for key in [*tensors] if "/" in key}}
shift = tensors.pop("class_shift", 0.0)  # to add to the network's outputs
network.eval().load_state_dict(tensors)
for name, bits in masks.items():
    zeros = np.unpackbits(bits.numpy(), count=tensors[name].numel(), bitorder="big") == 1
    masks[name] = (tensors[name].numpy() != 0) | zeros.reshape(tensors[name].shape)"""
INTENDED_USE = (
    "Research and teaching on sparse networks and fairness. "
    "No decision about a person may rest on it."
)
LIMITS = [
    "Labels of race, gender and age, where the data have them, are coarse guesses by others or by "
    "an algorithm. They can show that groups are treated differently, never who a person is.",
    "The numbers hold for the test images named here. Other images, cameras and people may fare "
    "otherwise.",
    "They are of one training. Intervals are those of the test images, not of training anew.",
    "The hash finds damage. It does not find a forger, who would write a new card.",
]

Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
FileName = Annotated[str, Field(pattern=r"^[^/\\`|\x00-\x1f]+$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Parent(Strict):
    """The ticket that another one goes on from.

    It keeps `kept` of `total` weights. `images_of` is the run whose images both are made with.
    `file`, `sha256`, `method` and `density` are its card's, None where it has no card, such as a
    network that was pruned elsewhere.
    """

    kept: Count
    total: Size
    images_of: dict[str, Any]
    file: FileName | None = None
    sha256: Sha256 | None = None
    method: str | None = None
    density: float | None = None


class Card(Strict):
    """What is stored beside a ticket as JSON: the file, its hash, and what the run's record says.

    `bytes` and `sha256` are the file's as it is stored, `unpacked_bytes` its size after zlib.
    `in_shape` is (channels, side, side) of one image and `input` how pixels become numbers.
    `images` are numbers of images, `data_sha256` is their fingerprint. `counts` are the record's
    on test images, [classes][groups]. `dead` says why the ticket is dead, "" where it is not.
    `kept_alive` counts the weights of each layer that were kept only so that the layer has some,
    `frozen` those of layers that did not learn and so are not pruned; they are not among `layers`.
    `parameters` counts all weights of the network, also those that are never pruned, such as biases
    and norms; 0 is a card of a version that did not count them. `audit` has a fraction per
    group of test images: `ece` and `brier`, and where the dense net of the seed was at hand
    `lost` and `changed` (`analysis.audit.of_groups`); None is a group without images. `reading`
    is Python that reads the file without fairlth. `parent` is the ticket that this one goes on
    from, None for one from the dense network. The other fields are the record's.

    Raises:
        ValueError: a value is missing, unknown or impossible.
    """

    file: FileName
    bytes: Size
    unpacked_bytes: Size
    sha256: Sha256
    in_shape: tuple[Size, Size, Size]
    input: dict[str, str]
    licence: str
    images: dict[str, Count]
    data_sha256: Sha256
    run: dict[str, Any]
    target: str
    group_by: str
    classes: list[str]
    groups: list[str]
    counts: dict[str, list[list[Count]]]
    layers: list[dict[str, Any]]
    feasible: bool | None
    dead: str
    kept_alive: dict[str, Count]
    frozen: Count = 0
    conditions: dict[str, Any]
    reading: list[str]
    intended_use: str
    limits: list[str]
    parent: Parent | None = None
    parameters: Count = 0
    audit: dict[str, list[Fraction | None]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_possible(self) -> "Card":
        channels, rows, columns = self.in_shape
        if rows != columns or channels not in (1, 3):
            raise ValueError(f"in_shape={self.in_shape} is no square grey or RGB image")
        if rows > LARGEST_SIDE:
            raise ValueError(f"in_shape={self.in_shape} is beyond {LARGEST_SIDE} pixels a side")
        for name in ("dataset", "model"):
            if not isinstance(self.run.get(name), str):
                raise ValueError(f"its run names no {name}")
        if not 1 <= len(self.classes) <= LARGEST_OUTPUT:
            raise ValueError(f"{len(self.classes)} classes, expected 1 to {LARGEST_OUTPUT}")
        if self.group_by == "class" and self.groups != self.classes:
            raise ValueError(f"its groups are its classes, and it names {self.groups}")
        if self.feasible and self.dead:
            raise ValueError("a dead ticket is not feasible")
        return self

    @model_validator(mode="after")
    def _names_each_once(self) -> "Card":
        for names in (self.classes, self.groups, [layer["layer"] for layer in self.layers]):
            if len(set(names)) != len(names):
                raise ValueError(f"the names {names} are not different ones")
        return self

    @model_validator(mode="after")
    def _counts_fit(self) -> "Card":
        for layer in self.layers:
            if not 0 <= layer["kept"] <= layer["total"]:
                raise ValueError(
                    f"{layer['layer']} keeps {layer['kept']} of {layer['total']} weights"
                )
        if why_dead(self.layers) and not self.dead:
            raise ValueError("it does not say that the ticket is dead")
        shape = (len(self.classes), len(self.groups))
        correct, total = self.test
        if correct.shape != shape or total.shape != shape or (correct > total).any():
            raise ValueError("counts are not those of its classes and groups")
        if not total.any():
            raise ValueError("it counts no test image")
        for name, values in self.audit.items():
            if name not in AUDITED or len(values) != len(self.groups):
                raise ValueError(f"its audit has no {name!r} for each of its groups")
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> "Card":
        if self.parent is not None and self.kept > self.parent.kept:
            raise ValueError(
                f"it keeps {self.kept} weights and goes on from {self.parent.kept} of them"
            )
        if 0 < self.parameters < self.total:
            raise ValueError(
                f"parameters={self.parameters} and {self.total} weights that could have been pruned"
            )
        return self

    @property
    def test(self) -> Counts:
        """Right answers and images, each an array (classes, groups)."""
        return Counts(np.array(self.counts["correct"]), np.array(self.counts["total"]))

    @property
    def images_of(self) -> dict[str, Any]:
        """The run for which `data.load` gives the images that the ticket was made with."""
        return self.run if self.parent is None else self.parent.images_of

    @property
    def kept(self) -> int:
        """Weights that the mask keeps."""
        return sum(layer["kept"] for layer in self.layers)

    @property
    def total(self) -> int:
        """Weights that could have been pruned."""
        return sum(layer["total"] for layer in self.layers)

    @property
    def density_of_all(self) -> float:
        """The share of all weights of the network that are left, in [0, 1]; nan if not counted."""
        pruned = self.total - self.kept
        return 1 - pruned / self.parameters if self.parameters else math.nan


def card_of(
    record: Record,
    data: Data,
    file: str,
    content: bytes,
    unpacked_bytes: int,
    parent: Parent | None = None,
    parameters: int = 0,
    dense: Record | None = None,
) -> Card:
    """The card of a run's ticket.

    Args:
        record: of the run.
        data: that it was trained on.
        file, content: name and bytes of the ticket's file.
        unpacked_bytes: how many bytes that is after zlib.
        parent: the ticket that it goes on from, if any.
        parameters: all weights of the network; 0: they are not counted.
        dense: the record of the dense net of the seed, for what the ticket lost; None: unknown.
    """
    dead = record.notes.get("dead", "") or why_dead(record.layers)
    channels, rows, columns = data.in_shape
    images = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
    return Card(
        file=file,
        bytes=len(content),
        unpacked_bytes=unpacked_bytes,
        sha256=hashlib.sha256(content).hexdigest(),
        in_shape=(channels, rows, columns),
        input=preprocessing(data.in_shape),
        licence=SOURCES[record.run["dataset"]].licence,
        images=images,
        data_sha256=fingerprint(data),
        run=record.run,
        target=record.target,
        group_by=record.group_by,
        classes=record.classes,
        groups=record.groups,
        counts=record.counts["test"],
        layers=record.layers,
        feasible=False if dead and record.feasible else record.feasible,
        dead=dead,
        kept_alive=record.notes.get("rescued", {}),
        frozen=record.notes.get("frozen", 0),
        conditions=_without_nan(record.conditions),
        reading=READING.format(file=json.dumps(file)).splitlines(),
        intended_use=INTENDED_USE,
        limits=LIMITS,
        parent=parent,
        parameters=parameters,
        audit=_audit(record, data, dense),
    )


def _audit(record: Record, data: Data, dense: Record | None) -> dict[str, list[float | None]]:
    """The audit of a record that keeps predictions, else none."""
    if not record.predictions:
        return {}
    before = audit.answers(dense, data.test) if dense is not None and dense.predictions else None
    found = audit.of_groups(audit.answers(record, data.test), len(record.groups), before)
    return {
        name: [None if math.isnan(value) else round(value, 6) for value in values]
        for name, values in found.items()
    }


def card_bytes(card: Card) -> bytes:
    """The card as it is stored, JSON in UTF-8; the hash of a card is the SHA-256 of these bytes."""
    values = card.model_dump(mode="json", exclude_defaults=True)  # an older card keeps its hash
    return json.dumps(values, indent=1, ensure_ascii=False).encode()


def why_dead(layers: list[dict[str, Any]], outputs: Tensor | None = None) -> str:
    """Why a ticket is dead, a sentence; "" where it is not.

    Args:
        layers: rows of `MaskSet.layers`, or any with `layer` and `kept`.
        outputs: the network's on two images or more, (n, classes); None: they are not looked at.
    """
    empty = [layer["layer"] for layer in layers if layer["kept"] == 0]
    if empty:
        return f"All weights of {', '.join(empty)} were pruned."
    if outputs is None or len(outputs) < 2:
        return ""
    apart = (outputs - outputs[0]).abs().max()
    largest = outputs.abs().max()
    if apart <= CONSTANT * max(1.0, float(largest)):
        return "Its outputs are the same for every image."
    return ""


def preprocessing(in_shape: tuple[int, ...]) -> dict[str, str]:
    """How an image becomes a network's input: layout, size, crop, colour and scale, in words."""
    channels, rows, columns = in_shape
    return {
        "layout": f"float32 (images, {channels}, {rows}, {columns})",
        "size": f"{columns} x {rows} pixels",
        "crop": "the largest square at the centre, then averaged down to the size",
        "colour": "grey" if channels == 1 else "RGB",
        "scale": "each pixel of 0 to 255 divided by 127.5, minus 1",
    }


def fingerprint(data: Data) -> str:
    """SHA-256 of all images, labels and groups; it changes when one pixel or one label does."""
    digest = hashlib.sha256()
    for split in (data.train, data.val, data.test):
        for tensor in (split.x, split.y, split.group):
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def markdown(card: Card) -> str:
    """The card as people read it, as Markdown. Names from data are escaped, also for HTML."""
    lines = [f"# Ticket `{card.file}`", ""]
    if card.dead:
        lines += [f"**This ticket is dead: do not use it.** {_text(card.dead)}", ""]
    lines += _table(["", ""], [[name, text] for name, text in _facts(card).items()])
    lines += ["", f"## On {int(card.test.total.sum()):,} test images", "", *_results(card)]
    lines += ["", "## Reading it without fairlth", ""]
    lines += [
        f"`network` is the network, {_text(card.run['model'])}, as a torch module. "
        "Its state dict has the names and shapes that `tensors` shows. Pruned weights are 0, "
        "and `masks` are True where a weight is kept. `shift` has the constants of a ticket whose "
        "last layer has no biases for them: the outputs are `network(images) + shift`."
    ]
    lines += ["", "```python", *card.reading, "```", ""]
    lines += ["## Intended use", "", card.intended_use, "", "## Limits", ""]
    lines += [f"* {limit}" for limit in card.limits]
    return "\n".join(lines) + "\n"


def _facts(card: Card) -> dict[str, str]:
    run = {name: value for name, value in card.run.items() if value is not None}
    images = ", ".join(f"{n:,} {split}" for split, n in card.images.items())
    network = f"{card.run['model']}, {card.kept:,} of {card.total:,} weights kept"
    network += f", {card.frozen:,} more frozen and not pruned" if card.frozen else ""
    alive = ", ".join(f"{n:,} of {layer}" for layer, n in card.kept_alive.items())
    densities = f"{card.kept / card.total:.2%} of the weights that could be pruned"
    if card.parameters:
        densities += f", {card.density_of_all:.2%} of all {card.parameters:,} weights"
    facts = {
        "network": network,
        "density": densities,
        "kept so that no layer is empty": alive,
        "run": ", ".join(f"{name} {value}" for name, value in run.items()),
        "goes on from": "" if card.parent is None else _parent(card.parent),
        "input": "; ".join(f"{name}: {value}" for name, value in card.input.items()),
        "size, sha256": f"{card.bytes:,} bytes, {card.sha256}",
        "data": f"{card.run['dataset']} ({card.licence}), images: {images}",
        "fingerprint of the data": card.data_sha256[:16],
        "target": f"{card.target}, fairness over {card.group_by}",
        "made with": ", ".join(f"{name} {card.conditions.get(name)}" for name in CONDITIONS),
    }
    return {name: _text(value) for name, value in facts.items() if value}


def _parent(parent: Parent) -> str:
    kept = f"{parent.kept:,} of {parent.total:,} weights kept"
    if parent.sha256 is None:
        return f"a network without a card, {kept}"
    made = f"method {parent.method}, density {parent.density}"
    return f"{parent.file}, sha256 {parent.sha256}, {made}, {kept}"


def _results(card: Card) -> list[str]:
    """Two tables: the metrics, each with its interval or its noise floor, and the groups."""
    correct, total = card.test.by_group()
    found = summaries.measures(correct, total)
    overall = metrics.share_interval(correct.sum(), total.sum())
    error = metrics.cwv_error(correct, total) if (total > 0).all() else math.nan
    beside = {
        "accuracy": f"95 % interval {_number(overall.low, 100)} to {_number(overall.high, 100)}",
        "cwv": f"standard error {_number(error, 1e4)}, "
        f"chance alone {_number(found['cwv_floor'], 1e4)}",
        "mcd": f"chance alone {_number(found['mcd_floor'], 100)}",
    }
    rows = [
        ["accuracy %", _number(found["accuracy"], 100), beside["accuracy"]],
        ["CWV × 10⁴, 0 is fair", _number(found["cwv"], 1e4), beside["cwv"]],
        ["MCD, points, 0 is fair", _number(found["mcd"], 100), beside["mcd"]],
    ]
    groups = [_group(*cell) for cell in zip(card.groups, correct, total, strict=True)]
    heads = ["group", "right", "images", "accuracy %", "95 % interval"]
    for name, values in card.audit.items():
        heads.append(AUDITED[name])
        for row, value in zip(groups, values, strict=True):
            row.append(_number(math.nan if value is None else value, 100))
    tables = [*_table(["metric", "value", "compared with"], rows), "", *_table(heads, groups)]
    return [*tables, "", *_explained(card)] if card.audit else tables


def _explained(card: Card) -> list[str]:
    """What the columns of the audit are."""
    told = "ECE is the mean distance of confidence and accuracy, 0 is a confidence to rely on."
    if "lost" in card.audit:
        told += (
            " Lost are images that the dense net of the seed has right and the ticket wrong, in "
            "percent of those that the dense net has right; training a network anew loses some, "
            "too. Changed are images of which the two say different classes."
        )
    return [told]


def _group(name: str, correct: int, total: int) -> list[str]:
    share = metrics.share_interval(correct, total)
    interval = f"{_number(share.low, 100)} to {_number(share.high, 100)}"
    return [_text(name), f"{correct:,}", f"{total:,}", _number(share.mean, 100), interval]


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _number(value: float, scale: float) -> str:
    return "–" if math.isnan(value) else f"{value * scale:.1f}"


def _text(value: str) -> str:
    """Text that Markdown, HTML and MathJax leave as it is, on one line.

    Signs that Markdown reads become HTML entities. `$` and `\\` begin formulas even as entities.
    They are put in an element of their own, across which MathJax does not look.
    """
    escaped = html.escape(" ".join(value.split()), quote=False)
    escaped = MARKUP.sub(lambda sign: f"&#{ord(sign[0])};", escaped)
    return FORMULA.sub(lambda sign: f"<span>&#{ord(sign[0])};</span>", escaped)


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """The values with None for nan and infinity, which JSON does not know."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
