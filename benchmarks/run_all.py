"""All benchmarks, one after the other, into benchmarks/results.md with hardware and date; on a
machine that does nothing else.

make bench
"""

import ast
import datetime
import os
import subprocess
import sys
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
    "workflow",
)


def machine() -> str:
    """The processor, its cores, the versions and the date, in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = conditions.processor()
    known = "avx512_bf16", "amx_tile"
    has = [
        feature
        for feature in known
        if any(feature in line for line in lines if line.startswith("flags"))
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores, today = os.cpu_count(), datetime.date.today()
    return f"{name} ({', '.join(has) or 'no bfloat16'}), {cores} cores, {gpu}, torch {torch.__version__}, {today}"


def section(name: str) -> str:
    """One benchmark's purpose and what it printed; raises CalledProcessError where it fails."""
    purpose = (
        (ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or name)
        .split("\n\n")[0]
        .replace("\n", " ")
    )
    progress.say(f"benchmark {name}")
    done = subprocess.run(
        [sys.executable, HERE / f"{name}.py"], stdout=subprocess.PIPE, text=True, check=True
    )
    return f"## {name}\n\n{purpose}\n\n```\n{done.stdout}```\n"


def main() -> None:
    """Writes the report, after each benchmark anew, and prints it."""
    text = f"# Benchmarks\n\n{machine()}\n"
    for name in NAMES:
        text += f"\n{section(name)}"
        paths.write_atomically(HERE / "results.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
