"""All benchmarks, one after the other, into benchmarks/results.md with hardware and date.

    make bench

On a machine that does nothing else.
"""

import datetime
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import torch
from tqdm.auto import tqdm

from fairlth.analysis import conditions
from fairlth.config import paths

HERE = Path(__file__).resolve().parent
NAMES = (
    "training",
    "gains",
    "overhead",
    "selection",
    "growth",
    "stacked",
    "methods",
    "export",
    "static_int8",
    "units",
    "workflow",
)


def machine() -> str:
    """The processor, its cores, the versions and the date, in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith("flags")]
    has = [name for name in ("avx512_bf16", "amx_tile") if any(name in line for line in flags)]
    parts = [
        f"{conditions.processor()} ({', '.join(has) or 'no bfloat16'})",
        f"{os.cpu_count()} cores",
        torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
        f"torch {torch.__version__}",
        str(datetime.date.today()),
    ]
    return ", ".join(parts)


def section(name: str) -> str:
    """One benchmark's purpose and what it printed; raises CalledProcessError where it fails."""
    module = import_module(f"benchmarks.{name}")
    purpose = (module.__doc__ or name).splitlines()[0]
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    done = subprocess.run(command, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return f"## {name}\n\n{purpose}\n\n```\n{done.stdout}```\n"


def main() -> None:
    """Writes the report, after each benchmark anew, and prints it."""
    text = f"# Benchmarks\n\n{machine()}\n"
    for name in tqdm(NAMES, unit="benchmark"):
        text += f"\n{section(name)}"
        paths.write_atomically(HERE / "results.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
