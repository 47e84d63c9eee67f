"""What a number depends on beside its run: versions, code, device, precision, time, memory."""

import math
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
    """What a number depends on beside its run, as a record keeps it.

    `precision` is the training's, `memory` the process's peak in mebibytes.

    Args:
        device: that the run was on.
        schedule: of its training.
        seconds: that the run took itself.
        shared_seconds: that the shared trainings took which the run read instead of making them.
    """
    if device.type == "cpu":
        named = f"{processor()}, {torch.get_num_threads()} thread(s)"
    else:
        named = torch.cuda.get_device_name(device)
    if torch.are_deterministic_algorithms_enabled():
        named += ", deterministic"
    return {
        "version": fairlth.__version__,
        "commit": _commit(),
        "code": LOADED,
        "torch": torch.__version__,
        "device": named,
        "precision": "bfloat16" if low_precision(schedule, device) else "float32",
        "seconds": round(seconds, 2),
        "shared_seconds": round(shared_seconds, 2),
        "memory": round(peak_memory(device), 1),
    }


def processor() -> str:
    """The name of the machine's processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine() or "cpu"


def peak_memory(device: torch.device) -> float:
    """Mebibytes that the process has held at most on the device.

    On CPU it is the resident memory, nan where the system does not tell it.
    """
    if device.type != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM"):
            kibibytes = int(line.split()[1])
            return kibibytes / 1024
    return math.nan


# fingerprint of the code that decides a run's outcome: files may change while a process runs
LOADED = paths.code_fingerprint(paths.DECIDES)


def check_code() -> None:
    """Raises ValueError where this process's workflow began with other code: a grid is of one."""
    if paths.GRID_CODE not in (None, LOADED):
        raise ValueError(
            "the code that decides a run has changed under a running grid, "
            f"from {paths.GRID_CODE} to {LOADED}: "
            "let the grid finish in a clone of its own, or stop it and start it again."
        )


def _commit() -> str:
    """The commit of the package's own repository, "unknown" where it has none."""
    git = ["git", "-C", str(paths.PACKAGE)]
    quiet: Any = {"stderr": subprocess.DEVNULL, "text": True}
    try:
        root = subprocess.check_output([*git, "rev-parse", "--show-toplevel"], **quiet)
        if Path(root.strip()).resolve() != paths.PACKAGE.parent:
            return "unknown"
        describe = [*git, "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.check_output(describe, **quiet).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
