import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from fairlth.config import paths
from fairlth.workflow import locks


@pytest.fixture
def other():
    """Starts another process that runs some code, says a word and then waits; ended after the test."""
    started = []

    def start(code, *arguments):
        code = f"{code}\n    print(word, flush=True)\n    time.sleep(60)"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


GPU = """
import sys, time
from pathlib import Path
from fairlth.workflow import locks
with locks.gpu({"FAIRLTH_GPUS": "0,1", "FAIRLTH_GPU_SLOTS": sys.argv[2]}, Path(sys.argv[1])) as word:
"""
NOTEBOOK = """
import sys, time
from pathlib import Path
from fairlth.workflow import locks
word = "held"
with locks.notebook(Path(sys.argv[1])):
"""
WORKFLOW = """
import sys, time
from pathlib import Path
from fairlth.config import paths
from fairlth.workflow import locks
paths.RUNS = Path(sys.argv[1])
lock = locks.hold("smoke")
word = "held"
if lock.is_locked:
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """An empty folder of results."""
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


def test_every_gpu_has_one_before_any_has_two(other, tmp_path):
    assert [other(GPU, tmp_path, 2)[1] for _ in range(4)] == ["0", "1", "0", "1"]


def test_a_share_comes_back_when_its_process_is_killed(other, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.05)
    assert other(GPU, tmp_path, 1)[1] == "0"
    second, name = other(GPU, tmp_path, 1)
    assert name == "1"
    got = []

    def third():
        with locks.gpu({"FAIRLTH_GPUS": "0 1"}, tmp_path) as found:
            got.append(found)

    waiting = threading.Thread(target=third)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and not got  # both are taken
    second.kill()
    waiting.join(10)
    assert got == ["1"]


def test_a_share_comes_back_at_the_end_of_its_run_also_where_that_fails(tmp_path):
    variables = {"FAIRLTH_GPUS": "MIG-1/2"}
    with pytest.raises(KeyError), locks.gpu(variables, tmp_path):
        raise KeyError
    with locks.gpu(variables, tmp_path) as name:
        assert name == "MIG-1/2"


def test_without_gpus_there_is_nothing_to_wait_for(tmp_path):
    with locks.gpu({}, tmp_path / "never") as name:
        assert name is None
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("number", ["0", "-1", "two", ""])
def test_a_number_of_shares_that_is_none_is_refused(number):
    with pytest.raises(ValueError, match=f"FAIRLTH_GPU_SLOTS='{number}' is refused"):
        locks.shares({"FAIRLTH_GPUS": "0", "FAIRLTH_GPU_SLOTS": number})


def test_a_notebook_is_held_by_one_process_until_that_ends(other, tmp_path):
    output = tmp_path / "out.ipynb"
    path = locks.of_notebook(output)
    process, word = other(NOTEBOOK, output)
    assert word == "held" and locks.is_held(path)
    process.kill()
    process.wait()
    assert path.exists() and not locks.is_held(path)
    with locks.notebook(output):
        assert path.exists()
    assert not path.exists()


def test_the_lock_of_a_folder_names_its_holder_and_ends_with_it(other, runs):
    process, word = other(WORKFLOW, runs)
    assert word == "held"
    assert locks.holder("smoke")["pid"] == process.pid
    sentence = rf"is worked on by another workflow, process {process.pid} on .*: wait for its end"
    with pytest.raises(ValueError, match=sentence):
        locks.hold("smoke")
    process.kill()
    process.wait()
    assert locks.holder("smoke") is None
    locks.hold("smoke").release()


LARGE = '{"host": "h", "pid": 1e400, "since": 0}'


@pytest.mark.parametrize("text", ["", "[]", "{}", "5", '{"pid": "x"}', LARGE, "\x00"])
def test_a_damaged_lock_file_is_a_lock_all_the_same(text, other, runs):
    (runs / "smoke").mkdir(parents=True)
    (runs / "smoke/.lock").write_text(text)
    assert locks.holder("smoke") is None
    with ExitStack() as stack:
        lock = locks.hold("smoke")
        stack.callback(lock.release)
        assert json.loads((runs / "smoke/.lock").read_text())["pid"] == os.getpid()
        (runs / "smoke/.lock").write_text(text)
        assert other.__name__ and locks.holder("smoke") in (None, {})


def test_a_folder_that_cannot_be_written_is_one_sentence(runs):
    runs.write_text("a file in the way")
    with pytest.raises(ValueError, match=r"cannot be worked in \(Not a directory\): give it a"):
        locks.hold("smoke")
