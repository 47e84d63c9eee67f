"""One line that says how far a long computation is: a single updated output in a notebook, standard error elsewhere."""

import sys
import time
from typing import Any

_state: dict[str, Any] = {"cell": None, "handle": None, "printed": 0.0, "shown": 0.0, "waiting": None, "shell": None}
EVERY = 10.0  # seconds between two lines where lines cannot be overwritten
AGAIN = 0.25  # seconds between two updates of a cell's line: thousands would keep whoever reads them busy


def say(text: str) -> None:
    """Shows `text` in place of the line before it; a notebook cell keeps only the last one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        _show_in_cell(shell, text)
    elif sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif time.monotonic() - _state["printed"] > EVERY:
        _state["printed"] = time.monotonic()
        print(text, file=sys.stderr, flush=True)


def _show_in_cell(shell: Any, text: str) -> None:
    """A cell's first line at once, later ones now and then, what is left when the cell ends."""
    if _state["shell"] is not shell:
        shell.events.register("post_run_cell", _show_waiting)
        _state["shell"] = shell
    if _state["cell"] != shell.execution_count:
        _state.update(cell=shell.execution_count, handle=None)
    _state["waiting"] = text
    if _state["handle"] is None or time.monotonic() - _state["shown"] >= AGAIN:
        _show_waiting()


def _show_waiting(result: Any = None) -> None:
    from IPython.display import HTML, display

    text, handle = _state["waiting"], _state["handle"]
    _state.update(waiting=None, shown=time.monotonic())
    if text is None:
        return
    line = HTML(f"<small>{text}</small>")
    if handle is None:
        _state["handle"] = display(line, display_id=True)
    else:
        handle.update(line)
