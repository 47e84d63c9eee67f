"""One file per published method or control. A method takes a Run, its Data and the dense net.

It returns a `lottery.Ticket`. What others have to know of it is its row in
`config.method_table`.
"""

from collections.abc import Callable
from importlib import import_module

from fairlth.config import KNOBS, METHOD_TABLE, Run
from fairlth.images import Data
from fairlth.lottery import Dense, Ticket, head_of
from fairlth.masks import count_kept, prunable
from fairlth.methods import allocation, sharing, units
from fairlth.models import OWN, check_fits

Function = Callable[[Run, Data, Dense], Ticket]

METHODS: dict[str, Function] = {
    name: getattr(import_module(f"fairlth.methods.{row.module}"), name)
    for name, row in METHOD_TABLE.items()
}


def make(run: Run, data: Data) -> Ticket:
    """The run's ticket; its method is handed the dense net, trained where the method needs it."""
    if METHOD_TABLE[run.method].needs_dense:
        dense = sharing.dense_once(run, data)
    else:
        network = sharing.fresh(run, data)
        dense = Dense(network, head_of(network, data))
    return METHODS[run.method](run, data, dense)


def check(run: Run) -> None:
    """Raises ValueError if the run's method is unknown or cannot take the run's pressure."""
    if run.method not in METHODS:
        raise ValueError(f"method={run.method!r} is unknown: choose one of {', '.join(METHODS)}.")
    if run.pressure is None:
        return
    if run.method not in KNOBS:
        raise ValueError(
            f"pressure={run.pressure} is refused: {run.method} has no fairness knob, "
            "leave pressure out."
        )
    highest = KNOBS[run.method].highest
    if run.pressure > highest:
        raise ValueError(
            f"pressure={run.pressure} is out of range for {run.method}: expected 0 to {highest:g}."
        )


def check_data(run: Run, data: Data) -> None:
    """Raises ValueError, before any training, if a run cannot be made from its data.

    Its density leaves the network or one of its layers without weights, your network does not fit
    the images, or its method compares groups and there is one only.
    """
    row = METHOD_TABLE[run.method]
    model = sharing.fresh(run, data)
    weights = prunable(model)
    count_kept(run.density, weights)
    if row.structure == "units":
        units.check(run, model, data)
    if row.budget is not None:
        budget = getattr(allocation, row.budget)
        budget(run.density, weights)
    if run.model in OWN:
        check_fits(run.model, model, data.in_shape, data.train.n_classes, run.dataset)
    if row.by_groups and data.train.n_groups < 2:
        raise ValueError(
            f"{run.dataset} has one group, {data.groups[0]!r}, and {run.method} compares groups: "
            "name another group_by."
        )
