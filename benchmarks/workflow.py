"""What the workflow adds to the runs: planning, starting, doing nothing, and a second core.

    python benchmarks/workflow.py

Wall times, and where it says so processor times, which other work on the machine disturbs less. The
drill is a grid of runs on digits whose training takes about a second, so that nearly all of it is
overhead: starting kernels and importing torch.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fairlth import config
from fairlth.config import Run, paths

METHODS = ("random", "fairscratch")  # that wait for no other run
SEEDS = (0, 1, 2)
ONE_RUN = (
    "from fairlth import config, figures, metrics; from fairlth.analysis import summaries; "
    "from fairlth.config import Run; from fairlth.workflow import experiments"
)


class Times(NamedTuple):
    """Seconds of some work on the clock, and of all processors."""

    wall: float
    processor: float


def timed(command: list[str], **variables: str) -> Times:
    """Times of a command and its children, from the project's root; raises if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        command, cwd=paths.ROOT, env=os.environ | variables, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Times(time.perf_counter() - started, processor)


def snakemake(*arguments: str, **variables: str) -> Times:
    """Times of one call of Snakemake."""
    return timed([sys.executable, "-m", "snakemake", *arguments], **variables)


def drill(folder: Path) -> tuple[dict[str, str], list[Run]]:
    """Variables of the shell for a grid of its own in a folder, and the runs of that grid."""
    presets = folder / "presets.json"
    presets.write_text(json.dumps({"drill": {"like": "smoke", "in_process": False}}))
    runs = [
        Run(dataset="digits", model="mlp", method=method, density=0.02, seed=seed, preset="smoke")
        for method in METHODS
        for seed in SEEDS
    ]
    return {"FAIRLTH_PRESETS": str(presets), "FAIRLTH_HOME": str(folder / "home")}, runs


def record_of(run: Run, folder: Path) -> str:
    """Where the drill in a folder writes a run's record."""
    return str(folder / "home/runs/drill/records" / f"{run.slug()}.json")


def grid(cores: int) -> tuple[Times, Times, float]:
    """Times of the drill on so many cores, and of its runs alone; their peak memory in MiB.

    The runs' times and memory are those of Snakemake's benchmark files.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables, runs = drill(folder)
        targets = [record_of(run, folder) for run in runs]
        arguments = ("--cores", str(cores), "--config", "preset=drill", "--", *targets)
        whole = snakemake(*arguments, **variables)
        files = (folder / "home/runs/drill/benchmarks").glob("*.tsv")
        rows = pd.concat([pd.read_csv(file, sep="\t") for file in files])
    alone = Times(float(rows["s"].sum()), float(rows["cpu_time"].sum()))
    return whole, alone, float(rows["max_rss"].max())


def planning() -> None:
    """Prints the time of a dry run of preset small and of a call that has nothing to do."""
    n = len(config.every_run("small"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dry = ("--cores", "2", "--dry-run", "--config", "preset=small")
        plan = snakemake(*dry, FAIRLTH_HOME=name)
        variables, runs = drill(folder)
        target = record_of(runs[0], folder)
        arguments = ("--cores", "2", "--config", "preset=drill", "--", target)
        first = snakemake(*arguments, **variables)
        again = snakemake(*arguments, **variables)
    print(
        f"dry run of {n} runs: {plan.wall:.1f} s, processor {plan.processor:.1f} s; "
        f"{500 * plan.processor / n:.1f} s for 500"
    )
    print(
        f"one run: {first.wall:.1f} s, processor {first.processor:.1f} s; again, nothing to do: "
        f"{again.wall:.1f} s, {again.processor:.1f} s"
    )


def imports() -> None:
    """Prints the time that 03_one_run imports for."""
    found = [timed([sys.executable, "-c", ONE_RUN]) for _ in range(3)]
    wall = statistics.median(times.wall for times in found)
    processor = statistics.median(times.processor for times in found)
    print(f"imports of 03_one_run: {wall:.1f} s, processor {processor:.1f} s, medians of 3")


def main() -> None:
    """Prints all of it."""
    imports()
    planning()
    one, alone, memory = grid(1)
    two, _, _ = grid(2)
    n = len(METHODS) * len(SEEDS)
    print(
        f"drill of {n} runs on 1 core {one.wall:.1f} s, on 2 cores {two.wall:.1f} s: ratio "
        f"{one.wall / two.wall:.2f}"
    )
    outside = (one.wall - alone.wall) / n
    processor = (one.processor - alone.processor) / n
    print(
        f"on 1 core outside the runs: {outside:.2f} s per run, processor {processor:.2f} s, start "
        "of Snakemake included"
    )
    print(f"peak memory of a run's processes: {memory:.0f} MiB")


if __name__ == "__main__":
    main()
