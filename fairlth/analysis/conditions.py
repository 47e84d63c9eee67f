"""What a number depends on beside its run: versions, commit, code, device, precision, time,
memory.
"""

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import fairlth
from fairlth.config import Schedule, paths
from fairlth.training import low_precision


def conditions(
    device: torch.device, schedule: Schedule, seconds: float, shared_seconds: float = 0.0
) -> dict[str, Any]:
    """What a number depends on beside its run: versions, commit, code, device, precision of the
    training, time.

    `shared_seconds` is what the shared trainings took that the run read instead of making them;
    `seconds` is its own time; `memory` the process's peak in mebibytes.
    """
    cpu = f"{processor()}, {torch.get_num_threads()} thread(s)"
    named = cpu if device.type == "cpu" else torch.cuda.get_device_name(device)
    named += ", deterministic" if torch.are_deterministic_algorithms_enabled() else ""
    versions = {
        "version": fairlth.__version__,
        "commit": _commit(),
        "code": code_fingerprint(),
        "torch": torch.__version__,
    }
    spent = {
        "seconds": round(seconds, 2),
        "shared_seconds": round(shared_seconds, 2),
        "memory": round(peak_memory(device), 1),
    }
    precision = "bfloat16" if low_precision(schedule, device) else "float32"
    return versions | {"device": named, "precision": precision} | spent


def processor() -> str:
    """The name of the machine's processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        platform.machine() or "cpu",
    )


def peak_memory(device: torch.device) -> float:
    """Mebibytes that the process has held at most, on the device; on CPU its resident memory, nan
    where that is not told.
    """
    if device.type != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next(
        (int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan")
    )


LOADED = paths.code_fingerprint(paths.DECIDES)  # files may change while a process runs


def code_fingerprint() -> str:
    """Of the code that decides a run's outcome, as this process has loaded it."""
    return LOADED


def check_code() -> None:
    """Raises ValueError where the workflow that this process belongs to began with other code: a
    grid is of one code.
    """
    if paths.GRID_CODE not in (None, code_fingerprint()):
        raise ValueError(
            f"the code that decides a run has changed under a running grid, from {paths.GRID_CODE} "
            f"to {code_fingerprint()}: "
            "let the grid finish in a clone of its own, or stop it and start it again."
        )


def _commit() -> str:
    """The commit of the package's own repository; "unknown" where it is installed without one, also
    inside another.
    """
    git = ["git", "-C", str(paths.PACKAGE)]
    try:
        root = subprocess.run(
            [*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True
        ).stdout
        if Path(root.strip()).resolve() != paths.PACKAGE.parent:
            return "unknown"
        describe = [*git, "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
