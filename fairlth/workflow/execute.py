"""Executes a notebook with Papermill, which alone accepts parameters that a notebook does not have.

fairlth execute notebooks/03_one_run.ipynb out.ipynb method=ballot density=0.05
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from fairlth.config import paths
from fairlth.workflow import locks
from fairlth.workflow.status import papermill_metadata

KERNEL = "python3"
SETTINGS: dict[str, Any] = {
    "progress_bar": sys.stderr.isatty(),  # of cells, where somebody watches
    "coalesce_streams": True,  # a line that is overwritten is one output
    "extra_arguments": ["--IPKernelApp.log_level=40"],  # no notice of how the kernel is reached
}
FAILURES = (papermill.PapermillExecutionError, CellTimeoutError, DeadKernelError)


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Runs `notebook` and leaves the executed copy at `output`, also where a cell fails.

    Where another process executes the same output, this one waits for it. Where FAIRLTH_GPUS lists
    GPUs, it waits for a share of one, see `locks.gpu`.

    Args:
        notebook: path of a notebook, which is not changed.
        output: path to write; its folder is made, an older executed notebook is replaced.
        parameters: values of the notebook's cell tagged `parameters`, by name.

    Raises:
        ValueError: the notebook is not there or is not one, a parameter is not one of its, or
            `output` is something else than an executed notebook; nothing is run.
        OSError: `output` cannot be written; nothing is run.
        papermill.PapermillExecutionError: a cell failed.
        nbclient.exceptions.CellTimeoutError, DeadKernelError: a cell took too long, or the kernel
            died.
    """
    _check_parameters(notebook, parameters)
    _check_output(notebook, output)
    paths.check_writable(output)
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment
    with locks.notebook(output), locks.gpu(os.environ) as gpu:
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        try:
            papermill.execute_notebook(
                _literal(notebook), _literal(output), parameters, kernel_name=KERNEL, **SETTINGS
            )
        except (*FAILURES, KeyboardInterrupt) as error:
            with suppress(OSError, ValueError):  # the disk may be full
                _note_failure(output, sentence(error))
            raise


def _literal(path: Path) -> str:
    """A path as Papermill takes it, which fills in parameters between braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    if not notebook.is_file():
        raise ValueError(
            f"{notebook} is not there: give the path of a notebook, "
            "such as notebooks/03_one_run.ipynb."
        )
    try:
        known = papermill.inspect_notebook(_literal(notebook))
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        first_line = str(error).partition("\n")[0]
        raise ValueError(f"{notebook} cannot be read as a notebook ({first_line}).") from None
    for name in parameters:
        if name not in known:
            choices = f"choose one of {', '.join(known)}" if known else "it has none"
            raise ValueError(f"{name!r} is not a parameter of {notebook.name}: {choices}.")


def _check_output(notebook: Path, output: Path) -> None:
    """Raises ValueError if writing `output` would replace what Papermill has not written."""
    if output.suffix != ".ipynb":
        raise ValueError(f"{output} is refused: give the executed notebook a name in .ipynb.")
    if not output.exists():
        return
    if output.samefile(notebook):
        raise ValueError(f"{output} is the notebook itself: give the executed one another path.")
    left_by_a_killed_process = locks.of_notebook(output).exists()
    if papermill_metadata(output) is None and not left_by_a_killed_process:
        raise ValueError(
            f"{output} is there and is not an executed notebook: move it away or give another path."
        )


def _note_failure(output: Path, reason: str) -> None:
    """Writes into the executed notebook that it failed: Papermill does not where a kernel dies."""
    notebook = json.loads(output.read_text())
    notebook["metadata"]["papermill"] |= {"exception": True, "reason": reason}
    paths.write_atomically(output, json.dumps(notebook, indent=1).encode())


def sentence(error: BaseException) -> str:
    """What went wrong in a notebook, in one line."""
    if isinstance(error, DeadKernelError):
        return "the kernel died, as it does when it is killed or memory runs out."
    if isinstance(error, KeyboardInterrupt):
        return "it was stopped."
    if isinstance(error, papermill.PapermillExecutionError):
        text = f"cell {error.exec_count} failed with {error.ename}: {error.evalue}"
    else:
        text = f"{type(error).__name__}: {error}"
    return text.partition("\n")[0].rstrip(".") + "."
