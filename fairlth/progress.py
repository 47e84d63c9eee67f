"""One line that says how far a long computation is: a single updated output in a notebook, standard error elsewhere."""

import sys
import time
from typing import Any

_state: dict[str, Any] = {"cell": None, "handle": None, "printed": 0.0}
EVERY = 10.0  # seconds between two lines where lines cannot be overwritten


def say(text: str) -> None:
    """Shows `text` in place of the line before it; a notebook cell keeps only the last one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        _show_in_cell(shell.execution_count, text)
    elif sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif time.monotonic() - _state["printed"] > EVERY:
        _state["printed"] = time.monotonic()
        print(text, file=sys.stderr, flush=True)


def _show_in_cell(cell: int, text: str) -> None:
    from IPython.display import HTML, display

    line = HTML(f"<small>{text}</small>")
    if _state["cell"] == cell:
        _state["handle"].update(line)
    else:
        _state.update(cell=cell, handle=display(line, display_id=True))
