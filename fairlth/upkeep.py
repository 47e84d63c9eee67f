"""What a workflow does before it plans: sweeps temporary files of dead processes, sets aside records that do not count."""

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fairlth import ORDER, config
from fairlth.config import Run
from fairlth.processes import alive, holder

DECIDES = ORDER[: ORDER.index("methods") + 1]  # modules whose code decides a run's outcome
FORGOTTEN = 86_400  # seconds after which another machine's temporary file is taken for dead
TAIL = 1 << 14  # bytes at the end of a record that hold its settings and conditions


def tail(path: Path) -> dict[str, Any] | None:
    """The settings and conditions of a record, from the end of its file; None where the file is not a whole record."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        text = file.read().decode(errors="replace")
    start = text.rfind('\n "settings": ')
    try:
        found = json.loads("{" + text[start:]) if start >= 0 else json.loads(path.read_text())
        return {"settings": found["settings"], "conditions": found["conditions"]}
    except (ValueError, KeyError, TypeError):
        return None


def settings_of(run: Run) -> dict[str, Any]:
    """The preset as a record of the run keeps it."""
    return run.settings.model_dump(mode="json", exclude=config.LISTS)


def sweep(folders: Iterable[Path]) -> list[Path]:
    """Removes the temporary files of writers that are gone, and returns them."""
    removed = []
    for path in (path for folder in folders if folder.is_dir() for path in folder.rglob(".*")):
        if path.is_file() and _is_dead(path):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _is_dead(path: Path) -> bool:
    host = socket.gethostname()
    if name := re.fullmatch(rf"\..+\.{re.escape(host)}-(\d+)\.\w+", path.name):
        return not alive({"host": host, "pid": int(name[1])})
    elsewhere = re.fullmatch(r"\..+-\d+\.\w+", path.name) is not None
    return elsewhere and time.time() - path.stat().st_mtime > FORGOTTEN


def put_in_order(preset: str) -> list[str]:
    """What a workflow does before it plans: sweeps dead temporary files, sets aside records that do not count any more.

    A record that is torn or was made under other settings of its preset goes to runs/<preset>/aside/, so that its run is made
    anew; one that was made by other code stays and counts. Returns a sentence for each kind that was found; nothing is done
    while a workflow is at work on the folder.
    """
    if holder(preset):
        return []
    folder, said = config.RUNS / preset, []
    if removed := sweep([folder, config.FIGURES / preset, config.TABLES, config.CACHE]):
        said.append(f"{len(removed)} temporary file(s) of processes that are gone were removed.")
    if config.PRESETS[preset].in_process:
        return said  # its notebooks see to their records themselves
    found: dict[str, list[Path]] = {"torn": [], "other settings": [], "other code": []}
    code = config.code_fingerprint(DECIDES)
    for run in config.every_run(preset):
        if (path := config.record_path(run, config.RUNS)).exists() and (fault := _fault(run, path, code)):
            found[fault].append(path)
    for path in found["torn"] + found["other settings"]:
        (folder / "aside").mkdir(exist_ok=True)
        os.replace(path, folder / "aside" / path.name)
    return said + _sentences(found, folder)


def _fault(run: Run, path: Path, code: str) -> str | None:
    if (ends := tail(path)) is None:
        return "torn"
    if ends["settings"] != settings_of(run):
        return "other settings"
    return None if ends["conditions"].get("code") == code else "other code"


def _sentences(found: Mapping[str, list[Path]], folder: Path) -> list[str]:
    say = {
        "torn": "{} record(s) were not whole: they lie in {aside} now and their runs are made anew.",
        "other settings": "{} record(s) were made under other settings of this preset: they lie in {aside} now and their runs "
        "are made anew.",
        "other code": "{} record(s) were made by other code of this package and count as they are: remove them from {records} "
        "to make their runs anew.",
    }
    return [
        say[fault].format(len(paths), aside=folder / "aside", records=folder / "records")
        for fault, paths in found.items()
        if paths
    ]
