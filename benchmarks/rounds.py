"""Ways of doing the same thing, timed in turn: whatever else the machine does touches all alike."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tqdm.auto import tqdm

Way = Callable[[], object]
Seconds = dict[str, list[float]]  # way -> seconds of each of its rounds


def time_in_turn(ways: dict[str, Way], rounds: int, label: str) -> Seconds:
    """Seconds of each way in each round; a first round warms up and is not counted."""
    seconds: Seconds = {name: [] for name in ways}
    for number in tqdm(range(rounds + 1), label, unit="round", leave=False):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number > 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Seconds, name: str, over: str) -> str:
    """Median of the rounds' ratios, and their quartiles."""
    ratios = [one / other for one, other in zip(seconds[name], seconds[over], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def alone(what: Callable[..., Any], *arguments: object) -> Any:
    """What a function of a module answers in a process of its own; raises what it raises there."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(what, *arguments).result()


class Apart:
    """A way in a process of its own: what the others left in memory does not touch it.

    Args:
        make: gives the way; a function of a module, with plain arguments.
    """

    def __init__(self, make: Callable[..., Way], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.here, there = context.Pipe()
        context.Process(target=_serve, args=(there, make, arguments), daemon=True).start()

    def __call__(self) -> None:
        """Does it there once and waits; raises EOFError where it fails."""
        self.here.send("go")
        self.here.recv()


def _serve(asked: Connection, make: Callable[..., Way], arguments: tuple[object, ...]) -> None:
    way = make(*arguments)
    with suppress(EOFError):  # nobody asks any more
        while asked.recv():
            way()
            asked.send("done")
