"""A grid of a few runs of digits that fans out as large ones do, for tests of the workflow."""

import json
import os
import subprocess
import sys

from fairlth.config import Run, paths

TIMES = [
    "seconds",
    "shared_seconds",
    "memory",
]  # all that may differ between two makings of one run


def environment(folder, **fields):
    """The environment of a workflow on a folder of its own, with preset `drill`: smoke, one job a run."""
    presets = folder / "presets.json"
    presets.write_text(json.dumps({"drill": {"like": "smoke", "in_process": False} | fields}))
    return os.environ | {
        "FAIRLTH_HOME": str(folder / "home"),
        "FAIRLTH_PRESETS": str(presets),
        "OMP_NUM_THREADS": "1",
    }


def run(method, seed=0):
    """A run of the drill, as the test's own process can name it under preset smoke."""
    density = 1.0 if method == "dense" else 0.02
    return Run(
        dataset="digits", model="mlp", method=method, density=density, seed=seed, preset="smoke"
    )


def records(folder, runs):
    """Where the records of some runs lie."""
    return [folder / "home/runs/drill/records" / f"{one.slug()}.json" for one in runs]


def start(folder, targets, *arguments, fields=None, **changes):
    """Starts Snakemake on some outputs, in a process group of its own; `fields` change the preset."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "2",
        "--config",
        "preset=drill",
        *arguments,
        "--",
        *map(str, targets),
    ]
    return subprocess.Popen(
        command,
        cwd=paths.ROOT,
        env=environment(folder, **fields or {}) | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(folder, targets, *arguments, **changes):
    """Runs Snakemake to its end; its code and all that it said."""
    process = start(folder, targets, *arguments, **changes)
    said = process.communicate()[0]
    return process.returncode, said


def without_times(path):
    """A record's content but for the times and the name of its preset."""
    found = json.loads(path.read_text())
    found["run"].pop("preset")
    found["conditions"] = {
        name: value for name, value in found["conditions"].items() if name not in TIMES
    }
    return json.dumps(found, indent=1)
