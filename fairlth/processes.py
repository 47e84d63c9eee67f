"""Which process works on what: notes beside executed notebooks, and the lock on a preset's folder of results."""

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from fairlth import config


def born(pid: int) -> str | None:
    """When a process of this machine started, in ticks: tells it from a later one of its number. None where it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]  # Z: killed, and nobody has asked yet how it ended


def alive(who: Mapping[str, Any]) -> bool:
    """Whether the process of a note is there still; one on another machine is taken to be."""
    if who["host"] != socket.gethostname():
        return True
    if Path("/proc/self").exists():
        return born(who["pid"]) is not None and who.get("born") in (None, born(who["pid"]))
    if os.name != "posix":
        return False  # asking would end it there
    try:
        os.kill(who["pid"], 0)
    except OSError:
        return False
    return True


def me() -> dict[str, Any]:
    """This process and the time, for a note."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": born(os.getpid()), "since": time.time()}


def note_of(notebook: Path) -> Path:
    """Where the state of an executed notebook lies: beside it; no file means that it ran to its end."""
    return notebook.with_suffix(".json")


def note(notebook: Path, state: str, reason: str = "") -> None:
    """Notes "running" or "failed" for a notebook that is executed by this process."""
    config.write_atomically(note_of(notebook), json.dumps({"state": state, "reason": reason, **me()}).encode())


def noted(notebook: Path) -> dict[str, Any] | None:
    """An executed notebook's state: "running", "failed", "interrupted" (its process is gone); None: it ran or never did."""
    try:
        found = json.loads(note_of(notebook).read_text())
    except (OSError, ValueError):
        return None
    return found | {"state": "interrupted"} if found["state"] == "running" and not alive(found) else found


def is_executed(notebook: Path) -> bool:
    """Whether another process of this machine executes the notebook now."""
    found = noted(notebook)
    return (
        found is not None
        and found["state"] == "running"
        and found["host"] == socket.gethostname()
        and found["pid"] != os.getpid()
    )


def hold(preset: str) -> IO[str]:
    """Takes the preset's folder of results for one workflow until this process ends, however it ends.

    Raises:
        ValueError: another workflow holds it, and the sentence names its process; or the folder cannot be written.
    """
    import fcntl  # not on Windows, where Snakemake is not used

    path = config.RUNS / preset / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise ValueError(f"{path.parent} cannot be worked in ({error.strerror}): give it a folder with access.") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        who = holder(preset) or {"pid": "unknown", "host": "this machine"}
        raise ValueError(
            f"{path.parent} is worked on by another workflow, process {who['pid']} on {who['host']}: wait for its end, or "
            "stop it and call again."
        ) from None
    file.truncate(0)
    file.write(json.dumps(me()))
    file.flush()
    return file


def holder(preset: str) -> dict[str, Any] | None:
    """The workflow that works on the preset's folder now, None where there is none."""
    try:
        who = json.loads((config.RUNS / preset / ".lock").read_text())
    except (OSError, ValueError):
        return None
    return who if alive(who) else None
