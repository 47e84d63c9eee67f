"""A ticket on disk: one compressed safetensors file that any program can open, and its card.

The file is a safetensors file compressed by zlib. Its keys are the network's own state-dict names.
Its values are dense, with pruned weights 0. For each prunable weight, `kept_zeros/<name>` has one
bit per value (uint8, in the order of `numpy.packbits`, the first value in the highest bit). The bit
is 1 where a weight is kept and happens to be 0, so the mask is `(weight != 0) | kept_zeros`. Plain
masks would repeat what the zeros show and make a file of density 0.05 a tenth larger.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from fairlth.analysis.records import Record
from fairlth.bias_shift import ROOM, make_room
from fairlth.config import Run, paths
from fairlth.images import Data
from fairlth.masks import MaskSet
from fairlth.methods import Ticket
from fairlth.models import build
from fairlth.models.checks import check_no_masks
from fairlth.shipping.card import Card, Parent, card_bytes, card_of

ENDING = ".safetensors.zlib"
KEPT_ZEROS = "kept_zeros/"
HEADER_BYTES = 1 << 20  # more than the names and shapes of any network here take


class Loaded(NamedTuple):
    """A ticket from disk: the network in evaluation mode, pruned weights 0; its mask; its card."""

    model: nn.Module
    mask: MaskSet
    card: Card


def card_path(path: Path) -> Path:
    """Where the card of a ticket is stored: beside it, with the ending .json."""
    return path.with_name(path.name.removesuffix(ENDING) + ".json")


def write(
    ticket: Ticket,
    record: Record,
    data: Data,
    path: Path,
    parent: Parent | None = None,
    dense: Record | None = None,
) -> None:
    """Writes a ticket and then its card, each whole or not at all.

    Args:
        ticket: what the method returned.
        record, data: of its run.
        path: of the ticket, ending in `ENDING`.
        parent: the ticket that it goes on from, if any.
        dense: the record of the dense net of the seed, where it is at hand.

    Raises:
        ValueError: a pruned weight is not 0, or a value is not finite.
        OSError: the files cannot be written.
    """
    unpacked = to_bytes(tensors(ticket.model, ticket.mask), {"run": json.dumps(record.run)})
    content = zlib.compress(unpacked, 9)
    parameters = sum(value.numel() for value in ticket.model.parameters())
    card = card_of(record, data, path.name, content, len(unpacked), parent, parameters, dense)
    paths.write_atomically(path, content)
    paths.write_atomically(card_path(path), card_bytes(card))


def tensors(model: nn.Module, mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a ticket's file includes: the state dict, and `kept_zeros/<name>` of each mask.

    Raises:
        ValueError: a pruned weight is not 0, a value is not finite, or the network has masks of
            `torch.nn.utils.prune`.
    """
    check_no_masks(type(model).__name__, model)
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


def load(path: Path, run: Run | None = None) -> Loaded:
    """The ticket at `path` with the network that its card names.

    Args:
        path: of the ticket's file; its card is beside it.
        run: that the ticket has to be of, from the dense network on; None: any.

    Raises:
        ValueError: the ticket is of another run or goes on from another ticket; or see `read`.
    """
    card = read_card(path)
    of_run = card.parent is None and run is not None and card.run == run.model_dump()
    if run is not None and not of_run:
        raise ValueError(
            f"{path} is the ticket of another run, not of {run.slug()}: train it again."
        )
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
            the ticket is of another network, or the network has masks of `torch.nn.utils.prune`.
            `model` is then untouched.
    """
    check_no_masks(type(model).__name__, model)
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
                f"{file} is not there: a ticket is two files, "
                "copy both or run the experiment again."
            )
    try:
        values = json.loads(card_path(path).read_text(encoding="utf-8"))
        values["in_shape"] = tuple(values["in_shape"])
        if "parent" in values:
            values["parent"] = Parent(**values["parent"])
        return Card(**values)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
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
    if ROOM in stored:  # the network's last layer has no biases to shift
        expected[ROOM] = f"float32 ({len(card.classes)},)"
    _check_names(path, {name: _kind(value) for name, value in stored.items()}, expected)
    try:
        _check_finite(stored)
        mask = {layer["layer"]: _kept(layer, stored) for layer in card.layers}
    except ValueError as error:
        raise ValueError(f"{path} contradicts itself or its card: {error}") from error
    if ROOM in stored:
        make_room(model, len(card.classes))
    model.load_state_dict({name: stored[name] for name in model.state_dict()})
    return MaskSet(mask, card.kept_alive)


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
    """A layer's mask; ValueError where it contradicts the weights or the card."""
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
