"""The command `fairlth`: what each sub-command prints and writes, and how bad input ends."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from fairlth import config
from fairlth.config import PRESETS, paths
from fairlth.workflow import cli


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder of results."""
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "TABLES", tmp_path / "data/results")
    monkeypatch.setattr(paths, "COMMITTED_TABLES", tmp_path / "committed")
    return tmp_path


def test_bad_input_is_one_sentence_and_status_2(monkeypatch, capsys):
    for error in (ValueError("x is refused."), OSError("disk full")):
        monkeypatch.setattr(config, "check_preset", lambda preset, error=error: raise_(error))
        assert cli.main(["where", "smoke"]) == 2
        assert capsys.readouterr() == ("", f"{error}\n")
    monkeypatch.setattr(config, "check_preset", lambda preset: raise_(KeyError("a fault of ours")))
    with pytest.raises(KeyError):
        cli.main(["where", "smoke"])


def raise_(error):
    raise error


def test_a_package_of_an_extra_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "papermill", None)
    monkeypatch.delitem(sys.modules, "fairlth.workflow.execute", raising=False)
    assert cli.main(["execute", "a.ipynb", "b.ipynb"]) == 2
    assert "papermill is not installed: pip install 'fairlth[all]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "status", "report", "gather", "where", "prepare"])
@pytest.mark.parametrize("preset", ["huge", "../../x", "", "/etc"])
def test_a_preset_that_is_none_is_refused_and_nothing_is_written(command, preset, home, capsys):
    words = [command, preset] if command != "prepare" else [command, "digits", preset, "x.txt"]
    assert cli.main(words) == 2
    assert f"preset={preset!r} is refused: choose one of smoke" in capsys.readouterr().err
    assert not list(home.iterdir())


def test_where_is_the_folder_of_a_presets_runs(home, capsys):
    assert cli.main(["where", "small"]) == 0
    assert capsys.readouterr().out == f"{home / 'runs/small'}\n"


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ({"FAIRLTH_THREADS": "x"}, "FAIRLTH_THREADS='x' is refused"),
        ({"FAIRLTH_FOO": "1"}, "FAIRLTH_FOO is no variable of fairlth"),
        ({"FAIRLTH_PRESETS": "/nope"}, "FAIRLTH_PRESETS=/nope cannot be used"),
    ],
)
def test_a_variable_that_is_refused_is_one_sentence_and_status_2(variable, sentence):
    command = [sys.executable, "-m", "fairlth", "status", "smoke"]
    done = subprocess.run(
        command,
        env=os.environ | variable,
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(sentence) and done.stderr.count("\n") == 1


def test_the_package_is_a_command_in_any_folder(tmp_path):
    command = [sys.executable, "-m", "fairlth", "status", "smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("smoke: ")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    for command in ("plan", "ticket", "status", "prepare", "execute", "report", "gather", "where"):
        assert f"\n    {command} " in said


class TestPrepare:
    def test_says_what_is_there(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # a relative path counts from where the user is
        for _ in range(2):
            assert cli.main(["prepare", "digits", "smoke", "digits.txt"]) == 0
        expected = "digits by class: train 1079, val 269, test 449 images\n"
        assert (tmp_path / "digits.txt").read_text() == expected

    def test_data_of_another_preset_are_refused(self, tmp_path, capsys):
        output = tmp_path / "x.txt"
        assert cli.main(["prepare", "celeba", "smoke", str(output)]) == 2
        assert "preset 'smoke' has no task on 'celeba'" in capsys.readouterr().err
        assert not output.exists()

    def test_data_that_are_missing_are_named(self, tmp_path, monkeypatch, capsys):
        offline = PRESETS["paper"].model_copy(update={"downloads": False})
        monkeypatch.setitem(PRESETS, "paper", offline)
        monkeypatch.setattr(paths, "DATA", tmp_path)
        assert cli.main(["prepare", "celeba", "paper", str(tmp_path / "celeba.txt")]) == 2
        said = capsys.readouterr().err
        assert "place the file, set FAIRLTH_DATA or choose another preset" in said
        assert not (tmp_path / "celeba.txt").exists()

    @pytest.mark.parametrize("text", ["my notes\n", "", "digits by class: train 1 images\nmore\n"])
    def test_a_file_of_the_users_is_not_replaced(self, text, tmp_path, capsys):
        mine = tmp_path / "notes.txt"
        mine.write_text(text)
        assert cli.main(["prepare", "digits", "smoke", str(mine)]) == 2
        assert "notes.txt is there and is not what this command writes" in capsys.readouterr().err
        assert mine.read_text() == text


class TestReportAndGather:
    def test_a_page_of_the_users_is_not_replaced(self, home, capsys):
        page = home / "data/results/smoke.md"
        page.parent.mkdir(parents=True)
        page.write_text("my notes")
        assert cli.main(["report", "smoke"]) == 2
        assert "smoke.md is there and is not what this command writes" in capsys.readouterr().err
        assert page.read_text() == "my notes"

    def test_gathering_without_records_names_the_command(self, home, capsys):
        assert cli.main(["gather", "smoke"]) == 2
        assert "has no record of preset 'smoke': run `make reproduce" in capsys.readouterr().err

    def test_gathering_hands_on_the_finished_records_alone(self, home, monkeypatch, capsys):
        from fairlth.analysis import records
        from fairlth.workflow import experiments

        merged = []
        monkeypatch.setattr(
            records,
            "merge_table",
            lambda frame, preset: merged.append((frame, preset)) or f"{preset}.csv",
        )
        run = config.every_run("smoke")[1]
        experiments.run(run, paths.RUNS)
        assert cli.main(["gather", "smoke"]) == 0
        [(frame, preset)] = merged
        assert preset == "smoke" and len(frame[records.KEYS].drop_duplicates()) == 1
        assert isinstance(frame, pd.DataFrame) and set(frame["method"]) == {run.method}
        n = len(config.every_run("smoke"))
        assert f"smoke.csv: merged 1 of {n} runs" in capsys.readouterr().out

    def test_what_does_not_fit_is_named_and_the_rest_is_merged(self, home, capsys):
        from fairlth.analysis import records
        from fairlth.workflow import experiments

        runs = [run for run in config.every_run("smoke") if run.method == "dense"][:4]
        written = [config.record_path(run, paths.RUNS) for run in runs]
        experiments.run_or_load(runs[:3], paths.RUNS)
        torn, other_settings, good, other_run = written
        other_run.write_bytes(good.read_bytes())
        torn.write_bytes(torn.read_bytes()[:500])
        values = json.loads(other_settings.read_text())
        del values["sha256"]
        values["settings"]["epsilon"] = 0.5
        other_settings.write_text(json.dumps(values))
        there = {path: path.read_bytes() for path in written}
        assert cli.main(["gather", "smoke"]) == 0
        said = capsys.readouterr()
        assert f"left out: {torn} is not a whole record of its run" in said.err
        assert f"left out: {other_settings} was made under other settings of 'smoke'" in said.err
        assert f"left out: {other_run} is not a whole record of its run (it is of a run" in said.err
        assert f"merged 1 of {len(config.every_run('smoke'))} runs" in said.out
        assert {path: path.read_bytes() for path in written} == there
        [key] = set(records.run_keys(records.load("smoke")))
        assert key[-2] == runs[2].seed

    def test_no_record_that_fits_is_one_sentence(self, home, capsys):
        path = config.record_path(config.every_run("smoke")[0], paths.RUNS)
        path.parent.mkdir(parents=True)
        path.write_text("{")
        assert cli.main(["gather", "smoke"]) == 2
        assert "no record of preset 'smoke' can be used" in capsys.readouterr().err
        assert not (paths.TABLES / "smoke.csv").exists()

    def test_a_partial_table_grows_and_its_runs_count_as_done(self, home, monkeypatch, capsys):
        from fairlth.analysis import scope
        from fairlth.workflow import experiments

        fanned_out = config.PRESETS["smoke"].model_copy(update={"in_process": False})
        monkeypatch.setitem(config.PRESETS, "smoke", fanned_out)
        runs = [run for run in config.every_run("smoke") if run.method == "dense"][:3]
        table = paths.TABLES / "smoke.csv"
        for number, run in enumerate(runs[:2], 1):
            experiments.run(run, paths.RUNS)
            assert cli.main(["gather", "smoke"]) == 0
            assert experiments.in_table("smoke") == {scope.key(run) for run in runs[:number]}
        whole = table.read_bytes()
        config.record_path(runs[0], paths.RUNS).unlink()
        assert cli.main(["gather", "smoke"]) == 0  # its row stays without its record
        assert table.read_bytes() == whole
        record = config.record_path(runs[1], paths.RUNS)
        values = json.loads(record.read_text())
        del values["sha256"]
        for counts in values["counts"].values():
            counts["correct"][0][0] -= 1
        record.write_text(json.dumps(values))
        capsys.readouterr()
        assert cli.main(["gather", "smoke"]) == 2
        assert "smoke.csv has other counts for the run " in capsys.readouterr().err
        assert table.read_bytes() == whole


class TestPlan:
    def test_prints_the_plan_and_keeps_the_steps(self, home, capsys):
        saved = str(home / "steps.csv")
        assert cli.main(["plan", "smoke", "--save", saved]) == 0
        first = capsys.readouterr().out
        assert cli.main(["plan", "smoke", "--steps", saved]) == 0
        assert capsys.readouterr().out == first
        assert first.startswith("Plan of preset smoke\n") and "Nothing was trained." in first

    def test_a_file_of_the_users_is_not_replaced(self, home, capsys):
        mine = home / "mine.csv"
        mine.write_text("a,b\n1,2\n")
        assert cli.main(["plan", "smoke", "--save", str(mine)]) == 2
        assert "mine.csv is not a table of timed steps" in capsys.readouterr().err
        assert mine.read_text() == "a,b\n1,2\n"
