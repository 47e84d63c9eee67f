"""Which run needs which, and how many epochs each trains: what a grid is planned by, without loading data or networks."""

import math
from collections.abc import Collection, Iterable

from fairlth.config import Run

Shared = tuple[str, str, str, str, str | None, str | None, int, float | None]  # kind, run's names, seed, density
SEARCHES = {  # method -> the method whose run makes the search for a ticket that it shares
    "lth": "lth",
    "lth_bias": "lth",
    "lth_fine": "lth_fine",
    "lth_rate": "lth_rate",
    "lth_long": "lth_rate",
    "ballot_refine": "lth_rate",
    "ballot": "ballot",
    "ballot_select": "ballot",
    "shuffled": "ballot",
}
NEED_NOTHING = {"dense", "random", "fairscratch", "fairscratch_train"}  # methods that never ask for the dense net
FINE, SHORT = 0.8, 1 / 8  # of `methods.lth`: what a fine level keeps, how long a short one is
KEEP, BETWEEN = 0.6, 0.125  # of `methods.fairgrape`
LONGER = 2  # of `methods.lth`
BRANCHES, RECOVERY = 4, 0.1  # of `methods.safecompress`


def needs(run: Run, among: Collection[Run]) -> Run | None:
    """The run whose record has to be there first, so that what both share is trained once; None where there is none.

    It is the run that makes the run's search for a ticket, or where that is the run itself or not planned, the dense net's.

    Args:
        run: any.
        among: the runs that are planned.
    """
    base = run.model_copy(update={"method": SEARCHES.get(run.method, run.method), "pressure": None})
    if base != run and run.method in SEARCHES and base in among:
        return base
    dense = run.model_copy(update={"method": "dense", "density": 1.0, "pressure": None})
    return None if run.method in NEED_NOTHING or dense not in among else dense


def own(run: Run) -> float:
    """Epochs that a run trains for itself alone; a run that reads all it needs trains no more."""
    epochs, whole = run.settings.schedule.epochs, run.settings.schedule.epochs - run.settings.rewind_epochs
    match run.method:
        case "dense" | "lth" | "lth_bias":
            return 0  # all of it is shared
        case "lth_fine" | "lth_rate" | "ballot_select":
            return whole
        case "lth_long" | "ballot" | "ballot_refine" | "shuffled":
            return LONGER * whole
        case "fairscratch_train":
            return 2 * epochs
        case "fairgrape":
            return epochs + (n_levels(run.density, KEEP) - 1) * max(1, round(BETWEEN * epochs))
        case "safecompress":
            return epochs + (BRANCHES - 1) * RECOVERY * (epochs - 1)
        case _:
            return epochs


def shared(run: Run) -> dict[Shared, float]:
    """Epochs of each training that a run shares with others, the dense net's first; the same key is the same training."""
    if run.method in NEED_NOTHING - {"dense"}:
        return {}
    epochs, whole = run.settings.schedule.epochs, run.settings.schedule.epochs - run.settings.rewind_epochs
    found = {_key("dense", run, None): float(epochs)}
    if (kind := SEARCHES.get(run.method)) is None:
        return found
    fine = n_levels(run.density, FINE) - 1
    search = {
        "lth": (n_levels(run.density, run.settings.keep_per_level) - 1) * whole + whole,  # the ticket's training is shared, too
        "lth_fine": fine * whole,
        "lth_rate": fine * max(1, round(SHORT * epochs)),
        "ballot": fine * max(1, round(SHORT * epochs)),
    }
    return found | {_key(kind, run, run.density): float(search[kind])}


def _key(kind: str, run: Run, density: float | None) -> Shared:
    return (kind, run.preset, run.dataset, run.model, run.target, run.group_by, run.seed, density)


def n_levels(density: float, keep_per_level: float) -> int:
    """The number of levels of `selection.levels`."""
    return max(1, math.ceil(math.log(density) / math.log(keep_per_level) - 1e-9))


def in_turn(runs: Iterable[Run]) -> list[Run]:
    """The runs in an order in which what each needs stands before it."""
    runs = list(runs)
    rank = {"dense": 0, "lth": 1, "lth_rate": 1, "ballot": 1}
    return sorted(runs, key=lambda run: (rank.get(run.method, 2), run.pressure is not None))


def work(runs: Iterable[Run]) -> dict[Run, float]:
    """Dense-training equivalents that each run of a grid takes, a shared training counted with the first that needs it."""
    seen: set[Shared] = set()
    found = {}
    for run in in_turn(runs):
        new = {key: epochs for key, epochs in shared(run).items() if key not in seen}
        seen |= set(new)
        found[run] = (own(run) + sum(new.values())) / run.settings.schedule.epochs
    return found
