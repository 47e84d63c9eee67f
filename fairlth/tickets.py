"""A ticket on disk: tensors without code in one safetensors file, and its card beside it."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from fairlth import config
from fairlth.cards import Card, card_of
from fairlth.images import Data
from fairlth.masks import MaskSet
from fairlth.methods import Ticket
from fairlth.models import build
from fairlth.packing import pack, unpack
from fairlth.results import Record
from fairlth.shift import ROOM, make_room


class Loaded(NamedTuple):
    """A ticket from disk: the network in evaluation mode, its pruned weights 0; its mask; its card."""

    model: nn.Module
    mask: MaskSet
    card: Card


def card_path(path: Path) -> Path:
    """Where the card of a ticket lies: beside it, with the ending .json."""
    return path.with_suffix(".json")


def write(ticket: Ticket, record: Record, data: Data, path: Path) -> None:
    """Writes a ticket and then its card, each whole or not at all.

    Of masked tensors the kept values and their places are stored (see `packing`), of the others all values.

    Args:
        ticket: what the method returned.
        record, data: of its run.
        path: of the ticket, ending in .safetensors.
    """
    content = to_bytes(tensors(ticket.model, ticket.mask), {"run": json.dumps(record.run)})
    config.write_atomically(path, content)
    card = card_of(record, data, path.name, content)
    config.write_atomically(card_path(path), json.dumps(card.model_dump(), indent=1, ensure_ascii=False).encode())


def tensors(model: nn.Module, mask: MaskSet) -> dict[str, Tensor]:
    """What a ticket's file holds: `state/<name>`, and of what is masked `<part>/<name>` for each part of `packing.pack`."""
    state = model.state_dict()
    found = {f"state/{name}": value.cpu().contiguous() for name, value in state.items() if name not in mask}
    for name, kept in mask.items():
        found |= {f"{part}/{name}": value for part, value in pack(state[name], kept).items()}
    return found


def load(path: Path) -> Loaded:
    """The ticket at `path` with the network that its card names.

    Raises:
        ValueError: see `read`.
    """
    card = read_card(path)
    model = build(card.model, tuple(card.in_shape), card.n_classes, torch.Generator().manual_seed(0))
    return Loaded(model.eval(), read(path, model), card)


def read(path: Path, model: nn.Module) -> MaskSet:
    """Reads a ticket into `model`, in place, and returns its mask. Reading runs nothing that the file holds.

    Raises:
        ValueError: the ticket or its card is missing, the file is not the one that the card describes or not safetensors, or
            its names, shapes or types are not the model's, which is then untouched.
    """
    card, content = read_card(path), path.read_bytes()
    if len(content) != card.bytes:
        raise ValueError(
            f"{path} has {len(content)} bytes and not the {card.bytes} of its card: it was cut short, copy it again."
        )
    if (found := hashlib.sha256(content).hexdigest()) != card.sha256:
        raise ValueError(
            f"{path} is not what its card describes, sha256 {found[:12]}, expected {card.sha256[:12]}: copy it again."
        )
    try:
        stored = from_bytes(content)
    except Exception as error:
        raise ValueError(f"{path} is not a safetensors file ({error}): it is refused, train the ticket again.") from error
    if f"state/{ROOM}" in stored:  # the network's last layer has no biases to shift
        make_room(model, card.n_classes)
    state, mask = _state_and_mask(path, stored, model)
    model.load_state_dict(state)
    return MaskSet(mask)


def read_card(path: Path) -> Card:
    """The card of the ticket at `path`; ValueError where one of the two is not there or the card is not whole."""
    for file in (path, card_path(path)):
        if not file.exists():
            raise ValueError(f"{file} is not there: a ticket is two files, copy both or run the experiment again.")
    try:
        return Card(**json.loads(card_path(path).read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{card_path(path)} is not a whole card ({error}): copy it again.") from error


def _state_and_mask(path: Path, stored: dict[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dict and masks; names, shapes and types are compared with the model's before anything is unpacked."""
    parts = _by_name(stored)
    ours = {name: _kind({"state": value}) for name, value in model.state_dict().items()}
    theirs = {name: _kind(found) for name, found in parts.items()}
    for name in sorted(ours.keys() | theirs.keys()):
        if (here := ours.get(name, "missing")) != (there := theirs.get(name, "missing")):
            raise ValueError(f"{path}: {name} is {there} in the ticket and {here} in the model: build the ticket's model.")
    state = {name: found["state"] for name, found in parts.items() if "state" in found}
    try:
        packed = {name: unpack(found) for name, found in parts.items() if name not in state}
    except ValueError as error:
        raise ValueError(f"{path} is not a whole ticket ({error}): train it again.") from error
    return state | {name: weight for name, (weight, _) in packed.items()}, {name: mask for name, (_, mask) in packed.items()}


def _by_name(stored: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Parameter name -> part -> tensor."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in stored.items():
        part, _, name = key.partition("/")
        found.setdefault(name, {})[part] = value
    return found


def _kind(parts: dict[str, Tensor]) -> str:
    """Type and shape of what the parts stand for."""
    if "state" in parts:
        return f"{parts['state'].dtype} {tuple(parts['state'].shape)}".removeprefix("torch.")
    if {"values", "shape"} <= set(parts) and {"bits", "gaps"} & set(parts):
        return f"{parts['values'].dtype} {tuple(parts['shape'].tolist())}".removeprefix("torch.")
    return "incomplete"
