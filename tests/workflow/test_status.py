import json
import os
import shutil
import time
from datetime import UTC, datetime

import drill
import pytest

from fairlth import config
from fairlth.config import paths
from fairlth.workflow import cli, locks, status

RUN = drill.run("random")


def now():
    """The time as Papermill notes it."""
    return datetime.now(UTC).isoformat()


def executed(path, **noted):
    """Writes an executed notebook in which Papermill has noted something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"metadata": {"papermill": {"start_time": now()} | noted}, "cells": []})
    )
    return path


def test_states_are_told_from_papermills_own_notes(tmp_path):
    done = executed(tmp_path / "done.ipynb", end_time=now(), exception=None)
    failed = executed(tmp_path / "failed.ipynb", end_time=now(), exception=True, reason="no.")
    cut = executed(tmp_path / "cut.ipynb", end_time=None, exception=None)
    assert [status.state(path).name for path in (done, failed, cut)] == [
        "done",
        "failed",
        "interrupted",
    ]
    assert status.state(failed).reason == "no."
    assert status.state(cut).since == pytest.approx(time.time(), abs=60)
    with locks.notebook(cut):
        assert status.state(cut).name == "running"
    locks.of_notebook(cut).touch()  # as a killed process leaves it
    assert status.state(cut).name == "interrupted"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "5", '{"metadata": 3}', '{"metadata": {"papermill": []}}', "\x00\xff"]
)
def test_damaged_notebooks_are_interrupted_and_the_status_is_said(text, home, capsys):
    path = paths.RUNS / "smoke/notebooks/x.ipynb"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    (paths.RUNS / "smoke/.lock").write_text(text)
    assert cli.main(["status", "smoke"]) == 0
    said = capsys.readouterr().out
    assert "0 failed, 1 interrupted" in said and f"interrupted x: see {path}" in said


def test_the_status_counts_and_names_what_failed(record, monkeypatch):
    folder = record.parents[1] / "notebooks"
    other = RUN.model_copy(update={"seed": 1})
    n = len(config.every_run("smoke"))
    assert status.report("smoke").splitlines() == [
        f"smoke: 1 of {n} runs done, 0 running, 0 failed, 0 interrupted; no workflow is at work."
    ]
    reason = "cell 2 failed with ValueError: no."
    executed(folder / f"{other.slug()}.ipynb", exception=True, reason=reason)
    executed(folder / f"{RUN.slug()}.ipynb", exception=True, reason="after its record was there.")
    who = {"pid": 1, "host": "node-7", "since": time.time() - 60}
    monkeypatch.setattr(locks, "holder", lambda preset: who)
    first, second = status.report("smoke").splitlines()
    assert "1 of" in first and "1 failed" in first and " left." in first
    assert second.startswith(f"failed      {other.slug()}: {reason} see ") and "ipynb" in second


def test_a_notebook_that_has_begun_and_is_not_written_yet_is_running(home):
    path = paths.RUNS / "smoke/notebooks/x.ipynb"
    with locks.notebook(path):
        said = status.report("smoke")
    assert "1 running" in said and said.splitlines()[1] == "running     x"


def test_a_workflow_at_work_is_named_until_a_run_is_new(home):
    lock = locks.hold("smoke")
    assert status.report("smoke").endswith("; no other workflow is at work.")
    who = json.loads((paths.RUNS / "smoke/.lock").read_text()) | {"pid": 1}
    (paths.RUNS / "smoke/.lock").write_text(json.dumps(who))
    assert f"; process 1 on {who['host']} is at work." in status.report("smoke")
    (paths.RUNS / "smoke/.lock").write_text("[]")
    assert "; a workflow is at work." in status.report("smoke")
    lock.release()


def test_progress_is_a_line_per_output_and_the_time_left(record, capsys):
    new = paths.RUNS / "smoke/records/new.json"
    watch = status.Watch({record: 1.0, new: 1.0, paths.FIGURES / "a.png": 2.0})
    watch.started -= 60
    shutil.copy(record, new)
    watch.look()
    watch.look()
    assert capsys.readouterr().err.splitlines() == ["2 of 3 done, about 2 min left: new"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5 s"),
        (720, "12 min"),
        (12_000, "3 h 20 min"),
        (100_000, "27 h 47 min"),
        (190_000, "2 days 4 h"),
    ],
)
def test_durations_are_spoken(seconds, text):
    assert status.duration(seconds) == text


def test_a_preset_on_disk_weighs_runs_by_their_trainings(home):
    path = config.record_path(RUN, paths.RUNS)
    found = status.weights("smoke", [path, paths.FIGURES / "x.png"])
    assert found == {path: 1.0, paths.FIGURES / "x.png": status.NOTEBOOK}
    assert os.path.isabs(path)
