"""A ticket on disk: one compressed safetensors file that any program can open, and its card.

The file is a safetensors file compressed by zlib. Its keys are the network's own state-dict names and
its values are dense, with pruned weights 0. For each pruned layer, `kept_zeros/<name>` has one bit per
weight (uint8, in the order of `numpy.packbits`, first weight in the highest bit): 1 for a weight that
is kept and happens to be 0. The mask is therefore `(weight != 0) | kept_zeros`. A plain mask would
repeat what the zeros of the weights show, and would make the file larger than the kept weights alone.
"""

import hashlib
import html
import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from fairlth import config, metrics, results
from fairlth.config import Run, Strict
from fairlth.data import Data
from fairlth.masks import MaskSet
from fairlth.methods import Ticket
from fairlth.metrics import Counts
from fairlth.models import build
from fairlth.results import Record
from fairlth.sources import SOURCES

ENDING = ".safetensors.zlib"
KEPT_ZEROS = "kept_zeros/"
HEADER_BYTES = 1 << 20  # more than the names and shapes of any network here take
LARGEST_SIDE = 1024  # pixels of an image that a card may name
LARGEST_OUTPUT = 100_000  # classes that a card may name
CONSTANT = 1e-6  # outputs that differ by less than this share of the largest are all the same
MARKUP = re.compile(r"[`*\[\]|~^{}!]|(?<![^\W_])_|_(?![^\W_])")  # _ inside a word is none
FORMULA = re.compile(r"[$\\]")
CONDITIONS = ("version", "commit", "torch", "device", "precision")  # those that people read

READING = """\
import zlib
import numpy as np
from safetensors.torch import load
tensors = load(zlib.decompress(open({file}, "rb").read()))
masks = {{name.removeprefix("kept_zeros/"): tensors.pop(name) for name in [*tensors] if "/" in name}}
network.eval().load_state_dict(tensors)
for name, bits in masks.items():
    shape = tensors[name].shape
    kept_zeros = np.unpackbits(bits.numpy(), count=shape.numel(), bitorder="big").reshape(shape)
    masks[name] = (tensors[name].numpy() != 0) | (kept_zeros == 1)"""
INTENDED_USE = (
    "Research and teaching on sparse networks and fairness. "
    "No decision about a person may rest on it."
)
LIMITS = [
    "Labels of race, gender and age, where the data have them, are coarse guesses by others or by an "
    "algorithm. They can show that groups are treated differently, never who a person is.",
    "The numbers hold for the test images named here. Other images, cameras and people may fare "
    "otherwise.",
    "They are of one training. Intervals are those of the test images, not of training anew.",
    "The hash finds damage. It does not find a forger, who would write a new card.",
]

Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(gt=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Card(Strict):
    """What is stored beside a ticket as JSON: the file, its hash, and what the run's record says.

    `bytes` and `sha256` are the file's as it is stored, `unpacked_bytes` its size after zlib.
    `in_shape` is (channels, side, side) of one image and `input` how pixels become numbers. `data`
    names the licence, the numbers of images and a fingerprint of them. `counts` are the record's on
    test images, [classes][groups]. `dead` says why the ticket is dead, "" where it is not.
    `kept_alive` counts the weights of each layer that were kept only so that the layer has some.
    `reading` is Python that reads the file without fairlth. The other fields are the record's.

    Raises:
        ValueError: a value is missing, unknown or impossible.
    """

    file: Annotated[str, Field(pattern=r"^[^/\\`|\x00-\x1f]+$")]
    bytes: Size
    unpacked_bytes: Size
    sha256: Sha256
    in_shape: tuple[Size, Size, Size]
    input: dict[str, str]
    data: dict[str, Any]
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
    conditions: dict[str, Any]
    reading: list[str]
    intended_use: str
    limits: list[str]

    @model_validator(mode="after")
    def _is_possible(self) -> "Card":
        if max(self.in_shape) > LARGEST_SIDE:
            raise ValueError(f"in_shape={self.in_shape} is beyond {LARGEST_SIDE} pixels a side")
        if not 1 <= len(self.classes) <= LARGEST_OUTPUT:
            raise ValueError(f"{len(self.classes)} classes, expected 1 to {LARGEST_OUTPUT}")
        for layer in self.layers:
            if not 0 <= layer["kept"] <= layer["total"]:
                raise ValueError(f"{layer['layer']} keeps {layer['kept']} of {layer['total']} weights")
        shape = (len(self.classes), len(self.groups))
        correct, total = self.test
        if correct.shape != shape or total.shape != shape or (correct > total).any():
            raise ValueError("counts are not those of its classes and groups")
        return self

    @property
    def test(self) -> Counts:
        """Right answers and images, each an array (classes, groups)."""
        return Counts(np.array(self.counts["correct"]), np.array(self.counts["total"]))

    @property
    def kept(self) -> int:
        """Weights that the mask keeps."""
        return sum(layer["kept"] for layer in self.layers)

    @property
    def total(self) -> int:
        """Weights that could have been pruned."""
        return sum(layer["total"] for layer in self.layers)


class Loaded(NamedTuple):
    """A ticket from disk: the network in evaluation mode, pruned weights 0; its mask; its card."""

    model: nn.Module
    mask: MaskSet
    card: Card


def card_path(path: Path) -> Path:
    """Where the card of a ticket is stored: beside it, with the ending .json."""
    return path.with_name(path.name.removesuffix(ENDING) + ".json")


def write(ticket: Ticket, record: Record, data: Data, path: Path) -> None:
    """Writes a ticket and then its card, each whole or not at all.

    Args:
        ticket: what the method returned.
        record, data: of its run.
        path: of the ticket, ending in `ENDING`.

    Raises:
        ValueError: a pruned weight is not 0, or a value is not finite.
        OSError: the files cannot be written.
    """
    unpacked = to_bytes(tensors(ticket.model, ticket.mask), {"run": json.dumps(record.run)})
    content = zlib.compress(unpacked, 9)
    card = card_of(record, data, path.name, content, len(unpacked))
    config.write_atomically(path, content)
    config.write_atomically(card_path(path), card_bytes(card))


def tensors(model: nn.Module, mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a ticket's file includes: the state dict, and `kept_zeros/<name>` for each masked weight.

    Raises:
        ValueError: a pruned weight is not 0, or a value is not finite.
    """
    plain = torch.contiguous_format
    found = {
        name: value.detach().cpu().clone(memory_format=plain)
        for name, value in model.state_dict().items()
    }
    _check_finite(found)
    for name, kept in mask.items():
        kept = kept.cpu()
        if found[name][~kept].any():
            raise ValueError(f"a pruned weight of {name} is not 0: apply the mask first.")
        kept_zeros = kept & (found[name] == 0)
        bits = np.packbits(kept_zeros.reshape(-1).numpy(), bitorder="big")
        found[KEPT_ZEROS + name] = torch.from_numpy(bits)
    return found


def card_of(record: Record, data: Data, file: str, content: bytes, unpacked_bytes: int) -> Card:
    """The card of a run's ticket.

    Args:
        record: of the run.
        data: that it was trained on.
        file, content: name and bytes of the ticket's file.
        unpacked_bytes: how many bytes that is after zlib.
    """
    dead = record.notes.get("dead", "") or why_dead(record.layers)
    images = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
    return Card(
        file=file,
        bytes=len(content),
        unpacked_bytes=unpacked_bytes,
        sha256=hashlib.sha256(content).hexdigest(),
        in_shape=data.in_shape,
        input=preprocessing(data.in_shape),
        data={
            "licence": SOURCES[record.run["dataset"]].licence,
            "images": images,
            "sha256": fingerprint(data),
        },
        run=record.run,
        target=record.target,
        group_by=record.group_by,
        classes=record.classes,
        groups=record.groups,
        counts=record.counts["test"],
        layers=record.layers,
        feasible=False if dead and record.feasible else record.feasible,
        dead=dead,
        kept_alive=record.notes.get("kept alive", {}),
        conditions=_without_nan(record.conditions),
        reading=READING.format(file=json.dumps(file)).splitlines(),
        intended_use=INTENDED_USE,
        limits=LIMITS,
    )


def card_bytes(card: Card) -> bytes:
    """The card as it is stored, JSON in UTF-8; the hash of a card is the SHA-256 of these bytes."""
    return json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False).encode()


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


def load(path: Path, run: Run | None = None) -> Loaded:
    """The ticket at `path` with the network that its card names.

    Args:
        path: of the ticket's file; its card is beside it.
        run: that the ticket has to be of; None: any.

    Raises:
        ValueError: the ticket is of another run; or see `read`.
    """
    card = read_card(path)
    if run is not None and card.run != run.model_dump():
        raise ValueError(f"{path} is the ticket of another run, not of {run.slug()}: train it again.")
    content = _stored(path, card)
    generator = torch.Generator().manual_seed(0)
    model = build(card.run["model"], card.in_shape, len(card.classes), generator)
    mask = _fill(path, card, content, model)
    return Loaded(model.eval(), mask, card)


def read(path: Path, model: nn.Module) -> MaskSet:
    """Reads a ticket into `model`, in place, and returns its mask. It runs nothing from the file.

    Checked in this order: the file's size and hash, its size after zlib, names, shapes and types,
    whether all values are finite, and the weights kept of each layer.

    Raises:
        ValueError: the ticket or its card is missing or damaged, the two contradict each other, or
            the ticket is of another network. `model` is then untouched.
    """
    card = read_card(path)
    return _fill(path, card, _stored(path, card), model)


def read_card(path: Path) -> Card:
    """The card of the ticket at `path`.

    Raises:
        ValueError: one of the two files is missing, or the card is damaged or impossible.
    """
    for file in (path, card_path(path)):
        if not file.exists():
            raise ValueError(
                f"{file} is not there: a ticket is two files, copy both or run the experiment again."
            )
    try:
        values = json.loads(card_path(path).read_text(encoding="utf-8"))
        return Card(**values | {"in_shape": tuple(values["in_shape"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{card_path(path)} is not a whole card ({error}): copy it again."
        ) from error


def _stored(path: Path, card: Card) -> bytes:
    """The file's bytes, after its size and its hash."""
    size = path.stat().st_size
    if size != card.bytes:
        raise ValueError(
            f"{path} has {size} bytes and not the {card.bytes} of its card: copy it again."
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise ValueError(
            f"{path} is not what its card describes, "
            f"sha256 {found[:12]}, expected {card.sha256[:12]}: copy it again."
        )
    return content


def _fill(path: Path, card: Card, content: bytes, model: nn.Module) -> MaskSet:
    """Fills `model` from the stored bytes, once all of them are checked."""
    state = model.state_dict()
    expected = {name: _kind(value) for name, value in state.items()}
    for layer in card.layers:
        n_bytes = math.ceil(layer["total"] / 8)
        expected[KEPT_ZEROS + layer["layer"]] = f"uint8 ({n_bytes},)"
    largest = HEADER_BYTES + sum(2 * value.nbytes for value in state.values())
    unpacked = _unpacked(path, card, content, largest)
    try:
        stored = from_bytes(unpacked)
    except Exception as error:
        raise ValueError(f"{path} is not a safetensors file ({error}): train it again.") from error
    _check_names(path, {name: _kind(value) for name, value in stored.items()}, expected)
    try:
        _check_finite(stored)
        mask = {layer["layer"]: _kept(layer, stored) for layer in card.layers}
    except ValueError as error:
        raise ValueError(f"{path} contradicts itself or its card: {error}") from error
    model.load_state_dict({name: stored[name] for name in state})
    return MaskSet(mask)


def _unpacked(path: Path, card: Card, content: bytes, largest: int) -> bytes:
    """The bytes after zlib, as many as the card states and never more."""
    stated = card.unpacked_bytes
    if stated > largest:
        raise ValueError(
            f"{path} unpacks to {stated} bytes, expected at most {largest}: "
            "build the network that the ticket was made with."
        )
    decompressor = zlib.decompressobj()
    try:
        unpacked = decompressor.decompress(content, stated + 1)
    except zlib.error as error:
        raise ValueError(f"{path} is not compressed by zlib ({error}): train it again.") from error
    if len(unpacked) != stated or not decompressor.eof or decompressor.unused_data:
        raise ValueError(
            f"{path} does not unpack to the {stated} bytes of its card: train it again."
        )
    return unpacked


def _check_names(path: Path, stored: dict[str, str], expected: dict[str, str]) -> None:
    """Compares names, types and shapes."""
    for name in sorted(stored.keys() | expected.keys()):
        there = stored.get(name, "missing")
        here = expected.get(name, "missing")
        if there != here:
            raise ValueError(
                f"{path}: {name} is {there} in the ticket and {here} in the network: "
                "build the network that the ticket was made with."
            )


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")


def _check_finite(stored: Mapping[str, Tensor]) -> None:
    for name, value in stored.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} has a value that is not finite, train it again.")


def _kept(layer: dict[str, Any], stored: Mapping[str, Tensor]) -> Tensor:
    """A layer's mask; ValueError where it contradicts the weights or the card's row of the layer."""
    name = layer["layer"]
    weight = stored[name]
    if weight.numel() != layer["total"]:
        raise ValueError(f"{name} has {weight.numel()} weights and {layer['total']} on the card.")
    bits = np.unpackbits(stored[KEPT_ZEROS + name].numpy(), bitorder="big")
    kept_zeros = torch.from_numpy(bits[: weight.numel()].astype(bool)).reshape(weight.shape)
    if bits[weight.numel() :].any() or weight[kept_zeros].any():
        raise ValueError(f"{KEPT_ZEROS}{name} marks weights that are not 0.")
    kept = (weight != 0) | kept_zeros
    n_kept = int(kept.count_nonzero())
    if n_kept != layer["kept"]:
        raise ValueError(f"{name} keeps {n_kept} weights and {layer['kept']} on the card.")
    return kept


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
        "and `masks` are True where a weight is kept."
    ]
    lines += ["", "```python", *card.reading, "```", ""]
    lines += ["## Intended use", "", card.intended_use, "", "## Limits", ""]
    lines += [f"* {limit}" for limit in card.limits]
    return "\n".join(lines) + "\n"


def _facts(card: Card) -> dict[str, str]:
    run = {name: value for name, value in card.run.items() if value is not None}
    images = ", ".join(f"{n:,} {split}" for split, n in card.data["images"].items())
    network = f"{card.run['model']}, {card.kept:,} of {card.total:,} weights kept"
    alive = ", ".join(f"{n:,} of {layer}" for layer, n in card.kept_alive.items())
    facts = {
        "network": network,
        "kept so that no layer is empty": alive,
        "run": ", ".join(f"{name} {value}" for name, value in run.items()),
        "input": "; ".join(f"{name}: {value}" for name, value in card.input.items()),
        "size, sha256": f"{card.bytes:,} bytes, {card.sha256}",
        "data": f"{card.run['dataset']} ({card.data['licence']}), images: {images}",
        "fingerprint of the data": card.data["sha256"][:16],
        "target": f"{card.target}, fairness over {card.group_by}",
        "made with": ", ".join(f"{name} {card.conditions[name]}" for name in CONDITIONS),
    }
    return {name: _text(value) for name, value in facts.items() if value}


def _results(card: Card) -> list[str]:
    """Two tables: the metrics, each with its interval or its noise floor, and the groups."""
    correct, total = card.test.by_group()
    found = results.measures(correct, total)
    overall = metrics.share_interval(correct.sum(), total.sum())
    error = metrics.cwv_error(correct, total) if (total > 0).all() else math.nan
    beside = {
        "accuracy": f"95 % interval {_number(overall.low, 100)} to {_number(overall.high, 100)}",
        "cwv": f"standard error {_number(error, 1e4)}, chance alone {_number(found['cwv_floor'], 1e4)}",
        "mcd": f"chance alone {_number(found['mcd_floor'], 100)}",
    }
    rows = [
        ["accuracy %", _number(found["accuracy"], 100), beside["accuracy"]],
        ["CWV × 10⁴, 0 is fair", _number(found["cwv"], 1e4), beside["cwv"]],
        ["MCD, points, 0 is fair", _number(found["mcd"], 100), beside["mcd"]],
    ]
    groups = [_group(*cell) for cell in zip(card.groups, correct, total, strict=True)]
    heads = ["group", "right", "images", "accuracy %", "95 % interval"]
    return [*_table(["metric", "value", "compared with"], rows), "", *_table(heads, groups)]


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

    Signs that Markdown reads become HTML entities. `$` and `\\` begin formulas also as entities, and
    stand in an element of their own, across which MathJax does not look.
    """
    escaped = html.escape(" ".join(value.split()), quote=False)
    escaped = MARKUP.sub(lambda sign: f"&#{ord(sign[0])};", escaped)
    return FORMULA.sub(lambda sign: f"<span>&#{ord(sign[0])};</span>", escaped)


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """The values with None for nan and infinity, which JSON does not know."""
    return {name: None if _is_nan(value) else value for name, value in values.items()}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
