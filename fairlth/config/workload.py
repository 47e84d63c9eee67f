"""Which run needs which, and how many epochs each trains.

A grid is planned by it, without loading data or networks.
"""

from collections.abc import Collection, Container, Iterable
from typing import NamedTuple

from fairlth.config import METHOD_TABLE, Run


class Shared(NamedTuple):
    """A training that runs share, one per key; `density` is None for the dense net."""

    kind: str
    preset: str
    dataset: str
    model: str
    target: str | None
    group_by: str | None
    seed: int
    density: float | None


def needs(run: Run, among: Collection[Run]) -> Run | None:
    """The run whose record has to be there first, so that what both share is trained once.

    It is the run that makes the run's search for a ticket, or where that is the run itself or not
    planned, the dense net's. None where there is none.

    Args:
        run: any.
        among: the runs that are planned.
    """
    row = METHOD_TABLE[run.method]
    if run.method == "dense" or not row.needs_dense:
        return None
    if row.search is not None:
        base = run.model_copy(update={"method": row.search, "pressure": None})
        if base != run and base in among:
            return base
    dense = dense_of(run)
    return dense if dense in among else None


def dense_of(run: Run) -> Run:
    """The run of the dense net of a run's task and seed; of a dense run itself."""
    return run.model_copy(update={"method": "dense", "density": 1.0, "pressure": None})


def own(run: Run) -> float:
    """Epochs that a run trains for itself alone; a run that reads all it needs trains no more."""
    return METHOD_TABLE[run.method].trains(run.settings, run.density)


def shared(run: Run) -> dict[Shared, float]:
    """Epochs of each training that a run shares with others, the dense net's first."""
    row = METHOD_TABLE[run.method]
    if not row.needs_dense:
        return {}
    found = {_key("dense", run, None): float(run.settings.schedule.epochs)}
    if row.search is None:
        return found
    searches = METHOD_TABLE[row.search].searches
    assert searches is not None, f"{row.search} has a search in config.method_table"
    epochs = searches(run.settings, run.density)
    return found | {_key(row.search, run, run.density): float(epochs)}


def _key(kind: str, run: Run, density: float | None) -> Shared:
    task = (run.preset, run.dataset, run.model, run.target, run.group_by)
    return Shared(kind, *task, run.seed, density)


def in_turn(runs: Iterable[Run]) -> list[Run]:
    """The runs in an order in which what each needs stands before it."""
    return sorted(runs, key=_rank)


def _rank(run: Run) -> tuple[int, bool]:
    """The dense nets first, then the methods that search for themselves, then the others."""
    if run.method == "dense":
        return 0, False
    searches = METHOD_TABLE[run.method].search == run.method
    return 1 if searches else 2, run.pressure is not None


def work(runs: Iterable[Run], trained: Container[str] = ()) -> dict[Run, float]:
    """Dense-training equivalents that each run of a grid takes.

    A shared training counts with the first run that needs it. `trained` are models that were given
    as trained: their dense nets take none.
    """
    seen: set[Shared] = set()
    found = {}
    for run in in_turn(runs):
        new = {key: epochs for key, epochs in shared(run).items() if key not in seen}
        seen |= set(new)
        if run.model in trained:
            new = {key: epochs for key, epochs in new.items() if key.kind != "dense"}
        found[run] = (own(run) + sum(new.values())) / run.settings.schedule.epochs
    return found
