"""What happens in every module of a network when it is called: which draws, which differs."""

import random
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


class Call(NamedTuple):
    """One call of a module, in the order in which calls end: a module stands after its parts.

    `took` and `gave` are checksums of its inputs and outputs; `drew` tells whether the state of
    torch's global generator changed in it, `drew_elsewhere` whether numpy's or Python's did.
    """

    module: str
    took: int
    gave: int
    drew: bool
    drew_elsewhere: bool
    output: Any  # of the network itself alone, else None


class _Watch:
    """Hooks that write down every call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.open: list[tuple[int, int, int]] = []  # checksum of inputs, states of generators

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.open.append((_checksum((args, kwargs)), _of_torch(), _elsewhere()))

    def after(self, name: str, output: Any) -> None:
        took, of_torch, elsewhere = self.open.pop()
        drew = _of_torch() != of_torch
        drew_elsewhere = _elsewhere() != elsewhere
        kept = None if name else output
        self.calls.append(Call(name, took, _checksum(output), drew, drew_elsewhere, kept))


def run(model: nn.Module, x: Tensor) -> list[Call]:
    """All calls of modules while the network runs on images x, the network's own last."""
    watch = _Watch()
    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(watch.before, with_kwargs=True))
            handles.append(module.register_forward_hook(_after(watch, name)))
        with torch.no_grad(), torch.inference_mode(not model.training):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return watch.calls


def unsteady(first: Iterable[Call], second: Iterable[Call]) -> str | None:
    """The first module that gave other outputs for the same inputs in another run, if any."""
    seen: dict[tuple[str, int], list[int]] = {}
    for call in first:
        seen.setdefault((call.module, call.took), []).append(call.gave)
    for call in second:
        gave = seen.get((call.module, call.took))
        if gave and call.gave not in gave:
            return call.module
    return None


def innermost(names: Iterable[str]) -> list[str]:
    """The modules of which no part is among them, in their order, each once."""
    unique = list(dict.fromkeys(names))
    parts = [f"{name}." if name else "" for name in unique]
    return [
        name
        for name, part in zip(unique, parts, strict=True)
        if not any(other != name and other.startswith(part) for other in unique)
    ]


def _after(watch: _Watch, name: str) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        watch.after(name, output)

    return hook


def _checksum(values: Any) -> int:
    found = 0
    for value in tree_leaves(values):
        if isinstance(value, Tensor):
            flat = value.detach().cpu().reshape(-1)
            found = zlib.crc32(flat.view(torch.uint8).numpy().tobytes(), found)
    return found


def _of_torch() -> int:
    return hash(torch.get_rng_state().numpy().tobytes())


def _elsewhere() -> int:
    numpy_state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    keys = numpy_state["state"]["key"].tobytes()
    place = numpy_state["state"]["pos"]
    waiting = numpy_state["has_gauss"]
    return hash((keys, place, waiting, random.getstate()))
