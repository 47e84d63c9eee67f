"""What the workflow adds to the runs themselves: planning, starting, doing nothing, and what a
second core brings.

    python benchmarks/workflow.py

Wall times, and where it says so processor times, which other work on the machine disturbs less. The
drill is a grid of runs on
digits whose training takes about a second, so that nearly all of it is overhead: starting kernels
    and importing torch.
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

from fairlth import config
from fairlth.config import Run, paths

METHODS = ("random", "fairscratch")  # that wait for no other run
SEEDS = (0, 1, 2)
ONE_RUN = (
    "from fairlth import config, experiments, figures, metrics; from fairlth.analysis import records, summaries; "
    "import matplotlib.pyplot, pandas"
)


def timed(command: list[str], **variables: str) -> tuple[float, float]:
    """Wall seconds of a command from the project's root and processor seconds of it and its
    children; raises if it fails.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command, cwd=paths.ROOT, env=os.environ | variables, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, spent


def snakemake(*arguments: str, **variables: str) -> tuple[float, float]:
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


def grid(cores: int) -> tuple[float, float, dict[str, float]]:
    """Wall and processor seconds of the drill on so many cores; seconds and peak memory of its
    runs, from benchmark files.
    """
    with tempfile.TemporaryDirectory() as name:
        variables, runs = drill(Path(name))
        home = Path(name) / "home/runs/drill"
        targets = [
            os.path.relpath(home / "records" / f"{run.slug()}.json", paths.ROOT) for run in runs
        ]
        wall, spent = snakemake(
            "--cores", str(cores), "--config", "preset=drill", "--", *targets, **variables
        )
        rows = [
            path.read_text().splitlines()[1].split("\t")
            for path in (home / "benchmarks").glob("*.tsv")
        ]
        alone = {
            "seconds": sum(float(row[0]) for row in rows),
            "processor": sum(float(row[9]) for row in rows),
        }
        alone["memory"] = max(float(row[2]) for row in rows)
        return wall, spent, alone


def planning() -> None:
    """Prints the time of a dry run of preset small and of a call that has nothing to do."""
    with tempfile.TemporaryDirectory() as name:
        n = len(config.every_run("small"))
        wall, spent = snakemake(
            "--cores", "2", "--dry-run", "--config", "preset=small", FAIRLTH_HOME=name
        )
        print(
            f"dry run of {n} runs: {wall:.1f} s, processor {spent:.1f} s; {500 * spent / n:.1f} s for 500"
        )
        variables, runs = drill(Path(name))
        target = os.path.relpath(
            Path(name) / f"home/runs/drill/records/{runs[0].slug()}.json", paths.ROOT
        )
        arguments = ("--cores", "2", "--config", "preset=drill", "--", target)
        first = snakemake(*arguments, **variables)
        again = snakemake(*arguments, **variables)
    print(
        f"one run: {first[0]:.1f} s, processor {first[1]:.1f} s; again, nothing to do: {again[0]:.1f} s, {again[1]:.1f} s"
    )


def imports() -> None:
    """Prints the time that 03_one_run imports for."""
    found = [timed([sys.executable, "-c", ONE_RUN]) for _ in range(3)]
    wall, spent = (statistics.median(values) for values in zip(*found, strict=True))
    print(f"imports of 03_one_run: {wall:.1f} s, processor {spent:.1f} s, medians of 3")


def main() -> None:
    """Prints all of it."""
    imports()
    planning()
    one, two = grid(1), grid(2)
    n = len(METHODS) * len(SEEDS)
    print(
        f"drill of {n} runs on 1 core {one[0]:.1f} s, on 2 cores {two[0]:.1f} s: ratio {one[0] / two[0]:.2f}"
    )
    outside, processor = (one[0] - one[2]["seconds"]) / n, (one[1] - one[2]["processor"]) / n
    print(
        f"on 1 core outside the runs: {outside:.2f} s a run, processor {processor:.2f} s, start of Snakemake included"
    )
    print(f"peak memory of a run's processes: {one[2]['memory']:.0f} MiB")


if __name__ == "__main__":
    main()
