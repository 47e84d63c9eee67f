"""One file, one published method or control. A method takes a Run and its Data and returns a `base.Ticket`."""

from collections.abc import Callable

from fairlth.allocation import erk, uniform
from fairlth.config import KNOBS, Run
from fairlth.images import Data
from fairlth.masks import count_kept, prunable
from fairlth.methods.ballot import ballot, ballot_refine, ballot_select
from fairlth.methods.base import Ticket, fresh_model
from fairlth.methods.constrained import constrained
from fairlth.methods.dense import dense
from fairlth.methods.fairgrape import fairgrape
from fairlth.methods.fairscratch import fairscratch, fairscratch_train
from fairlth.methods.lth import lth, lth_fine, lth_long, lth_rate
from fairlth.methods.lth_bias import lth_bias
from fairlth.methods.magnitude import magnitude
from fairlth.methods.pw_loss import pw_loss
from fairlth.methods.random import random
from fairlth.methods.safecompress import safecompress
from fairlth.methods.shuffled import shuffled
from fairlth.models import OWN, check_fits

METHODS: dict[str, Callable[[Run, Data], Ticket]] = {
    "dense": dense,
    "random": random,
    "magnitude": magnitude,
    "lth": lth,
    "lth_fine": lth_fine,
    "lth_rate": lth_rate,
    "lth_long": lth_long,
    "lth_bias": lth_bias,
    "safecompress": safecompress,
    "fairscratch": fairscratch,
    "fairscratch_train": fairscratch_train,
    "fairgrape": fairgrape,
    "pw_loss": pw_loss,
    "constrained": constrained,
    "shuffled": shuffled,
    "ballot": ballot,
    "ballot_select": ballot_select,
    "ballot_refine": ballot_refine,
}
BUDGETS = {  # methods that fix each layer's number of weights beforehand, and how
    "safecompress": erk,
    "fairscratch": uniform,
    "fairscratch_train": uniform,
    "fairgrape": uniform,
}
BY_GROUPS = {*KNOBS, "fairgrape", "ballot_select"} - {"pw_loss"}  # methods that compare groups


def check(run: Run) -> None:
    """Raises ValueError if the run's method is unknown or cannot take the run's pressure."""
    if run.method not in METHODS:
        raise ValueError(f"method={run.method!r} is unknown: choose one of {', '.join(METHODS)}.")
    if run.pressure is None:
        return
    if run.method not in KNOBS:
        raise ValueError(f"pressure={run.pressure} is refused: {run.method} has no fairness knob, leave pressure out.")
    if run.pressure > KNOBS[run.method].highest:
        raise ValueError(
            f"pressure={run.pressure} is out of range for {run.method}: expected 0 to {KNOBS[run.method].highest:g}."
        )


def check_data(run: Run, data: Data) -> None:
    """Raises ValueError, before any training, if a run cannot be made from its data.

    Its density leaves the network or one of its layers without weights, a network of your own does not fit the images, or its
    method compares groups and there is one only.
    """
    weights = prunable(model := fresh_model(run, data))
    count_kept(run.density, weights)
    if run.method in BUDGETS:
        BUDGETS[run.method](run.density, weights)
    if run.model in OWN:
        check_fits(run.model, model, data.in_shape, data.train.n_classes, run.dataset)
    if run.method in BY_GROUPS and data.train.n_groups < 2:
        raise ValueError(
            f"{run.dataset} has one group, {data.groups[0]!r}, and {run.method} compares groups: name another group_by."
        )
