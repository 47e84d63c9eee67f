"""Trainings that several methods share, done once for a task and seed.

They are kept as files that are named after all that decides them.
"""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fairlth import config, models
from fairlth.config import Run, Schedule, paths
from fairlth.config.runs import shared_path
from fairlth.images import Data, Split
from fairlth.lottery import Dense, Found, Ticket, head_of, take_as_trained, train_dense
from fairlth.masks import MaskSet, prunable
from fairlth.models import build
from fairlth.training import PASSES, State, joined, low_precision, part, snapshot

DENSE = (  # code of a training
    *("config/runs", "config/schema", "config/method_table"),
    *("images", "data", "models", "masks", "conflict", "training", "lottery"),
)
SEARCH = (  # and of a search
    *(*DENSE, "selection", "ballot"),
    *("methods/plain", "methods/ballots", "methods/units"),
)
DENSE_CODE = paths.code_fingerprint(DENSE)  # now: files may change while a process runs
SEARCH_CODE = paths.code_fingerprint(SEARCH)
SETTINGS = {  # of the preset, which decide a ticket
    *("schedule", "rewind_epochs", "keep_per_level"),
    *("count_flops", "round_units"),  # told where they are set
}


Search = Callable[[Run, Data, Dense], Found]


@dataclass(frozen=True)
class Kept:
    """What is kept of a shared training: tensors by name, and what else is to be remembered."""

    tensors: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)


class Effort(NamedTuple):
    """What a shared training took without those that it shares itself: seconds, and images passed
    (see `training.Passes`).
    """

    seconds: float
    images: float


@dataclass
class Ledger:
    """What the shared trainings took that a run has made itself, and those that it has read
    instead.
    """

    made: dict[Path, Effort] = field(default_factory=dict)
    read: dict[Path, Effort] = field(default_factory=dict)

    def clear(self) -> None:
        """Forgets the run before."""
        self.made.clear()
        self.read.clear()

    def read_seconds(self) -> float:
        """Seconds of all that was read."""
        return sum(effort.seconds for effort in self.read.values())

    def read_images(self) -> float:
        """Images passed for all that was read."""
        return sum(effort.images for effort in self.read.values())


LEDGER = Ledger()  # of the run under way in this process
UNWRITTEN: dict[Path, Kept] = {}  # what could not be written, for the rest of this process


def dense_once(run: Run, data: Data) -> Dense:
    """The dense training of the run's task and seed, done once for all methods.

    A network of your own that was given as trained is taken as it is.
    """
    network = fresh(run, data)
    trained = models.given_as_trained(run.model)
    make_dense = take_as_trained if trained else train_dense

    def make() -> Kept:
        made = make_dense(run, data, network)
        states = {"rewind": made.rewind, "trained": made.trained, "conflict": made.conflict}
        return Kept(joined(states))

    kept = shared("dense", run, data, make, {"schedule", "rewind_epochs"}, DENSE_CODE)
    names = ("rewind", "trained", "conflict")
    rewind, end, conflict = (part(kept.tensors, f"{name}/") for name in names)
    epochs = 0 if trained else run.settings.schedule.epochs
    return Dense(network, head_of(network, data), rewind, end, conflict, epochs)


def fresh(run: Run, data: Data) -> nn.Module:
    """The run's network, the same initial weights for every method of a seed, on data's device."""
    generator = torch.Generator().manual_seed(config.seed_for(run.seed, "init"))
    network = build(run.model, data.in_shape, data.train.n_classes, generator)
    return network.to(data.train.x.device)


def found_once(kind: str, run: Run, data: Data, dense: Dense, search: Search) -> Found:
    """What `search` finds, done once for all methods of a task, seed and density of this kind."""

    def make() -> Kept:
        found = search(run, data, dense)
        tensors = joined({"mask": dict(found.mask), "state": snapshot(found.model)})
        notes = {"epochs": found.epochs, "found": found.notes, "rescued": found.mask.rescued}
        return Kept(tensors, notes)

    kept = shared(kind, run, data, make, SETTINGS, SEARCH_CODE, run.density)
    model = dense.at(part(kept.tensors, "state/"))
    masks = part(kept.tensors, "mask/")
    in_order = {name: masks[name] for name in prunable(model)}  # which a file does not keep
    mask = MaskSet(in_order, kept.notes["rescued"])
    return Found(model, mask, kept.notes["epochs"], kept.notes["found"])


def trained_once(
    kind: str, run: Run, data: Data, found: Found, train: Callable[[Run, Data, Found], Ticket]
) -> Ticket:
    """A found ticket as `train` trains it, done once for all methods that ask for this kind."""

    def make() -> Kept:
        ticket = train(run, data, found)
        return Kept(snapshot(ticket.model), {"cost": ticket.cost})

    kept = shared(kind, run, data, make, SETTINGS, SEARCH_CODE, run.density)
    found.model.load_state_dict(kept.tensors)
    return Ticket(found.model, found.mask, kept.notes["cost"])


def shared(
    kind: str,
    run: Run,
    data: Data,
    make: Callable[[], Kept],
    settings: set[str],
    code: str = "",
    told: float | None = None,
) -> Kept:
    """What `make` gives, read where it was made before, else made now and written.

    The file says what it is, which is all that decides its content, and has a hash of the content.
    A file that is damaged or says something else is set aside, and what it should hold is made
    anew; one that cannot be written is done without.

    Args:
        kind: what it is, for the file's name.
        run, data: of the method that asks; methods that agree in what is told here share.
        make: trains.
        settings: fields of the preset that decide it.
        code: fingerprint of the modules that decide it, as they are loaded.
        told: what else decides it: a density.
    """
    about = {
        "kind": kind,
        "dataset": run.dataset,
        "images": _digest(data.train),
        "mirror": data.mirror,
        "model": run.model,
        "network": models.fingerprint(run.model),
        "seed": run.seed,
        "settings": run.settings.model_dump(mode="json", include=settings),
        "code": code,
        "told": told,
        "computed": _computed(data.train.y.device),
    }
    digest = hashlib.sha256(_text(about).encode()).hexdigest()[:16]
    path = shared_path(run, kind, digest)
    kept = UNWRITTEN.get(path) or _read(path, about, data.train.y.device)
    if kept is not None:
        return kept
    started = time.perf_counter()
    images = PASSES.images
    before = set(LEDGER.made)
    kept = make()
    # what it made on its way
    inside = [effort for one, effort in LEDGER.made.items() if one not in before]
    seconds = time.perf_counter() - started - sum(effort.seconds for effort in inside)
    LEDGER.made[path] = Effort(
        seconds, PASSES.images - images - sum(effort.images for effort in inside)
    )
    _write(kept, path, about)
    return kept


def _digest(split: Split) -> str:
    """A hash of training images, their classes and groups."""
    sizes = (tuple(split.x.shape), split.n_classes, split.n_groups)
    digest = hashlib.sha256(repr(sizes).encode())
    for tensor in (split.x, split.y, split.group):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _computed(device: torch.device) -> dict[str, Any]:
    """What a training's bits depend on beside its input."""
    can_do = Schedule(epochs=1, precision="bfloat16")
    return {
        "device": device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "bfloat16": low_precision(can_do, device),
        "torch": torch.__version__,
    }


def _text(values: Any) -> str:
    return json.dumps(values, sort_keys=True)


def _write(kept: Kept, path: Path, about: dict[str, Any]) -> None:
    """Writes it, unless somebody else was first; what cannot be written stays in memory."""
    if path.exists():
        return
    tensors = {name: value.contiguous().cpu() for name, value in kept.tensors.items()}
    header = {"about": _text(about), "notes": json.dumps(kept.notes)}
    header["effort"] = _text(LEDGER.made[path])
    header["sha256"] = _hash(tensors, header)
    try:
        paths.write_atomically(path, save(tensors, header))
    except OSError as error:
        warnings.warn(f"{error} It is not shared with other runs.", stacklevel=4)
        UNWRITTEN[path] = kept


def _read(path: Path, about: dict[str, Any], device: torch.device) -> Kept | None:
    """What the file has; None where there is none, or none that is what its name says."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118, not a dict
        _check(header, tensors, about)
        notes = json.loads(header["notes"])
        effort = Effort(*json.loads(header["effort"]))
    except Exception as error:
        _set_aside(path, error)
        return None
    if path not in LEDGER.made:
        LEDGER.read[path] = effort
    return Kept({name: value.to(device) for name, value in tensors.items()}, notes)


def _check(header: dict[str, str], tensors: State, about: dict[str, Any]) -> None:
    """Raises ValueError unless a file says it is this training and has what was written."""
    missing = {"about", "notes", "effort", "sha256"} - set(header)
    if missing:
        raise ValueError("it does not say what it is")
    found = json.loads(header["about"])
    expected = json.loads(_text(about))
    differing = [name for name in expected if found.get(name) != expected[name]]
    if found != expected:
        named = f", other {', '.join(differing)}" if differing else ""
        raise ValueError(f"it is another training{named}")
    if header["sha256"] != _hash(tensors, header):
        raise ValueError("its content is not what was written")


def _hash(tensors: State, header: dict[str, str]) -> str:
    """A hash of tensors on the CPU and of all that the header says."""
    told = {name: text for name, text in header.items() if name != "sha256"}
    digest = hashlib.sha256(_text(told).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _set_aside(path: Path, error: Exception) -> None:
    """Moves a file that cannot be used to a free name beside it and says so."""
    aside = paths.free_name(path.with_name(f"{path.name}.aside"))
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    try:
        os.replace(path, aside)
        told = f"it is {aside.name} now and made anew"
    except OSError:  # another process has moved it, or nobody can
        told = "it is made anew"
    warnings.warn(f"{path} is not this shared training ({reason}): {told}.", stacklevel=5)
