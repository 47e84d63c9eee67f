from types import SimpleNamespace

import IPython
import IPython.display
import pytest

from fairlth import progress


@pytest.fixture
def notebook(monkeypatch):
    """A shell in cell 1 and what it is shown; time stands still unless a test moves it."""
    texts, ends = [], []
    handle = SimpleNamespace(update=lambda line: texts.append(line.data))
    events = SimpleNamespace(register=lambda event, call: ends.append(call))
    shell = SimpleNamespace(kernel=None, execution_count=1, events=events)
    found = SimpleNamespace(texts=texts, ends=ends, shell=shell, now=100.0)
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(IPython.display, "display", lambda line, display_id: texts.append(line.data) or handle)
    monkeypatch.setattr(progress.time, "monotonic", lambda: found.now)
    monkeypatch.setattr(progress, "_state", progress._state | {"cell": None, "shell": None, "waiting": None})
    return found


def test_a_cell_is_shown_a_line_now_and_then_and_the_last_one_at_its_end(notebook):
    for step in range(5):
        progress.say(f"step {step}")
    assert notebook.texts == ["<small>step 0</small>"]
    notebook.now += progress.AGAIN
    progress.say("step 5")
    progress.say("step 6")
    assert notebook.texts[1:] == ["<small>step 5</small>"]
    [end] = notebook.ends
    end(None)
    end(None)
    assert notebook.texts[2:] == ["<small>step 6</small>"]


def test_another_cell_has_a_line_of_its_own(notebook):
    progress.say("one")
    notebook.shell.execution_count = 2
    progress.say("two")
    assert notebook.texts == ["<small>one</small>", "<small>two</small>"] and len(notebook.ends) == 1
