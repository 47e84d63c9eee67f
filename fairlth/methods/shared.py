"""Trainings that several methods share: done once for a task and seed, kept as files named after all that decides them."""

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
from torch import Tensor

from fairlth import config, models
from fairlth.config import Run, Schedule
from fairlth.images import Data
from fairlth.training import PASSES, low_precision

TRAINING = ("images", "data", "models", "training", "methods/base")  # the modules whose code decides every training


@dataclass(frozen=True)
class Kept:
    """What is kept of a shared training: tensors by name, and what else is to be remembered."""

    tensors: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)


class Effort(NamedTuple):
    """What a shared training took without those that it shares itself: seconds, and images passed (see `training.Passes`)."""

    seconds: float
    images: float


@dataclass
class Ledger:
    """What the shared trainings took that a run has made itself, and those that it has read instead."""

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


def shared(
    kind: str, run: Run, data: Data, make: Callable[[], Kept], settings: set[str], code: Iterable[str] = (), told: Any = ()
) -> Kept:
    """What `make` gives, read where it was made before, else made now and written.

    The file's name holds a digest of what decides the content: training images and labels, network, seed, the named settings,
    code, device, threads, the version of torch. A damaged file is made anew; one that cannot be written is done without.

    Args:
        kind: what it is, for the file's name.
        run, data: of the method that asks; methods that agree in what is told here share.
        make: trains.
        settings: fields of the preset that decide it.
        code: modules that decide it beside TRAINING.
        told: what else decides it, such as a density.
    """
    named = run.settings.model_dump_json(include=settings)
    fingerprint = config.code_fingerprint([*TRAINING, *code])
    model = run.model + models.fingerprint(run.model)
    path = config.shared_path(run, kind, _digest(data, model, config.seed_for(run.seed, kind), named, fingerprint, told))
    if (kept := UNWRITTEN.get(path) or _read(path, data.train.y.device)) is not None:
        return kept
    started = time.perf_counter()
    images = PASSES.images
    before = set(LEDGER.made)
    kept = make()
    inside = [effort for one, effort in LEDGER.made.items() if one not in before]  # that it made on its way
    seconds = time.perf_counter() - started - sum(effort.seconds for effort in inside)
    LEDGER.made[path] = Effort(seconds, PASSES.images - images - sum(effort.images for effort in inside))
    _write(kept, path)
    return kept


def _digest(data: Data, *decides: Any) -> str:
    split = data.train
    threads = torch.get_num_threads() if split.y.device.type == "cpu" else 0
    low = low_precision(Schedule(epochs=1, precision="bfloat16"), split.y.device)  # what the device can do decides, too
    about = (split.x.shape, split.n_classes, split.n_groups, data.mirror, split.y.device.type, threads, low, torch.__version__)
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
        config.write_atomically(path, save(tensors, {"notes": notes}))
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
        warnings.warn(f"{path} is not a whole shared training ({error}): it is made anew now.", stacklevel=4)
        path.unlink(missing_ok=True)
        return None
    if path not in LEDGER.made:
        LEDGER.read[path] = Effort(*header["effort"])
    return Kept(tensors, header["notes"])
