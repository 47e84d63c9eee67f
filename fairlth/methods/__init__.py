"""One file, one published method or control. A method takes a Run and its Data and returns a `base.Ticket`."""

from collections.abc import Callable

from fairlth.config import Run
from fairlth.data import Data
from fairlth.methods.ballot import ballot, ballot_refine, ballot_select
from fairlth.methods.base import Ticket
from fairlth.methods.dense import dense
from fairlth.methods.lth import lth
from fairlth.methods.lth_bias import lth_bias
from fairlth.methods.magnitude import magnitude
from fairlth.methods.random import random

METHODS: dict[str, Callable[[Run, Data], Ticket]] = {
    "dense": dense,
    "random": random,
    "magnitude": magnitude,
    "lth": lth,
    "lth_bias": lth_bias,
    "ballot": ballot,
    "ballot_select": ballot_select,
    "ballot_refine": ballot_refine,
}


def check(run: Run) -> None:
    """Raises ValueError if the run's method is unknown."""
    if run.method not in METHODS:
        raise ValueError(f"method={run.method!r} is unknown: choose one of {', '.join(METHODS)}.")
