"""One table of the methods: a row each, with everything that other code has to know of them.

A new method is one file in `fairlth/methods/` and one row here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fairlth.config.presets import Preset

FINE = 0.8  # share of the weights that a fine level keeps
SHORT = 1 / 8  # of the schedule's epochs, a short level's
LONGER = 2  # times the epochs of the first level: a long last training
FAIRGRAPE_KEEPS = 0.6  # share of the weights that a step of FairGRAPE keeps
FAIRGRAPE_BETWEEN = 0.125  # of the schedule's epochs, between two steps of FairGRAPE
BRANCHES = 4  # that SafeCompress tries before each epoch
RECOVERY = 0.1  # of an epoch, that a branch of SafeCompress trains before its test

Epochs = Callable[["Preset", float], float]  # of a preset (as a data set has it) and a density


class Knob(NamedTuple):
    """A method's pressure: its own value, the highest, and the other values of its curve."""

    default: float
    highest: float = math.inf
    others: tuple[float, ...] = ()


def n_levels(density: float, keep_per_level: float) -> int:
    """Levels of pruning that keep a share each and end at a density; at least one."""
    return max(1, math.ceil(math.log(density) / math.log(keep_per_level) - 1e-9))


def short_epochs(preset: "Preset") -> int:
    """Epochs of a short level."""
    return max(1, round(SHORT * preset.schedule.epochs))


def level(preset: "Preset") -> int:
    """The epochs after the rewind point, as every last training of a plain ticket."""
    return preset.schedule.epochs - preset.rewind_epochs


@dataclass(frozen=True)
class Trains:
    """Epochs as so many whole schedules, levels after the rewind point, and short searches."""

    schedules: int = 0
    levels: int = 0
    searches: int = 0

    def __call__(self, preset: "Preset", density: float) -> float:
        """The epochs of a preset at a density."""
        search = (n_levels(density, FINE) - 1) * short_epochs(preset)
        epochs = self.schedules * preset.schedule.epochs + self.levels * level(preset)
        return epochs + self.searches * search


def fairgrape(preset: "Preset", density: float) -> float:
    """Brief trainings between the steps, then the whole schedule."""
    epochs = preset.schedule.epochs
    between = max(1, round(FAIRGRAPE_BETWEEN * epochs))
    return epochs + (n_levels(density, FAIRGRAPE_KEEPS) - 1) * between


def safecompress(preset: "Preset", density: float) -> float:
    """The whole schedule, and the branches that are not taken."""
    epochs = preset.schedule.epochs
    return epochs + (BRANCHES - 1) * RECOVERY * (epochs - 1)


def lth_search(preset: "Preset", density: float) -> float:
    """Levels that rewind, and the ticket's own training, which is shared, too."""
    return n_levels(density, preset.keep_per_level) * level(preset)


def fine_search(preset: "Preset", density: float) -> float:
    """Fine levels that rewind."""
    return (n_levels(density, FINE) - 1) * level(preset)


@dataclass(frozen=True)
class Method:
    """A method as others see it.

    `module` of `fairlth.methods` has a function of the method's name. `title` is its name in
    figures, `family` its colour there, `marker` that of its points. `notebooks` compare it.
    `trains` are the epochs it trains for itself alone. `search` names the method whose search for a
    ticket it shares, `searches` the epochs of its own search. `budget` says how it fixes each
    layer's number of weights beforehand. `by_groups`: it compares groups. `needs_dense`: it starts
    from the dense net or is judged by it. `structure` says what it prunes: "weights" one by one, or
    whole "units". `notebooks` is "" for methods that no notebook compares.
    """

    module: str
    title: str
    family: str
    marker: Any
    trains: Epochs
    notebooks: str = ""
    knob: Knob | None = None
    search: str | None = None
    searches: Epochs | None = None
    budget: str | None = None
    by_groups: bool = False
    needs_dense: bool = True
    structure: str = "weights"


METHOD_TABLE = {
    "dense": Method(
        module="plain",
        title="dense",
        family="dense",
        marker="*",
        notebooks="10 11 12 14 15 20",
        trains=Trains(),
    ),
    "random": Method(
        module="controls",
        title="random mask",
        family="control",
        marker="x",
        notebooks="10 11",
        trains=Trains(schedules=1),
        needs_dense=False,
    ),
    "magnitude": Method(
        module="plain",
        title="magnitude",
        family="plain",
        marker="s",
        notebooks="10 11 12 14 20",
        trains=Trains(schedules=1),
    ),
    "lth": Method(
        module="plain",
        title="lottery ticket",
        family="plain",
        marker="p",
        notebooks="10 11 12 13 14 15 20",
        trains=Trains(),
        search="lth",
        searches=lth_search,
    ),
    "lth_fine": Method(
        module="plain",
        title="lottery ticket, fine levels",
        family="plain",
        marker="H",
        notebooks="14",
        trains=Trains(levels=1),
        search="lth_fine",
        searches=fine_search,
    ),
    "lth_rate": Method(
        module="plain",
        title="learning-rate rewinding",
        family="plain",
        marker="d",
        notebooks="10 11 12 13 14 15",
        trains=Trains(levels=1),
        search="lth_rate",
        searches=Trains(searches=1),
    ),
    "lth_long": Method(
        module="controls",
        title="learning-rate rewinding, long",
        family="plain",
        marker=(3, 1, 0),
        notebooks="11 12 13 14 15",
        trains=Trains(levels=LONGER),
        search="lth_rate",
    ),
    "lth_long_shift": Method(
        module="controls",
        title="learning-rate rewinding, long + bias shift",
        family="shifted",
        marker=(8, 1, 0),
        trains=Trains(levels=LONGER),
        search="lth_rate",
        by_groups=True,
    ),
    "lth_bias": Method(
        module="controls",
        title="lottery ticket + bias shift",
        family="shifted",
        marker="D",
        notebooks="11 13 14 15",
        trains=Trains(),
        knob=Knob(0.5, highest=1.0, others=(0.25, 1.0)),
        search="lth",
        by_groups=True,
    ),
    "safecompress": Method(
        module="safecompress",
        title="SafeCompress",
        family="rival",
        marker="^",
        notebooks="11 14",
        trains=safecompress,
        knob=Knob(1.0, highest=1.0, others=(0.0, 0.5)),
        budget="erk",
        by_groups=True,
    ),
    "fairscratch": Method(
        module="fairscratch",
        title="FairScratch",
        family="rival",
        marker="v",
        notebooks="11 14",
        trains=Trains(schedules=1),
        knob=Knob(1.0),
        budget="uniform",
        by_groups=True,
        needs_dense=False,
    ),
    "fairscratch_train": Method(
        module="fairscratch",
        title="FairScratch, trained",
        family="rival",
        marker="<",
        notebooks="11 14",
        trains=Trains(schedules=2),
        knob=Knob(1.0, others=(0.1, 0.3)),
        budget="uniform",
        by_groups=True,
        needs_dense=False,
    ),
    "fairgrape": Method(
        module="fairgrape",
        title="FairGRAPE",
        family="rival",
        marker="P",
        notebooks="11 14 15",
        trains=fairgrape,
        budget="uniform",
        by_groups=True,
    ),
    "pw_loss": Method(
        module="pw_loss",
        title="performance-weighted",
        family="rival",
        marker="X",
        notebooks="11 14",
        trains=Trains(schedules=1),
        knob=Knob(0.5, highest=1.0, others=(0.0, 1.0)),
    ),
    "constrained": Method(
        module="balancing_act",
        title="Balancing Act",
        family="rival",
        marker=">",
        notebooks="11 14 15",
        trains=Trains(schedules=1),
        knob=Knob(0.03, others=(0.01, 0.1)),
        by_groups=True,
    ),
    "ballot_select": Method(
        module="ballots",
        title="Ballot's selection only",
        family="half",
        marker=(4, 1, 0),
        notebooks="10 13",
        trains=Trains(levels=1),
        search="ballot",
        by_groups=True,
    ),
    "ballot_refine": Method(
        module="ballots",
        title="Ballot's training only",
        family="half",
        marker=(6, 1, 0),
        notebooks="10 13",
        trains=Trains(levels=LONGER),
        knob=Knob(0.05),
        search="lth_rate",
        by_groups=True,
    ),
    "shuffled": Method(
        module="ballots",
        title="Ballot, shuffled mask",
        family="control",
        marker="h",
        notebooks="11 13 14",
        trains=Trains(levels=LONGER),
        knob=Knob(0.05),
        search="ballot",
        by_groups=True,
    ),
    "ballot": Method(
        module="ballots",
        title="Ballot",
        family="ballot",
        marker="o",
        notebooks="10 11 12 13 14 15 20",
        trains=Trains(levels=LONGER),
        knob=Knob(0.05, others=(0.0, 0.1, 0.2)),
        search="ballot",
        searches=Trains(searches=1),
        by_groups=True,
    ),
    "units_norm": Method(
        module="units",
        title="units by norm",
        family="plain",
        marker="1",
        trains=Trains(levels=1),
        search="units_norm",
        searches=Trains(searches=1),
        structure="units",
    ),
    "units_long": Method(
        module="units",
        title="units, long",
        family="plain",
        marker="+",
        trains=Trains(levels=LONGER),
        search="units_norm",
        structure="units",
    ),
    "units_ballot": Method(
        module="units",
        title="Ballot of units",
        family="ballot",
        marker="2",
        trains=Trains(searches=1, levels=LONGER),
        knob=Knob(0.05),
        by_groups=True,
        structure="units",
    ),
    "units_scratch": Method(
        module="units",
        title="units, new",
        family="control",
        marker="3",
        trains=Trains(schedules=1, searches=1, levels=1),
        search="units_norm",
        structure="units",
    ),
    "fairprune": Method(
        module="fairprune",
        title="FairPrune",
        family="rival",
        marker="4",
        trains=Trains(searches=1, levels=1),
        knob=Knob(0.3, highest=1.0),
        by_groups=True,
        structure="units",
    ),
}
KNOBS = {name: row.knob for name, row in METHOD_TABLE.items() if row.knob is not None}
DRAWN_FROM = {  # methods that a table needs for a notebook's figures; others: lth and ballot
    "10_motivation": ("lth_rate", "ballot_select", "ballot_refine", "ballot"),
    "13_ablation": ("lth_rate", "ballot_select", "ballot_refine", "ballot"),
}
NOTEBOOKS = (  # that compare methods
    "10_motivation",
    "11_comparison",
    "12_sparsity",
    "13_ablation",
    "14_cost",
    "15_equal_accuracy",
    "20_groups",
)
STUDIES = {  # the methods that each of them compares
    notebook: tuple(
        name for name, row in METHOD_TABLE.items() if notebook[:2] in row.notebooks.split()
    )
    for notebook in NOTEBOOKS
}


def drawable(notebook: str, methods: set[str]) -> bool:
    """Whether a table with runs of these methods is enough for a notebook's figures."""
    return methods.issuperset(DRAWN_FROM.get(notebook, ("lth", "ballot")))
