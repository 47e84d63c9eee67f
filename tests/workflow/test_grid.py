import json
import os
import socket
import subprocess
import sys

import drill
import numpy as np
import pytest
from PIL import Image

from fairlth import config, data
from fairlth.config import PRESETS, paths
from fairlth.workflow import experiments, grid, locks

RUN = drill.run("random")


def ended():
    """The number of a process that is gone."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


class TestSweep:
    def test_temporary_files_of_dead_processes_go_and_no_others(self, home):
        host = socket.gethostname()
        folder = paths.RUNS / "smoke" / "records"
        folder.mkdir(parents=True)
        dead = folder / f".a_d0.05.json.{host}-{ended()}.x7_gh2kl"
        own = folder / f".a.json.{host}-{os.getpid()}.x7_gh2kl"
        elsewhere = folder / ".a.json.node-7.cluster-12.x7_gh2kl"
        old = folder / ".b.json.node-7.cluster-12.x7_gh2kl"
        mine = [folder / name for name in (".hidden", "a.json", ".notes-2.txt", ".my.cache-1.json")]
        for path in (dead, own, elsewhere, old, *mine):
            path.write_text("x")
        for path in (old, *mine):
            os.utime(path, (0, 0))
        assert sorted(grid.sweep([paths.RUNS, home / "nothing"])) == sorted([dead, old])
        assert set(folder.iterdir()) == {own, elsewhere, *mine}

    @pytest.mark.parametrize(
        "call", ["write_atomically(path, b'1')", "check_writable(path)"], ids=["record", "probe"]
    )
    def test_what_a_killed_writer_leaves_is_what_is_swept(self, call, home):
        """The name that is really written is the name that is looked for."""
        code = (
            "import os; from pathlib import Path; from fairlth.config import paths\n"
            "os.replace = lambda *paths: os._exit(9)\n"
            f"path = Path({str(paths.RUNS / 'x.json')!r}); paths.{call}"
        )
        subprocess.run([sys.executable, "-c", code], check=False)
        assert len(list(paths.RUNS.iterdir())) == 1
        assert len(grid.sweep([paths.RUNS])) == 1
        assert not list(paths.RUNS.iterdir())

    def test_a_killed_process_that_nobody_waits_for_has_ended(self):
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        assert grid._lives(process.pid)
        os.kill(process.pid, 9)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert not grid._lives(process.pid)
        process.wait()
        assert not grid._lives(process.pid)

    def test_a_lock_that_nobody_holds_goes_with_a_torn_notebook_and_not_with_a_whole_one(
        self, home
    ):
        folder = paths.RUNS / "smoke/notebooks"
        folder.mkdir(parents=True)
        torn, whole, held, free = (
            folder / f"{name}.ipynb" for name in ("torn", "whole", "held", "free")
        )
        torn.write_text('{"cells": [')
        free.write_text('{"cells": [')
        whole.write_text("{}")
        for path in (torn, whole):
            locks.of_notebook(path).touch()
        with locks.notebook(held):
            grid.sweep([paths.RUNS])
            assert set(folder.iterdir()) == {whole, free, locks.of_notebook(held)}


class TestRecords:
    def test_a_whole_record_stays(self, record):
        before = record.read_bytes()
        assert grid.put_in_order("smoke", [RUN]) == [] and record.read_bytes() == before

    @pytest.mark.parametrize("size", [0, 1, 300, -2])
    def test_a_torn_record_is_set_aside_and_its_run_made_anew(self, record, size):
        torn = record.read_bytes()[:size]
        record.write_bytes(torn)
        [sentence] = grid.put_in_order("smoke", [RUN])
        assert sentence.startswith("1 record(s) were not whole: they are in ")
        assert "made anew" in sentence and not record.exists()
        assert (paths.RUNS / "smoke/aside" / record.name).read_bytes() == torn

    def test_what_was_set_aside_before_is_kept(self, record):
        for text in ("first", "second", "third"):
            record.write_text(text)
            grid.put_in_order("smoke", [RUN])
        kept = sorted(path.read_text() for path in (paths.RUNS / "smoke/aside").iterdir())
        assert kept == ["first", "second", "third"]

    def test_a_record_of_other_settings_is_set_aside(self, record, monkeypatch):
        changed = PRESETS["smoke"].model_copy(update={"epsilon": 0.01})
        monkeypatch.setitem(PRESETS, "smoke", changed)
        [sentence] = grid.put_in_order("smoke", [RUN])
        assert "1 record(s) were made under other settings of this preset" in sentence
        assert not record.exists()

    def test_a_record_of_other_code_counts_and_is_told(self, record):
        found = json.loads(record.read_text())
        found["conditions"]["code"] = "other"
        del found["sha256"]  # as an older version wrote it
        record.write_text(json.dumps(found, indent=1))
        [sentence] = grid.put_in_order("smoke", [RUN])
        assert "1 record(s) were made by other code of this package and count" in sentence
        assert record.exists()

    def test_a_record_of_an_older_version_without_settings_is_set_aside(self, record):
        found = json.loads(record.read_text())
        del found["settings"]
        record.write_text(json.dumps(found, indent=1))
        assert "not whole" in grid.put_in_order("smoke", [RUN])[0]

    def test_a_record_of_your_own_data_and_network_stays(self, home, monkeypatch):
        """What tells them from others of their name is part of a record's settings."""
        monkeypatch.setattr(paths, "DATA", home / "data")
        numbers = np.random.default_rng(0)
        for name in "ab":
            (home / "data/mine" / name).mkdir(parents=True)
            for i in range(60):
                image = numbers.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(image).save(home / "data/mine" / name / f"{i}.png")
        run = RUN.model_copy(update={"dataset": "mine", "method": "dense", "density": 1.0})
        experiments.run(run, paths.RUNS)
        assert grid.put_in_order("smoke", [run]) == []
        assert config.record_path(run, paths.RUNS).exists()
        data.SOURCES.pop("mine")
        assert grid.put_in_order("smoke", [run]) == []  # in a process that has not read it
        data.SOURCES.pop("mine")

    def test_nothing_is_moved_while_a_workflow_is_at_work(self, record):
        record.write_text("{")
        lock = locks.hold("smoke")
        assert grid.put_in_order("smoke", [RUN]) == [] and record.exists()
        lock.release()
