"""Executes a notebook with Papermill and refuses parameters that it does not have, which Papermill does not.

python -m fairlth.execute notebooks/03_one_run.ipynb out.ipynb method=ballot density=0.05
"""

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from fairlth import command, lease, processes

KERNEL = "python3"
QUIET: dict[str, Any] = {
    "progress_bar": False,
    "coalesce_streams": True,  # a line that is overwritten is one output
    "extra_arguments": ["--IPKernelApp.log_level=40"],  # no notice of how the kernel is reached
}


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Runs `notebook` with `parameters` and leaves the executed copy at `output`, also where a cell fails.

    While it runs, and where it fails, a note beside it says so (`processes.note`). Another process of this machine that is at
    work on the same output is waited for.

    Raises:
        ValueError: a parameter is not one of the notebook's, or the notebook is not there; nothing is run.
        papermill.PapermillExecutionError: a cell failed; nbclient's CellTimeoutError, DeadKernelError: it took too long, or its
            kernel died.
    """
    if not notebook.exists():
        raise ValueError(f"{notebook} is not there: give the path of a notebook, such as notebooks/03_one_run.ipynb.")
    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise ValueError(f"{name!r} is not a parameter of {notebook.name}: choose one of {', '.join(known)}.")
    while processes.is_executed(output):
        time.sleep(1)  # what a killed workflow has left behind may be at work on it still
    processes.note(output, "running")
    try:
        papermill.execute_notebook(str(notebook), str(output), parameters, kernel_name=KERNEL, **QUIET)
    except BaseException as error:
        with suppress(OSError):  # the disk may be full
            processes.note(output, "failed", sentence(error))
        raise
    processes.note_of(output).unlink(missing_ok=True)


def sentence(error: BaseException) -> str:
    """What went wrong in a notebook, in one line."""
    if isinstance(error, papermill.PapermillExecutionError):
        return f"cell {error.exec_count} failed with {error.ename}: {error.evalue}".partition("\n")[0].rstrip(".") + "."
    if isinstance(error, DeadKernelError):
        return "the kernel died, as it does when it is killed or memory runs out."
    return f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".") + "."


def parse(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs; a value is read as JSON (`0.05`, `true`, `null`, `[0, 1]`) and is a string where it is none."""
    parameters = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not a parameter: write name=value.")
        try:
            parameters[name] = json.loads(text)
        except json.JSONDecodeError:
            parameters[name] = text
    return parameters


def leased(notebook: Path, output: Path, pairs: list[str]) -> None:
    """`execute` on a GPU of its own where several are shared out, see `lease`."""
    with lease.gpu(os.environ) as identity:
        os.environ |= {"CUDA_VISIBLE_DEVICES": identity} if identity is not None else {}
        execute(notebook, output, parse(pairs))


def main() -> int:
    """The command line; 0 where the notebook ran, 1 where a cell failed, 2 for bad input."""
    parser = argparse.ArgumentParser(description="Execute a notebook with Papermill, strictly.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("parameters", nargs="*", metavar="name=value")
    arguments = parser.parse_args()
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    try:
        return command.ended(lambda: leased(arguments.notebook, arguments.output, arguments.parameters))
    except (papermill.PapermillExecutionError, CellTimeoutError, DeadKernelError) as error:
        print(f"{arguments.notebook}: {sentence(error)} See {arguments.output}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
