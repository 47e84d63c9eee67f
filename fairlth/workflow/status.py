"""How far a preset's runs are, while a workflow is at work and from another terminal."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from fairlth import config
from fairlth.config import paths, workload
from fairlth.workflow import locks

NOTEBOOK = 0.02  # dense trainings: what a notebook weighs beside runs in the time left
STATES = ("running", "failed", "interrupted")


class State(NamedTuple):
    """How the execution of a notebook stands: "done", "running", "failed" or "interrupted".

    `reason` is why it failed, `since` its start in seconds since 1970 (nan where it is not known).
    """

    name: str
    reason: str = ""
    since: float = float("nan")


def state(notebook: Path) -> State:
    """Tells from an executed notebook and its lock how its execution stands.

    A notebook that nobody executes and that has no end, or cannot be read, was interrupted.
    """
    found = papermill_metadata(notebook) or {}
    since = _time(found.get("start_time"))
    if locks.is_held(locks.of_notebook(notebook)):
        return State("running", since=since)
    if found.get("exception"):
        return State("failed", str(found.get("reason", "a cell failed.")), since)
    return State("done" if found.get("end_time") else "interrupted", since=since)


def papermill_metadata(path: Path) -> dict[str, Any] | None:
    """What Papermill has noted in an executed notebook; None for any other file."""
    try:
        found = json.loads(path.read_text())["metadata"]["papermill"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, dict) else None


def _time(text: Any) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return float("nan")


def duration(seconds: float) -> str:
    """A duration as people say it: "40 s", "12 min", "3 h 20 min", "2 days 4 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    whole = timedelta(seconds=seconds)
    if whole.days < 2:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{whole.days} days {whole.seconds // 3600} h"


class Watch:
    """Prints a line for everything that a workflow finishes, with the time left at the rate so far.

    Args:
        outputs: file -> what it weighs in the time left.
    """

    def __init__(self, outputs: Mapping[Path, float]) -> None:
        self.started = time.time()
        self.left = dict(outputs)
        self.total = len(outputs)
        for path in outputs:
            if path.parent.name == "records" and path.exists():
                del self.left[path]  # done before: only Snakemake's own notes lack it
        self.all = sum(self.left.values())
        self.lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self.left:
            time.sleep(1)
            self.look()

    def look(self) -> None:
        """Prints what has been finished since the last look."""
        with self.lock:
            for path in list(self.left):
                if path.exists() and path.stat().st_mtime >= self.started - 1:
                    del self.left[path]
                    name = path.stem if path.suffix == ".json" else path.name
                    print(self.line(name), file=sys.stderr, flush=True)

    def line(self, name: str) -> str:
        """How far things are after `name` was finished."""
        to_come = sum(self.left.values())
        done = max(self.all - to_come, 1e-9)
        left = (time.time() - self.started) / done * to_come
        finished = self.total - len(self.left)
        return f"{finished} of {self.total} done, about {duration(left)} left: {name}"


def weights(preset: str, outputs: Iterable[Path]) -> dict[Path, float]:
    """What each output weighs in the time left, in dense trainings: a notebook little."""
    records = _work(preset)
    return {path: records.get(path.absolute(), NOTEBOOK) for path in outputs}


def _work(preset: str) -> dict[Path, float]:
    """The record of every run of a preset -> dense trainings that the run takes."""
    work = workload.work(config.every_run(preset))
    return {config.record_path(run, paths.RUNS): float(n) for run, n in work.items()}


def report(preset: str) -> str:
    """How many runs are done, running, failed and interrupted, and where their notebooks are.

    Raises:
        ValueError: there is no such preset.
    """
    config.check_preset(preset)
    folder = paths.RUNS / preset
    done = {path.stem for path in (folder / "records").glob("*.json")}
    states = {path: state(path) for path in _notebooks(folder) if path.stem not in done}
    if config.PRESETS[preset].in_process:
        n = sum(found.name == "done" for found in states.values())
        head = f"{preset}: {n} notebooks done"
    else:
        wanted = {run.slug() for run in config.every_run(preset)}
        head = f"{preset}: {len(done & wanted)} of {len(wanted)} runs done"
    for name in STATES:
        head += f", {sum(found.name == name for found in states.values())} {name}"
    lines = [_line(path, found) for path, found in states.items() if found.name != "done"]
    return "\n".join([head + _time_left(preset), *lines])


def _notebooks(folder: Path) -> list[Path]:
    """Executed notebooks of a preset, with those whose first cell has not been written yet."""
    begun = (folder / "notebooks").glob(".*.ipynb.lock")
    named = {path.with_name(path.name[1 : -len(".lock")]) for path in begun}
    return sorted(named | set((folder / "notebooks").glob("*.ipynb")))


def _line(notebook: Path, found: State) -> str:
    if found.name == "running":
        spent = time.time() - found.since
        since = f" since {duration(spent)}" if spent >= 0 else ""
        return f"running     {notebook.stem}{since}"
    reason = f" {found.reason}" if found.reason else ""
    return f"{found.name:12s}{notebook.stem}:{reason} see {notebook}"


def _time_left(preset: str) -> str:
    """The time left at the rate since the workflow at work began, as the end of a sentence."""
    who = locks.holder(preset)
    if who is None:
        return "; no workflow is at work."
    if who.get("pid") == os.getpid():
        return "; no other workflow is at work."
    since = who.get("since", time.time())
    work = _work(preset)
    new = 0.0
    left = 0.0
    for path, weight in work.items():
        if not path.exists():
            left += weight
        elif path.stat().st_mtime >= since:
            new += weight
    if config.PRESETS[preset].in_process or not new:
        process = f"process {who['pid']} on {who['host']}" if who else "a workflow"
        return f"; {process} is at work."
    return f"; about {duration((time.time() - since) / new * left)} left."
