"""Makes the planned runs of presets on one machine, in this process, one after the other.

    python studies/grid.py small confirm breadth --part 0/2 [--method lth_long ...]

It writes the records and tickets that `make reproduce` would, without Snakemake and Papermill. For
two cores start two processes of one thread, with `--part 0/2` and `--part 1/2` and otherwise the
same arguments. A part has all runs of its tasks and seeds, so that no training that runs share is
made twice. Presets are made one after the other, and the seeds of a preset, too.

It can be stopped and goes on where it was: a run is left out where its record is there or the
preset's table has its rows, both under today's settings. A run that fails is named, and the next
one begins. The exit status is 1 where a run failed, 2 where an argument is refused.
"""

import argparse
import re
import sys
import time
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from fairlth import config
from fairlth.analysis import scope
from fairlth.config import METHOD_TABLE, Run, paths, workload
from fairlth.workflow import experiments


class Part(NamedTuple):
    """One of several parts of a grid: `number` counts from 0, `of` is how many there are."""

    number: int
    of: int


def part_of(text: str) -> Part:
    """Reads "0/2"; ArgumentTypeError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or int(found[1]) >= int(found[2]):
        expected = "its number from 0, a slash and how many parts there are, such as 0/2"
        raise argparse.ArgumentTypeError(f"{text!r} is no part: expected {expected}.")
    return Part(int(found[1]), int(found[2]))


def plan(presets: Iterable[str], methods: Collection[str] = ()) -> list[Run]:
    """The runs of some presets, in the order in which they are made.

    Presets come one after the other, in each its seeds, and in each seed what others need first
    (`workload.in_turn`).

    Args:
        presets: keys of `config.PRESETS`.
        methods: names of those to make; none: all that each preset has.

    Raises:
        ValueError: there is no such preset or method.
    """
    for method in methods:
        if method not in METHOD_TABLE:
            known = ", ".join(METHOD_TABLE)
            raise ValueError(f"method={method!r} is unknown: choose from {known}.")
    found = []
    for preset in presets:
        runs = [run for run in config.every_run(preset) if not methods or run.method in methods]
        for seed in sorted({run.seed for run in runs}):
            found += workload.in_turn(run for run in runs if run.seed == seed)
    return found


def cell_of(run: Run) -> tuple[Any, ...]:
    """The task and seed of a run: runs share trainings within it alone."""
    return (*scope.task_of(run), run.seed)


def share(runs: Iterable[Run], part: Part) -> list[Run]:
    """The runs of a part: its tasks and seeds are dealt out in turn, in the order of the runs."""
    runs = list(runs)
    cells = list(dict.fromkeys(cell_of(run) for run in runs))
    mine = set(cells[part.number :: part.of])
    return [run for run in runs if cell_of(run) in mine]


def missing(runs: Iterable[Run]) -> list[Run]:
    """The runs that neither a preset's table nor a record has, under today's settings."""
    runs = list(runs)
    done = {preset: experiments.in_table(preset) for preset in {run.preset for run in runs}}
    to_make = [run for run in runs if scope.key(run) not in done[run.preset]]
    return [run for run in to_make if experiments.usable(run, paths.RUNS) is None]


def make(runs: list[Run]) -> list[Run]:
    """Makes runs in their order, prints a line for each, and returns those that failed."""
    failed = []
    for number, run in enumerate(runs, 1):
        started = time.perf_counter()
        try:
            experiments.run(run, paths.RUNS)
            outcome = f"{time.perf_counter() - started:.0f} s"
        except Exception as error:
            failed.append(run)
            outcome = f"FAILED, {type(error).__name__}: {error}"
        clock = time.strftime("%H:%M:%S")
        print(f"{clock} {number}/{len(runs)} {run.preset} {run.slug()}: {outcome}", flush=True)
    return failed


def main() -> int:
    """Makes what is missing of a part; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("presets", nargs="+", help=", ".join(config.PRESETS))
    parser.add_argument("--part", type=part_of, default=Part(0, 1), help="such as 0/2")
    parser.add_argument("--method", action="extend", nargs="+", default=[], help="these alone")
    arguments = parser.parse_args()
    try:
        runs = share(plan(arguments.presets, arguments.method), arguments.part)
    except ValueError as error:
        parser.error(str(error))
    to_make = missing(runs)
    print(f"{len(runs)} runs in this part, {len(to_make)} to make", flush=True)
    failed = make(to_make)
    print(f"{len(to_make) - len(failed)} runs made, {len(failed)} failed")
    for run in failed:
        print(f"failed: {run.preset} {run.slug()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
