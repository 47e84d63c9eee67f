"""Trainings that several methods share, done once for a task and seed.

They are kept as files that are named after all that decides them.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterable
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
from fairlth.images import Data
from fairlth.lottery import Dense, Found, Ticket, train_dense
from fairlth.masks import MaskSet, prunable
from fairlth.models import build
from fairlth.training import PASSES, State, low_precision, snapshot

DENSE = (
    "images",
    "data",
    "models",
    "masks",
    "conflict",
    "training",
    "lottery",
)  # code of a training
SEARCH = (  # code of a search
    *DENSE,
    *("selection", "ballot", "methods/plain", "methods/ballots"),
    *("config/method_table", "config/schema"),  # how many levels, how long, how many weights
)
SETTINGS = {"schedule", "rewind_epochs", "keep_per_level"}  # of the preset, which decide a ticket


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
    """The dense training of the run's task and seed, done once for all methods."""
    network = fresh(run, data)

    def make() -> Kept:
        made = train_dense(run, data, network)
        states = {"rewind": made.rewind, "trained": made.trained, "conflict": made.conflict}
        return Kept(_joined(states))

    kept = shared("dense", run, data, make, {"schedule", "rewind_epochs"}, DENSE)
    parts = [part(kept.tensors, f"{name}/") for name in ("rewind", "trained", "conflict")]
    return Dense(network, *parts)


def fresh(run: Run, data: Data) -> nn.Module:
    """The run's network, the same initial weights for every method of a seed, on data's device."""
    generator = torch.Generator().manual_seed(config.seed_for(run.seed, "init"))
    network = build(run.model, data.in_shape, data.train.n_classes, generator)
    return network.to(data.train.x.device)


def found_once(kind: str, run: Run, data: Data, dense: Dense, search: Search) -> Found:
    """What `search` finds, done once for all methods of a task, seed and density of this kind."""

    def make() -> Kept:
        found = search(run, data, dense)
        tensors = _joined({"mask": dict(found.mask), "state": snapshot(found.model)})
        notes = {"epochs": found.epochs, "found": found.notes, "rescued": found.mask.rescued}
        return Kept(tensors, notes)

    kept = shared(kind, run, data, make, SETTINGS, SEARCH, run.density)
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

    kept = shared(kind, run, data, make, SETTINGS, SEARCH, run.density)
    found.model.load_state_dict(kept.tensors)
    return Ticket(found.model, found.mask, kept.notes["cost"])


def part(tensors: State, prefix: str) -> State:
    """The tensors whose names start with a prefix, without it."""
    own = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors[name] for name in own}


def _joined(parts: dict[str, State]) -> State:
    """Tensors of several parts, each named `<part>/<name>`."""
    return {
        f"{prefix}/{name}": value for prefix, part in parts.items() for name, value in part.items()
    }


def shared(
    kind: str,
    run: Run,
    data: Data,
    make: Callable[[], Kept],
    settings: set[str],
    code: Iterable[str] = (),
    told: Any = (),
) -> Kept:
    """What `make` gives, read where it was made before, else made now and written.

    The file's name holds a digest of what decides the content: training images and labels, network,
    seed, the named settings, code, device, threads, the version of torch. A damaged file is made
    anew; one that cannot be written is done without.

    Args:
        kind: what it is, for the file's name.
        run, data: of the method that asks; methods that agree in what is told here share.
        make: trains.
        settings: fields of the preset that decide it.
        code: modules that decide it.
        told: what else decides it, such as a density.
    """
    named = run.settings.model_dump_json(include=settings)
    fingerprint = paths.code_fingerprint(code)
    model = run.model + models.fingerprint(run.model)
    path = shared_path(
        run, kind, _digest(data, model, config.seed_for(run.seed, kind), named, fingerprint, told)
    )
    if (kept := UNWRITTEN.get(path) or _read(path, data.train.y.device)) is not None:
        return kept
    started = time.perf_counter()
    images = PASSES.images
    before = set(LEDGER.made)
    kept = make()
    inside = [
        effort for one, effort in LEDGER.made.items() if one not in before
    ]  # that it made on its way
    seconds = time.perf_counter() - started - sum(effort.seconds for effort in inside)
    LEDGER.made[path] = Effort(
        seconds, PASSES.images - images - sum(effort.images for effort in inside)
    )
    _write(kept, path)
    return kept


def _digest(data: Data, *decides: Any) -> str:
    split = data.train
    threads = torch.get_num_threads() if split.y.device.type == "cpu" else 0
    low = low_precision(
        Schedule(epochs=1, precision="bfloat16"), split.y.device
    )  # what the device can do decides, too
    about = (
        split.x.shape,
        split.n_classes,
        split.n_groups,
        data.mirror,
        split.y.device.type,
        threads,
        low,
        torch.__version__,
    )
    digest = hashlib.sha256(repr((about, decides)).encode())
    for tensor in (split.x, split.y, split.group):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _write(kept: Kept, path: Path) -> None:
    """Writes it, unless somebody else was first; what cannot be written stays in memory."""
    if path.exists():
        return
    tensors = {name: value.contiguous().cpu() for name, value in kept.tensors.items()}
    notes = json.dumps({"notes": kept.notes, "effort": LEDGER.made[path]})
    try:
        paths.write_atomically(path, save(tensors, {"notes": notes}))
    except OSError as error:
        warnings.warn(f"{error} It is not shared with other runs.", stacklevel=4)
        UNWRITTEN[path] = kept


def _read(path: Path, device: torch.device) -> Kept | None:
    """What the file holds; None where there is none or it is damaged, which is then removed."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone().to(device) for name in file.keys()}  # noqa: SIM118, not a dict
            header = json.loads(file.metadata()["notes"])
    except Exception as error:
        warnings.warn(
            f"{path} is not a whole shared training ({error}): it is made anew now.", stacklevel=4
        )
        path.unlink(missing_ok=True)
        return None
    if path not in LEDGER.made:
        LEDGER.read[path] = Effort(*header["effort"])
    return Kept(tensors, header["notes"])
