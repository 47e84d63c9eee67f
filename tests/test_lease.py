import subprocess
import sys
import threading

import pytest

from fairlth import lease

HOLD = """
import sys, time
from pathlib import Path
from fairlth import lease
with lease.gpu({"FAIRLTH_GPUS": "0,1", "FAIRLTH_GPU_SLOTS": sys.argv[2]}, Path(sys.argv[1])) as identity:
    print(identity, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path):
    """Starts a process that leases one of GPUs 0 and 1, and returns it with the id that it got."""
    started = []

    def start(slots):
        process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path, str(slots)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_every_gpu_has_one_before_any_has_two(hold):
    assert [hold(2)[1] for _ in range(4)] == ["0", "1", "0", "1"]


def test_a_slot_comes_back_when_its_process_is_killed(hold, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "WAIT", 0.05)
    _, (second, identity) = hold(1), hold(1)
    assert identity == "1"
    got, named = [], {"FAIRLTH_GPUS": "0 1"}

    def third():
        with lease.gpu(named, tmp_path) as found:
            got.append(found)

    waiting = threading.Thread(target=third)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and not got  # both are taken
    second.kill()
    waiting.join(10)
    assert got == ["1"]


def test_a_slot_comes_back_at_the_end(tmp_path):
    for _ in range(2):
        with lease.gpu({"FAIRLTH_GPUS": "7"}, tmp_path) as identity:
            assert identity == "7"


def test_without_gpus_there_is_nothing_to_wait_for(tmp_path):
    with lease.gpu({}, tmp_path / "never") as identity:
        assert identity is None
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("number", ["0", "-1", "two", ""])
def test_a_number_of_slots_that_is_none_is_refused(number, tmp_path):
    with (
        pytest.raises(ValueError, match=f"FAIRLTH_GPU_SLOTS='{number}' is refused"),
        lease.gpu({"FAIRLTH_GPUS": "0", "FAIRLTH_GPU_SLOTS": number}, tmp_path),
    ):
        pass
