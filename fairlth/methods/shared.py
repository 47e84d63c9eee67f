"""Trainings that several methods share: done once for a task and seed, kept as files named after all that decides them."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fairlth import config
from fairlth.config import Run
from fairlth.data import Data

TRAINING = ("sources", "data", "models", "training", "methods/base")  # the modules whose code decides every training


@dataclass(frozen=True)
class Kept:
    """What is kept of a shared training: tensors by name, and what else is to be remembered."""

    tensors: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)


def shared(
    kind: str, run: Run, data: Data, make: Callable[[], Kept], settings: set[str], code: Iterable[str] = (), told: Any = ()
) -> Kept:
    """What `make` gives, read where it was made before, else made now and written.

    The file's name holds a digest of everything that decides the content: training images and labels, network, seed, the
    named settings, code, the version of torch. So a file is never out of date, only unused; a damaged one is made anew.

    Args:
        kind: what it is, for the file's name.
        run, data: of the method that asks; methods that agree in what is told here share.
        make: trains.
        settings: fields of the preset that decide it.
        code: modules that decide it beside TRAINING.
        told: what else decides it, such as a density.
    """
    named = run.settings.model_dump_json(include=settings)
    decides = (run.model, run.seed, named, data.mirror, config.code_fingerprint([*TRAINING, *code]), torch.__version__, told)
    path = config.shared_path(run, kind, _digest(data, repr(decides)))
    if path.exists():
        try:
            return _read(path, data.train.x.device)
        except Exception as error:
            warnings.warn(f"{path} is not a whole shared training ({error}): it is made anew now.", stacklevel=3)
    kept = make()
    tensors = {name: value.contiguous().cpu() for name, value in kept.tensors.items()}
    config.write_atomically(path, save(tensors, {"notes": json.dumps(kept.notes)}))
    return _read(path, data.train.x.device)


def _digest(data: Data, decides: str) -> str:
    digest = hashlib.sha256(decides.encode())
    for tensor in (data.train.x, data.train.y, data.train.group):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path, device: torch.device) -> Kept:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).clone().to(device) for name in file.keys()}  # noqa: SIM118, not a dict
        return Kept(tensors, json.loads(file.metadata()["notes"]))
