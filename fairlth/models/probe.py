"""What happens in every module of a network when it is called: which draws, differs, remembers."""

import itertools
import random
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

MOST = 50_000  # values that `memory` looks at: what a network refers to may have no end
FOREIGN = {"torch", "torchvision", "numpy", "scipy"} | sys.stdlib_module_names
PLAIN = (bool, int, float, complex, str, type(None))


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

    def after(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
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
            handles.append(module.register_forward_hook(partial(watch.after, name)))
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


def memory(model: nn.Module) -> dict[str, int]:
    """Checksums of what a network may remember calls in beside its parameters and buffers.

    These are the attributes of modules and of their classes, with all that they refer to: lists,
    iterators, generators of random numbers, and what functions take from their closures and from
    global names. Code of torch, numpy and Python is not looked into. What a network reads from
    files, the clock or compiled code cannot be seen.

    Returns:
        By the attribute's name, such as `body.calls` or `Net.forward`.
    """
    seen: dict[int, tuple[int, Any]] = {}  # with a value's place, and the value, which so lives on
    kinds = dict.fromkeys(kind for module in model.modules() for kind in type(module).__mro__)
    for known in (*model.modules(), *model.parameters(), *model.buffers(), *kinds):
        seen[id(known)] = (len(seen), known)
    found = {}
    for layer, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                found[f"{layer}.{name}".lstrip(".")] = _content(value, seen)
    for kind in kinds:
        if not _is_foreign(kind):
            for name, value in vars(kind).items():
                found[f"{kind.__name__}.{name}"] = _content(value, seen)
    return found


def _content(value: Any, seen: dict[int, tuple[int, Any]]) -> int:
    """A checksum of a value and of all values in it; of one seen before the place counts."""
    found = 0
    to_come = [value]
    while to_come and len(seen) < MOST:
        one = to_come.pop()
        if isinstance(one, PLAIN):
            told = repr(one).encode()
        elif isinstance(one, bytes):
            told = one
        elif id(one) in seen:
            told = f"number {seen[id(one)][0]}".encode()
        else:
            seen[id(one)] = (len(seen), one)
            parts = list(_parts(one))
            told = f"{type(one).__qualname__} of {len(parts)}".encode()
            to_come += reversed(parts)
        found = zlib.crc32(told, found)
    return found


def _parts(value: Any) -> Iterable[Any]:
    """What a value is made of; nothing where that is not to be had."""
    if isinstance(value, Tensor):
        with suppress(Exception):  # of a layout that has no bytes
            return [_checksum(value)]
    if isinstance(value, type):
        return [] if _is_foreign(value) else [value.__qualname__, dict(vars(value))]
    if type(value) in MADE_OF:
        return MADE_OF[type(value)](value)
    return _reduced(value)


def _reduced(value: Any) -> Iterable[Any]:
    """The parts of a value as `copy` takes them."""
    try:
        with warnings.catch_warnings(action="ignore"):
            reduced = value.__reduce_ex__(4)
    except Exception:
        return []
    return [reduced] if isinstance(reduced, str) else reduced


def _under_way(generator: GeneratorType) -> list[Any]:
    """Where a generator stands and its variables."""
    frame = generator.gi_frame
    return [] if frame is None else [frame.f_lasti, dict(frame.f_locals)]


def _outside(function: FunctionType) -> Iterator[Any]:
    """What a function refers to: its attributes, defaults, closure and the global names in it."""
    yield function.__qualname__
    if _is_foreign(function):
        return
    yield from (vars(function), function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it is empty
            yield cell.cell_contents
    codes = [function.__code__]
    for code in codes:
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
        yield from (
            function.__globals__[name] for name in code.co_names if name in function.__globals__
        )


def _is_foreign(value: Any) -> bool:
    """Whether a function or class is of torch, numpy or Python."""
    return str(value.__module__).partition(".")[0] in FOREIGN


MADE_OF: dict[type, Callable[[Any], Iterable[Any]]] = {  # what values of these types are made of
    dict: lambda value: itertools.chain.from_iterable(value.items()),
    list: iter,
    tuple: iter,
    set: lambda value: sorted(value, key=repr),
    frozenset: lambda value: sorted(value, key=repr),
    FunctionType: _outside,
    MethodType: lambda value: [value.__self__, value.__func__],
    staticmethod: lambda value: [value.__func__],
    classmethod: lambda value: [value.__func__],
    property: lambda value: [value.fget],
    GeneratorType: _under_way,
    ModuleType: lambda value: [],
}
