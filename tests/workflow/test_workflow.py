"""The Snakefile, planned and never run to the end: what it would do, and what it refuses."""

import os
import re
import subprocess
import sys

import pytest

from fairlth import config
from fairlth.analysis import scope
from fairlth.config import paths
from fairlth.workflow import experiments


def snakemake(*arguments, **environment):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock", *arguments]
    done = subprocess.run(
        command,
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return done.returncode, done.stdout + done.stderr


def planned(text):
    """Jobs by rule, from the table that a dry run prints."""
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.M)}


def test_smoke_is_every_notebook_in_one_job_each(tmp_path):
    code, text = snakemake("--dry-run", "--quiet", "host", FAIRLTH_HOME=str(tmp_path))
    assert code == 0
    assert planned(text) == {"overview": 1, "study": 7, "teaching": 6, "all": 1, "total": 15}


def test_a_table_that_lacks_runs_is_one_job_for_each_of_them(tmp_path):
    code, text = snakemake(
        "--dry-run", "--quiet", "host", "--config", "preset=whole_gpu", FAIRLTH_HOME=str(tmp_path)
    )
    n_sets = len({task.dataset for task in config.PRESETS["whole_gpu"].tasks})
    done = experiments.in_table("whole_gpu")
    n_runs = len([run for run in config.every_run("whole_gpu") if scope.key(run) not in done])
    assert len(done) == 3 and n_runs == 45  # runs of the committed table are not made again
    assert code == 0
    assert planned(text) == {
        "data": n_sets,
        "run": n_runs,
        "study": 6,
        "overview": 1,
        "all": 1,
        "total": n_sets + n_runs + 8,
    }


def test_a_complete_table_needs_neither_runs_nor_data(tmp_path):
    code, text = snakemake(
        "--dry-run", "--quiet", "host", "--config", "preset=small", FAIRLTH_HOME=str(tmp_path)
    )
    assert code == 0
    assert planned(text) == {"study": 7, "overview": 1, "all": 1, "total": 9}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "preset=huge",
            "preset='huge' is refused: choose one of smoke, small, confirm, deeper, breadth, whole, ",
        ),
        ("preset=2024", "preset='2024' is refused: choose one of smoke"),
        ("preset=../../x", "preset='../../x' is refused: choose one of smoke"),
        ("presett=small", "presett is not a setting of this workflow: choose among preset, train"),
        ("train=maybe", "train='maybe' is refused: expected true or false"),
    ],
)
def test_wrong_settings_are_refused_by_name(setting, sentence):
    code, text = snakemake("--dry-run", "--config", setting)
    assert code != 0 and sentence in text


def test_figures_from_a_table_that_is_not_there_name_the_command(tmp_path):
    code, text = snakemake(
        "--dry-run", "--config", "preset=paper", "train=False", FAIRLTH_HOME=str(tmp_path)
    )
    assert code != 0 and "run `make reproduce PRESET=paper` first" in text


@pytest.mark.parametrize("train", ["false", "False"])
def test_results_elsewhere_are_drawn_from_the_committed_table(train, tmp_path):
    arguments = ("--dry-run", "--quiet", "host", "--config", "preset=small", f"train={train}")
    code, text = snakemake(*arguments, FAIRLTH_HOME=str(tmp_path))
    assert code == 0, text
    assert planned(text)["overview"] == 1
    assert set(planned(text)) <= {"study", "overview", "all", "total"}  # nothing is trained


def test_a_rule_runs_without_the_environment_on_the_path_and_a_second_call_does_nothing(tmp_path):
    target = str(tmp_path / "figures/smoke/03_one_run.png")
    environment = {"FAIRLTH_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    code, text = snakemake("--", target, **environment)
    assert code == 0, text
    assert (tmp_path / "figures/smoke/03_one_run.png").exists()
    assert len(list((tmp_path / "runs/smoke/records").glob("*.json"))) == 1
    assert "Nothing to be done" in snakemake("--", target, **environment)[1]
