import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from fairlth import config, experiments, processes, status, upkeep
from fairlth.config import PRESETS, Run

RUN = Run(dataset="digits", model="mlp", method="random", density=0.02, seed=0, preset="smoke")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder of results in which preset smoke fans out."""
    for name in ("RUNS", "FIGURES", "TABLES", "CACHE"):
        monkeypatch.setattr(config, name, tmp_path / name.lower())
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"].model_copy(update={"in_process": False}))
    return tmp_path


@pytest.fixture
def record(home):
    """The path of one finished run's record."""
    experiments.run(RUN, config.RUNS)
    return config.record_path(RUN, config.RUNS)


def ended():
    """The number of a process that is gone."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_temporary_files_of_processes_that_are_gone_are_swept_and_no_others(home):
    host, folder = socket.gethostname(), config.RUNS / "smoke" / "records"
    folder.mkdir(parents=True)
    dead, own = folder / f".a_d0.05.json.{host}-{ended()}.x7_gh2kl", folder / f".a.json.{host}-{os.getpid()}.x7_gh2kl"
    elsewhere, old = folder / ".a.json.node-7.cluster-12.x7_gh2kl", folder / ".b.json.node-7.cluster-12.x7_gh2kl"
    for path in (dead, own, elsewhere, old, folder / ".hidden", folder / "a.json"):
        path.write_text("x")
    os.utime(old, (0, 0))
    assert sorted(upkeep.sweep([config.RUNS, home / "nothing"])) == sorted([dead, old])
    assert {path.name for path in folder.iterdir()} == {own.name, elsewhere.name, ".hidden", "a.json"}


def test_what_a_killed_writer_leaves_is_what_is_swept(home, monkeypatch):
    """The name that is really written is the name that is looked for, of a record and of the probe before it."""
    code = (
        "import os; from pathlib import Path; from fairlth import config; os.replace = lambda *paths: os._exit(9)\n"
        f"config.{{}}(Path({str(config.RUNS / 'x.json')!r}){{}})"
    )
    for function, argument in (("write_atomically", ", b'1'"), ("check_writable", "")):
        subprocess.run([sys.executable, "-c", code.format(function, argument)], check=False)
        assert len(upkeep.sweep([config.RUNS])) == 1
        assert not [*config.RUNS.iterdir()]


def test_a_whole_record_stays(record, monkeypatch):
    before = record.read_bytes()
    assert upkeep.put_in_order("smoke") == [] and record.read_bytes() == before


def test_the_end_of_a_record_is_what_the_whole_file_says(record):
    whole = json.loads(record.read_text())
    assert upkeep.tail(record) == {"settings": whole["settings"], "conditions": whole["conditions"]}
    assert upkeep.settings_of(RUN) == whole["settings"]
    record.write_text(json.dumps(whole))  # by another hand, without line breaks
    assert upkeep.tail(record)["settings"] == whole["settings"]


@pytest.mark.parametrize("size", [0, 1, 300, -2])
def test_a_torn_record_is_set_aside_and_its_run_made_anew(record, size):
    record.write_bytes(record.read_bytes()[:size])
    [sentence] = upkeep.put_in_order("smoke")
    assert sentence.startswith("1 record(s) were not whole: they lie in ") and "made anew" in sentence
    assert not record.exists() and (config.RUNS / "smoke/aside" / record.name).exists()


def test_a_record_of_other_settings_is_set_aside_and_one_of_other_code_counts(record, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(config, "code_fingerprint", lambda modules: "other")
        [sentence] = upkeep.put_in_order("smoke")
        assert "1 record(s) were made by other code of this package and count as they are" in sentence and record.exists()
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"].model_copy(update={"epsilon": 0.01}))
    [sentence] = upkeep.put_in_order("smoke")
    assert "1 record(s) were made under other settings of this preset" in sentence and not record.exists()


def test_a_record_of_an_older_version_without_settings_is_set_aside(record):
    found = json.loads(record.read_text())
    del found["settings"]
    record.write_text(json.dumps(found, indent=1))
    assert "not whole" in upkeep.put_in_order("smoke")[0]


def test_nothing_is_moved_while_a_workflow_is_at_work(record):
    record.write_text("{")
    lock = processes.hold("smoke")
    assert upkeep.put_in_order("smoke") == [] and record.exists()
    lock.close()


def test_the_lock_names_its_holder_and_ends_with_it(home):
    code = (
        "import sys, time; from pathlib import Path; from fairlth import config, processes\n"
        f"config.RUNS = Path({str(config.RUNS)!r}); kept = processes.hold('smoke'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"is worked on by another workflow, process {other.pid} on "):
            processes.hold("smoke")
        other.kill()
    processes.hold("smoke").close()


def test_a_note_says_running_then_interrupted_when_its_process_is_gone(home):
    notebook = config.RUNS / "x.ipynb"
    processes.note(notebook, "running")
    assert processes.noted(notebook)["state"] == "running" and not processes.is_executed(notebook)  # by this process
    found = json.loads(processes.note_of(notebook).read_text())
    for change, state in (({"pid": ended()}, "interrupted"), ({"born": "1"}, "interrupted"), ({"host": "node-7"}, "running")):
        processes.note_of(notebook).write_text(json.dumps(found | change))
        assert processes.noted(notebook)["state"] == state
    assert processes.noted(config.RUNS / "never.ipynb") is None


def test_a_killed_process_that_nobody_waits_for_has_ended():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert processes.born(process.pid) == processes.born(process.pid) is not None
    process.kill()
    while processes.born(process.pid):
        time.sleep(0.01)
    process.wait()


def test_the_status_counts_and_names_what_failed(record, monkeypatch):
    folder, other = record.parents[1] / "notebooks", RUN.model_copy(update={"seed": 1})
    assert status.report("smoke").splitlines() == [
        f"smoke: 1 of {len(config.every_run('smoke'))} runs done, 0 running, 0 failed, 0 interrupted; no workflow is at work."
    ]
    processes.note(folder / f"{other.slug()}.ipynb", "failed", "cell 2 failed with ValueError: no.")
    processes.note(folder / f"{RUN.slug()}.ipynb", "failed", "after its record was there.")
    monkeypatch.setattr(status, "holder", lambda preset: {"pid": 1, "host": "node-7", "since": time.time() - 60})
    first, second = status.report("smoke").splitlines()
    assert "1 of" in first and "1 failed" in first and " left." in first
    assert second.startswith(f"failed      {other.slug()}: cell 2 failed with ValueError: no. see ") and "ipynb" in second


def test_progress_is_a_line_for_each_output_and_the_time_left(record, capsys):
    new = config.RUNS / "smoke/records/new.json"
    watch = status.Watch({record: 1.0, new: 1.0, config.FIGURES / "a.png": 2.0})
    watch.started -= 60
    shutil.copy(record, new)
    watch.look()
    watch.look()
    assert capsys.readouterr().err.splitlines() == ["2 of 3 done, about 2 min left: new"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (720, "12 min"), (12_000, "3 h 20 min"), (100_000, "27 h 47 min"), (190_000, "2 days 4 h")],
)
def test_durations_are_spoken(seconds, text):
    assert status.spoken(seconds) == text


def test_an_unknown_preset_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["status", "huge"])
    assert status.main() == 2 and "preset='huge' is refused: choose one of smoke" in capsys.readouterr().err


def test_a_preset_on_disk_weighs_runs_by_their_trainings(home):
    found = status.weights("smoke", [config.record_path(RUN, config.RUNS), config.FIGURES / "x.png"])
    assert found == {config.record_path(RUN, config.RUNS): 1.0, config.FIGURES / "x.png": status.NOTEBOOK}
