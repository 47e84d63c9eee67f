"""Executes a notebook with Papermill and refuses parameters that it does not have, which Papermill does not.

python -m fairlth.execute notebooks/03_one_run.ipynb out.ipynb method=ballot density=0.05
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import papermill

KERNEL = "python3"
QUIET: dict[str, Any] = {
    "progress_bar": False,
    "coalesce_streams": True,  # a line that is overwritten is one output
    "extra_arguments": ["--IPKernelApp.log_level=40"],  # no notice of how the kernel is reached
}


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Runs `notebook` with `parameters` and leaves the executed copy at `output`, also where a cell fails.

    Raises:
        ValueError: a parameter is not one of the notebook's, or the notebook is not there; nothing is run.
        papermill.PapermillExecutionError: a cell failed.
    """
    if not notebook.exists():
        raise ValueError(f"{notebook} is not there: give the path of a notebook, such as notebooks/03_one_run.ipynb.")
    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise ValueError(f"{name!r} is not a parameter of {notebook.name}: choose one of {', '.join(known)}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(str(notebook), str(output), parameters, kernel_name=KERNEL, **QUIET)


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


def main() -> int:
    """The command line; 0 where the notebook ran, 1 where a cell failed, 2 for bad input."""
    parser = argparse.ArgumentParser(description="Execute a notebook with Papermill, strictly.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("parameters", nargs="*", metavar="name=value")
    arguments = parser.parse_args()
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    try:
        execute(arguments.notebook, arguments.output, parse(arguments.parameters))
    except papermill.PapermillExecutionError as error:
        print(
            f"{arguments.notebook}: cell {error.exec_count} failed, see {arguments.output}\n{error.ename}: {error.evalue}",
            file=sys.stderr,
        )
        return 1
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
