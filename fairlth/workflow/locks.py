"""Locks on a preset's folder of results, on an executed notebook and on a share of a GPU.

A lock is free again as soon as the process that holds it has ended, however it ended.
"""

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fairlth.config import paths

WAIT = 0.5  # seconds between two tries while every share of every GPU is taken
PATIENCE = 1.0  # seconds: whoever only asks whether a lock is held has it for a moment


def of_notebook(output: Path) -> Path:
    """The lock file beside an executed notebook, which is there while the notebook is executed."""
    return output.with_name(f".{output.name}.lock")


def is_held(path: Path) -> bool:
    """Whether some process holds the lock file."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True


@contextmanager
def notebook(output: Path) -> Iterator[None]:
    """Holds an executed notebook for this process; waits for another process that executes it."""
    path = of_notebook(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: whoever waits for it makes a new one


def hold(preset: str) -> FileLock:
    """Takes the preset's folder of results for one workflow, until this process ends.

    Raises:
        ValueError: another workflow holds it, and the sentence names its process; or the folder
            cannot be written.
    """
    path = paths.RUNS / preset / ".lock"
    lock = FileLock(path, timeout=PATIENCE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        me = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        path.write_text(json.dumps(me))
    except Timeout:
        raise ValueError(
            f"{path.parent} is worked on by another workflow, {_named(_content(path))}: "
            "wait for its end, or stop it and call again."
        ) from None
    except OSError as error:
        raise ValueError(
            f"{path.parent} cannot be worked in ({error.strerror}): give it a folder with access."
        ) from None
    return lock


def holder(preset: str) -> dict[str, Any] | None:
    """The workflow that works on the preset's folder now; None where there is none.

    The values, as far as they are known, are `host`, `pid` and `since` (seconds since 1970).
    """
    path = paths.RUNS / preset / ".lock"
    return _content(path) if is_held(path) else None


def _content(path: Path) -> dict[str, Any]:
    """What the holder has written into its lock file; {} where that is not to be read."""
    try:
        who = json.loads(path.read_text())
        return {"host": str(who["host"]), "pid": int(who["pid"]), "since": float(who["since"])}
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return {}


def _named(who: Mapping[str, Any]) -> str:
    return f"process {who['pid']} on {who['host']}" if who else "of an unknown process"


def shares(variables: Mapping[str, str]) -> list[str]:
    """The GPU of each share, in the order of use: every GPU once before any has two.

    Args:
        variables: those of the shell. FAIRLTH_GPUS lists the GPUs ("0,1" or "0 1"), and
            FAIRLTH_GPU_SLOTS says how many processes may share each (1).

    Raises:
        ValueError: FAIRLTH_GPU_SLOTS is no whole number of at least 1.
    """
    gpus = variables.get("FAIRLTH_GPUS", "").replace(",", " ").split()
    number = variables.get("FAIRLTH_GPU_SLOTS", "1")
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(
            f"FAIRLTH_GPU_SLOTS={number!r} is refused: expected how many processes share a GPU, "
            "at least 1."
        )
    return gpus * int(number)


@contextmanager
def gpu(variables: Mapping[str, str], folder: Path | None = None) -> Iterator[str | None]:
    """Holds a share of a GPU, waiting for one where all are taken; yields the GPU's name.

    Args:
        variables: see `shares`. Where they list no GPU, None is yielded at once.
        folder: of the lock files, on a disk of this machine; None: the system's temporary folder.
    """
    named = shares(variables)
    if not named:
        yield None
        return
    folder = folder or Path(tempfile.gettempdir()) / f"fairlth-gpus-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    number, lock = _first_free(named, folder)
    try:
        yield named[number]
    finally:
        lock.release()


def _first_free(named: list[str], folder: Path) -> tuple[int, FileLock]:
    """The first share that nobody holds, and its lock, which is held now."""
    while True:
        for number, name in enumerate(named):
            turn = named[:number].count(name)
            lock = FileLock(folder / f"{name.replace('/', '-')}-{turn}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            return number, lock
        time.sleep(WAIT)
