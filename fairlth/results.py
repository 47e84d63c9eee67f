"""What is kept of a run: a record as JSON, and all records as one tidy table."""

import json
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import fairlth
from fairlth import config
from fairlth.config import Schedule
from fairlth.metrics import Counts
from fairlth.training import low_precision

DECIDES = fairlth.ORDER[: fairlth.ORDER.index("methods") + 1]  # the modules whose code decides a run's outcome
KEYS = [*config.TASK, "method", "density", "seed", "preset", "pressure"]
CONDITIONS = ["version", "commit", "torch", "device", "precision", "seconds", "shared_seconds", "memory", "cost"]
COLUMNS = [*KEYS, "split", "class", "group", "correct", "total", "feasible", *CONDITIONS]
SHIFTS = (0.25, 0.5, 1.0)  # how far every ticket's class biases are shifted as well: its accuracy-fairness curve after training


@dataclass(frozen=True)
class Record:
    """One finished run: counts per class and group, so that any metric can be recomputed, and its conditions.

    `counts` maps "val", "test" and "test+s", where class biases were shifted by s of the way to the fairest shift on validation
    data (see SHIFTS), to {"correct", "total"}, each a list of classes of a list of groups; `layers` is the mask's
    report; `cost` is in dense-training equivalents; `settings` is the preset as it was.
    """

    run: dict[str, Any]
    target: str
    group_by: str
    classes: list[str]
    groups: list[str]
    counts: dict[str, dict[str, list[list[int]]]]
    layers: list[dict[str, Any]]
    cost: float
    feasible: bool | None
    trace: list[dict[str, Any]]
    notes: dict[str, Any]
    settings: dict[str, Any]
    conditions: dict[str, Any]

    def split(self, name: str) -> Counts:
        """The counts of "val" or "test" as arrays (classes, groups)."""
        return Counts(np.array(self.counts[name]["correct"]), np.array(self.counts[name]["total"]))

    @property
    def kept(self) -> int:
        """Weights that the mask keeps."""
        return sum(layer["kept"] for layer in self.layers)

    @property
    def total(self) -> int:
        """Weights that could have been pruned."""
        return sum(layer["total"] for layer in self.layers)


def write(record: Record, path: Path) -> None:
    """Writes a record as JSON, whole or not at all."""
    config.write_atomically(path, json.dumps(asdict(record), indent=1).encode())


def read(path: Path) -> Record:
    """Reads a record; ValueError in one sentence where the file is not a whole one."""
    try:
        return Record(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a whole record of this version ({error}): delete it and run again.") from error


def conditions(device: torch.device, schedule: Schedule, seconds: float, shared_seconds: float = 0.0) -> dict[str, Any]:
    """What a number depends on beside its run: versions, commit, code, device, precision of the training, time.

    `shared_seconds` is what the shared trainings took that the run read instead of making them; `seconds` is its own time;
    `memory` the process's peak in mebibytes.
    """
    cpu = f"{processor()}, {torch.get_num_threads()} thread(s)"
    named = cpu if device.type == "cpu" else torch.cuda.get_device_name(device)
    named += ", deterministic" if torch.are_deterministic_algorithms_enabled() else ""
    versions = {"version": fairlth.__version__, "commit": _commit(), "code": code_fingerprint(), "torch": torch.__version__}
    spent = {"seconds": round(seconds, 2), "shared_seconds": round(shared_seconds, 2), "memory": round(peak_memory(device), 1)}
    precision = "bfloat16" if low_precision(schedule, device) else "float32"
    return versions | {"device": named, "precision": precision} | spent


def processor() -> str:
    """The name of the machine's processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine() or "cpu")


def peak_memory(device: torch.device) -> float:
    """Mebibytes that the process has held at most, on the device; on CPU its resident memory, nan where that is not told."""
    if device.type != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def code_fingerprint() -> str:
    """Changes when the code that decides a run's outcome does."""
    return config.code_fingerprint(DECIDES)


def _commit() -> str:
    command = ["git", "-C", str(config.PACKAGE), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def rows(record: Record) -> list[dict[str, Any]]:
    """One row per split and (class, group) cell, in the columns of COLUMNS."""
    head = record.run | {"target": record.target, "group_by": record.group_by, "feasible": record.feasible}
    head |= {name: record.conditions.get(name) for name in CONDITIONS if name != "cost"} | {"cost": record.cost}
    own = record.group_by == "class"  # then only the cells with group = class exist
    return [
        head | {"split": split, "class": c, "group": g, "correct": counts["correct"][i][j], "total": counts["total"][i][j]}
        for split, counts in record.counts.items()
        for i, c in enumerate(record.classes)
        for j, g in enumerate(record.groups)
        if i == j or not own
    ]


def table(records: list[Record]) -> pd.DataFrame:
    """The tidy table of some records: one row per run, split and (class, group) cell."""
    return pd.DataFrame([row for record in records for row in rows(record)], columns=COLUMNS)


def save_table(frame: pd.DataFrame, preset: str) -> Path:
    """Writes data/results/<preset>.csv, the order of rows independent of the order of runs."""
    path = config.TABLES / f"{preset}.csv"
    frame = frame.sort_values([*KEYS, "split"], kind="stable", na_position="first")
    config.write_atomically(path, frame.to_csv(index=False).encode())
    return path


def load(preset: str) -> pd.DataFrame:
    """Reads data/results/<preset>.csv; ValueError where there is none."""
    path = config.TABLES / f"{preset}.csv"
    if not path.exists():
        raise ValueError(f"{path} is not there: run `make reproduce PRESET={preset}` first.")
    text = {"class": str, "group": str, "target": str, "group_by": str}  # a class may be called 0, a group None
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
