"""How far a preset's runs are, while a workflow is at work and from another terminal.

python -m fairlth.status small
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path

from fairlth import command, config, workload
from fairlth.processes import holder, noted

NOTEBOOK = 0.02  # dense trainings: what a notebook weighs beside runs in the time left


def spoken(seconds: float) -> str:
    """A duration as people say it: "40 s", "12 min", "3 h 20 min", "2 days 4 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, left = round(seconds / 60), timedelta(seconds=seconds)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if left.days < 2 else f"{left.days} days {left.seconds // 3600} h"


class Watch:
    """Prints a line for everything that a workflow finishes, with the time left at the rate so far.

    Args:
        outputs: file -> what it weighs in the time left.
    """

    def __init__(self, outputs: Mapping[Path, float]) -> None:
        self.started, self.all, self.left = time.time(), sum(outputs.values()), dict(outputs)
        self.total, self.skipped = len(outputs), 0.0
        for path in [path for path in outputs if path.parent.name == "records" and path.exists()]:
            self.skipped += self.left.pop(path)  # done before, only the bookkeeping lacks it
        self.lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self.left:
            time.sleep(1)
            self.look()

    def look(self) -> None:
        """Prints what has been finished since the last look."""
        with self.lock:
            for path in [path for path in self.left if path.exists() and path.stat().st_mtime >= self.started - 1]:
                del self.left[path]
                print(self.line(path.stem if path.suffix == ".json" else path.name), file=sys.stderr, flush=True)

    def line(self, name: str) -> str:
        """How far things are after `name` was finished."""
        to_come = sum(self.left.values())
        done = self.all - self.skipped - to_come
        left = (time.time() - self.started) / max(done, 1e-9) * to_come
        return f"{self.total - len(self.left)} of {self.total} done, about {spoken(left)} left: {name}"


def weights(preset: str, outputs: Iterable[Path]) -> dict[Path, float]:
    """What each output weighs in the time left: a record its run's dense trainings, another file that of a notebook."""
    records = {
        config.record_path(run, config.RUNS): float(work) for run, work in workload.work(config.every_run(preset)).items()
    }
    return {path: records.get(path.absolute(), NOTEBOOK) for path in outputs}


def report(preset: str) -> str:
    """What `make status` prints: how many runs are done, running, failed, interrupted and to come, and where notebooks lie."""
    config.check_preset(preset)
    folder = config.RUNS / preset
    names = {path.stem for path in (folder / "records").glob("*.json")}
    alone = config.PRESETS[preset].in_process
    wanted = [] if alone else [run.slug() for run in config.every_run(preset)]
    logs = {path.stem: path.with_suffix(".ipynb") for path in sorted((folder / "notebooks").glob("*.json"))}
    states = {name: found for name, path in logs.items() if name not in names and (found := noted(path))}
    n = {state: sum(found["state"] == state for found in states.values()) for state in ("running", "failed", "interrupted")}
    executed = [path for path in (folder / "notebooks").glob("*.ipynb") if path.stem not in states]
    done = len(executed) if alone else len(names & set(wanted))
    head = f"{preset}: {done} notebooks" if alone else f"{preset}: {done} of {len(wanted)} runs"
    lines = [f"{head} done, {n['running']} running, {n['failed']} failed, {n['interrupted']} interrupted" + _time_left(preset)]
    for name, found in states.items():
        since = spoken(time.time() - found["since"])
        where = f"since {since} on {found['host']}" if found["state"] == "running" else f"{found['reason']} see {logs[name]}"
        lines.append(f"{found['state']:12s}{name}: {where}".replace(":  see", ": see"))
    return "\n".join(lines)


def _time_left(preset: str) -> str:
    """The time left at the rate since the workflow at work began, as the end of a sentence."""
    if (who := holder(preset)) is None or who["pid"] == os.getpid():
        return "; no other workflow is at work." if who else "; no workflow is at work."
    found = {config.record_path(run, config.RUNS): work for run, work in workload.work(config.every_run(preset)).items()}
    left = {path: work for path, work in found.items() if not path.exists()}
    new = sum(work for path, work in found.items() if path not in left and path.stat().st_mtime >= who["since"])
    if config.PRESETS[preset].in_process or not new:
        return f"; process {who['pid']} on {who['host']} is at work."
    return f"; about {spoken((time.time() - who['since']) / new * sum(left.values()))} left."


def main() -> int:
    """The command line; 2 for an unknown preset."""
    parser = argparse.ArgumentParser(description="How far the runs of a preset are.")
    parser.add_argument("preset")
    preset = parser.parse_args().preset
    return command.ended(lambda: print(report(preset)))


if __name__ == "__main__":
    sys.exit(main())
