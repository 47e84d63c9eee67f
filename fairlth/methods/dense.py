"""The dense network: what pruning starts from and is measured against, trained once and shared by all methods of a seed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from fairlth import config, metrics
from fairlth.config import Run
from fairlth.data import Data, Split
from fairlth.masks import MaskSet
from fairlth.methods.base import Ticket, fresh_model
from fairlth.models import prunable
from fairlth.training import State, fit, predict, snapshot

DECIDES = ("sources", "data", "models", "training")  # the modules whose code decides the dense net


@dataclass(frozen=True)
class Dense:
    """One dense training: theta_k, the state after the rewind epochs, and the trained state."""

    rewind: State
    trained: State


def dense(run: Run, data: Data) -> Ticket:
    """Trains the whole network for the schedule's epochs; the mask keeps every weight.

    Momentum starts afresh at the rewind point, as it does in every ticket, so that the dense net is a ticket of density 1.
    """
    model = dense_model(run, data)
    return Ticket(model, MaskSet.full(prunable(model)), cost=1.0)


def dense_model(run: Run, data: Data) -> nn.Module:
    """The trained dense net of the run's task and seed, from the shared training."""
    model = fresh_model(run, data)
    model.load_state_dict(shared(run, data).trained)
    return model


def floor(run: Run, data: Data) -> float:
    """The accuracy that a fair ticket has to keep: the dense net's on validation data less the preset's epsilon."""
    return metrics.accuracy(*predict(dense_model(run, data), data.val)) - run.settings.epsilon


def shared(run: Run, data: Data) -> Dense:
    """The dense training of the run's task and seed: read where it was done before, else done now and written.

    The file's name holds a digest of all that decides its content: training images and labels, model, seed, settings, code.
    """
    path = config.dense_path(run, _digest(run, data))
    if not path.exists():
        trained = _train(run, data)
        parts = {f"rewind/{name}": value for name, value in trained.rewind.items()}
        parts |= {f"trained/{name}": value for name, value in trained.trained.items()}
        config.write_atomically(path, save({name: value.contiguous().cpu() for name, value in parts.items()}))
    return _read(path, data.train.x.device)


def _train(run: Run, data: Data) -> Dense:
    model, schedule, k = fresh_model(run, data), run.settings.schedule, run.settings.rewind_epochs
    fit(model, data, schedule, seed=run.seed, stop=k, label="to the rewind point")
    rewind = snapshot(model)
    fit(model, data, schedule, seed=run.seed, start=k, label="dense")
    return Dense(rewind, snapshot(model))


def _read(path: Path, device: torch.device) -> Dense:
    tensors = {name: value.to(device) for name, value in load_file(path).items()}
    return Dense(_part(tensors, "rewind/"), _part(tensors, "trained/"))


def _part(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _digest(run: Run, data: Data) -> str:
    settings = run.settings.model_dump_json(include={"schedule", "rewind_epochs"})
    told = (run.model, run.seed, settings, data.mirror, config.code_fingerprint(DECIDES), torch.__version__)
    digest = hashlib.sha256(repr(told).encode())
    for tensor in _tensors(data.train):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _tensors(split: Split) -> tuple[torch.Tensor, ...]:
    return split.x, split.y, split.group
