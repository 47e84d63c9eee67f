"""What a workflow does before it plans: files of dead processes go, records are checked."""

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from fairlth import config
from fairlth.config import Run, paths
from fairlth.workflow import locks

FORGOTTEN = 86_400  # seconds after which another machine's temporary file counts as left behind
ENDINGS = "json|safetensors|ipynb|csv|md|txt|png|html|onnx"  # of files that the package writes


def put_in_order(preset: str, runs: Iterable[Run]) -> list[str]:
    """Cleans a preset's folder of results and says what was found, a sentence each.

    Temporary files of dead processes are removed. The records of `runs` that are torn or were made
    under other settings or with other data go to runs/<preset>/aside/, so that their runs are made
    anew; those that other code made stay and count. Nothing is done while a workflow is at work on
    the folder.
    """
    if locks.holder(preset) is not None:
        return []
    said = []
    removed = sweep([paths.RUNS / preset, paths.FIGURES / preset, paths.TABLES, paths.CACHE])
    if removed:
        said.append(f"{len(removed)} temporary file(s) of processes that have ended were removed.")
    return said + set_aside(preset, runs)


def sweep(folders: Iterable[Path]) -> list[Path]:
    """Removes what killed processes have left half written, and returns it.

    These are temporary files of `paths.write_atomically`, locks of executed notebooks that nobody
    holds, and such notebooks where they are not whole.
    """
    removed = []
    for folder in folders:
        for path in sorted(folder.rglob(".*")):
            if path.is_file() and _is_temporary(path):
                removed.append(path)
            elif path.name.endswith(".ipynb.lock") and not locks.is_held(path):
                removed.append(path)
                removed += _torn_notebook(path)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def _is_temporary(path: Path) -> bool:
    """Whether `paths.write_atomically` named the file and its writer has ended."""
    here = re.escape(socket.gethostname())
    written_here = re.fullmatch(rf"\..+\.{here}-(\d+)\.\w+", path.name)
    if written_here:
        return not _lives(int(written_here[1]))
    elsewhere = re.fullmatch(rf"\..+\.(?:{ENDINGS})\..+-\d+\.(?:\w{{8}}|probe)", path.name)
    return elsewhere is not None and time.time() - path.stat().st_mtime > FORGOTTEN


def _lives(pid: int) -> bool:
    """Whether a process of this machine is there and has not been killed."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _torn_notebook(lock: Path) -> list[Path]:
    """The executed notebook of a lock, where its writer was killed in the middle of it."""
    notebook = lock.with_name(lock.name[1 : -len(".lock")])
    if not notebook.exists():
        return []
    try:
        json.loads(notebook.read_text())
    except ValueError:
        return [notebook]
    return []


def set_aside(preset: str, runs: Iterable[Run]) -> list[str]:
    """Moves the records of `runs` that do not count to runs/<preset>/aside/, by kind of fault."""
    there = [run for run in runs if config.record_path(run, paths.RUNS).exists()]
    if not there:
        return []
    from fairlth.analysis import records
    from fairlth.workflow import experiments  # with torch, which takes seconds

    folder = paths.RUNS / preset
    counts = Counter[str]()
    for run in there:
        path = config.record_path(run)
        try:
            record = records.read(path, run)
        except ValueError:
            fault = "torn"
        else:
            fault = experiments.differing(record, run)
        counts[fault] += 1
        if fault in ("torn", "settings", "data"):
            records.set_aside(path)
    aside = f"they are in {folder / 'aside'} now, and the runs are made anew."
    sentences = {
        "torn": f"were not whole: {aside}",
        "settings": f"were made under other settings of this preset: {aside}",
        "data": f"were made with other files of their data set: {aside}",
        "code": "were made by other code of this package and count as they are: "
        f"remove them from {folder / 'records'} to make their runs anew.",
    }
    return [f"{counts[kind]} record(s) {told}" for kind, told in sentences.items() if counts[kind]]
