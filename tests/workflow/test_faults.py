"""What happens to a grid that is killed, doubled, torn or starved; each ends in clear words, and the next call heals it."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import drill
import pytest
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook

from fairlth import config
from fairlth.analysis import records
from fairlth.config import paths
from fairlth.workflow import cli, experiments, grid, locks, status

SMALL = [drill.run(method) for method in ("dense", "random")]
LARGE = [
    drill.run(method, seed)
    for method in ("dense", "lth", "lth_bias", "random", "magnitude", "ballot")
    for seed in (0, 1)
]


def table(folder, runs):
    """The finished table of a drill, as text, but for times."""
    found = [records.read(path) for path in drill.records(folder, runs)]
    return (
        records.table(found)
        .drop(columns=drill.TIMES)
        .to_csv(index=False)
        .replace(",drill,", ",smoke,")
    )


def kill_at_a_random_moment(process, folder, targets, at_a_record, moments):
    """Kills a workflow with all its jobs: up to 8 s after a job has begun, or up to 1 s after a record is new."""
    before = {path for path in targets if path.exists()}
    notebooks = folder / "home/runs/drill/notebooks"
    while process.poll() is None and not (
        any(path.exists() for path in targets if path not in before)
        if at_a_record
        else any(locks.is_held(path) for path in notebooks.glob(".*.ipynb.lock"))
    ):
        time.sleep(0.05)
    time.sleep(moments.uniform(0, 1 if at_a_record else 8))
    with suppress(ProcessLookupError):  # it was done
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    ("runs", "kills"),
    [(SMALL, 2), pytest.param(LARGE, 20, marks=[pytest.mark.long, pytest.mark.timeout(7200)])],
)
def test_a_grid_killed_at_random_moments_ends_as_an_undisturbed_one(runs, kills, tmp_path):
    targets, moments, done = drill.records(tmp_path, runs), random.Random(kills), {}
    for number in range(kills):
        kill_at_a_random_moment(
            drill.start(tmp_path, targets), tmp_path, targets, number % 2, moments
        )
        found = {path: path.read_bytes() for path in targets if path.exists()}
        assert {
            path: found.get(path) for path in done
        } == done  # what was done has not been made again
        done = found
    code, said = drill.finish(tmp_path, targets)
    assert code == 0, said
    assert [path for path in targets if not path.exists()] == [], said
    assert {path: path.read_bytes() for path in done} == done
    undisturbed = [experiments.run(run, tmp_path / "undisturbed") for run in runs]
    expected = records.table(undisturbed).drop(columns=drill.TIMES).to_csv(index=False)
    assert table(tmp_path, runs) == expected
    assert not [path for path in (tmp_path / "home").rglob(".*") if path.name != ".lock"]
    notebooks = sorted((tmp_path / "home/runs/drill/notebooks").glob("*.ipynb"))
    states = {path.stem: status.state(path).name for path in notebooks}
    assert set(states.values()) <= {"done", "interrupted"} and len(states) <= len(runs)


@pytest.fixture
def drilled(monkeypatch):
    """Runs of preset `drill` in the test's own process."""
    fanned_out = config.PRESETS["smoke"].model_copy(update={"in_process": False})
    monkeypatch.setitem(config.PRESETS, "drill", fanned_out)
    return lambda run: run.model_copy(update={"preset": "drill"})


def test_torn_records_and_those_of_other_settings_are_planned_anew_and_named(tmp_path, drilled):
    targets = drill.records(tmp_path, SMALL)
    for run in SMALL:
        experiments.run(drilled(run), tmp_path / "home/runs")
    code, said = drill.finish(tmp_path, targets, "--dry-run")
    assert code == 0 and "Nothing to be done" in said
    targets[0].write_bytes(targets[0].read_bytes()[:700])
    other = json.loads(targets[1].read_text())
    del other["sha256"]  # as an older version wrote it
    other["settings"]["epsilon"] = 0.3
    targets[1].write_text(json.dumps(other))
    code, said = drill.finish(tmp_path, targets, "--dry-run", "--quiet", "host")
    assert code == 0 and re.search(r"^run +2$", said, re.M)
    assert "== 1 record(s) were not whole: they are in " in said
    assert "== 1 record(s) were made under other settings of this preset: they are in " in said


def test_two_workflows_on_one_folder_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "home/runs")
    lock = locks.hold("drill")
    code, said = drill.finish(tmp_path, drill.records(tmp_path, [drill.run("random")]))
    lock.release()
    assert (
        code == 1
        and f"runs/drill is worked on by another workflow, process {os.getpid()} on " in said
    )
    assert "wait for its end, or stop it and call again" in said


def test_a_folder_in_which_nothing_can_be_written_is_one_sentence(tmp_path):
    (tmp_path / "home").write_text("a file in the way")
    code, said = drill.finish(tmp_path, drill.records(tmp_path, [drill.run("random")]))
    assert (
        code == 1
        and "runs/drill cannot be worked in (Not a directory): give it a folder with access."
        in said
    )


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook of one cell and returns its path."""

    def make(source):
        kernel = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
        path = tmp_path / "notebook.ipynb"
        write(new_notebook(cells=[new_code_cell(source)], metadata=kernel), path)
        return path

    return make


@pytest.mark.parametrize(
    "death", ["os._exit(1)", "os.kill(os.getpid(), 9)"], ids=["exit", "killed as for memory"]
)
def test_a_kernel_that_dies_is_one_sentence_and_the_next_call_goes_on(
    death, notebook, tmp_path, capsys
):
    sign = tmp_path / "sign"
    out = tmp_path / "out.ipynb"
    source = f"sign = pathlib.Path({str(sign)!r})\nsign.exists() or (sign.touch(), {death})"
    words = ["execute", str(notebook(f"import os, pathlib\n{source}")), str(out)]
    assert cli.main(words) == 1
    sentence = "the kernel died, as it does when it is killed or memory runs out."
    assert f"{sentence} See {out}" in capsys.readouterr().err
    assert status.state(out)[:2] == ("failed", sentence)
    assert cli.main(words) == 0 and status.state(out).name == "done"


def test_a_killed_job_is_interrupted_and_not_waited_for(notebook, tmp_path):
    path = notebook("import time; time.sleep(60)")
    out = tmp_path / "out.ipynb"
    with subprocess.Popen(
        [sys.executable, "-m", "fairlth", "execute", path, out], cwd=paths.ROOT
    ) as job:
        while not out.exists():
            time.sleep(0.1)
        assert status.state(out).name == "running"
        job.kill()
    assert status.state(out).name == "interrupted"
    notebook("1")
    assert cli.main(["execute", str(path), str(out)]) == 0 and status.state(out).name == "done"


def test_a_full_disk_fails_a_notebook_in_one_sentence(notebook, tmp_path, monkeypatch, capsys):
    words = ["execute", str(notebook("1")), str(tmp_path / "out.ipynb")]
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *paths: full())
        assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "could not be written (No space left on device): make room on its disk." in said
    assert [path.name for path in tmp_path.iterdir()] == ["notebook.ipynb"]
    assert not grid.sweep([tmp_path])
    assert cli.main(words) == 0


def full():
    raise OSError(28, "No space left on device")


def test_a_changed_preset_is_trained_anew_without_snakemakes_own_notes(tmp_path, drilled):
    """Where `.snakemake/` is lost, records tell by themselves under which settings they were made."""
    run = drill.run("random")
    [target] = drill.records(tmp_path, [run])
    made = experiments.run(drilled(run), tmp_path / "home/runs")
    assert made.settings["epsilon"] == 0.2 and target.exists()
    code, said = drill.finish(tmp_path, [target], fields={"epsilon": 0.25})
    assert code == 0 and "1 record(s) were made under other settings of this preset" in said
    assert records.read(target).settings["epsilon"] == 0.25
    [kept] = (tmp_path / "home/runs/drill/aside").iterdir()
    assert records.read(kept).settings["epsilon"] == 0.2


def test_copies_of_records_are_kept_in_snakemakes_own_folder_alone(tmp_path, drilled):
    run = drill.run("random")
    [target] = drill.records(tmp_path, [run])
    experiments.run(drilled(run), tmp_path / "home/runs")
    made = target.read_bytes()
    code, said = drill.finish(tmp_path, [target], "--forcerun", "run")
    assert code == 0 and target.read_bytes() == made, said
    copies = paths.ROOT / ".snakemake/backups"
    assert (copies / target.parent.relative_to("/")).is_dir()
    assert not (copies / os.path.relpath(target.parent, paths.ROOT)).exists()


def test_a_folder_of_results_may_have_any_name(tmp_path):
    folder = tmp_path / "my home ~ größe's {x} $HOME [1]"
    folder.mkdir()
    [target] = drill.records(folder, [drill.run("random")])
    code, said = drill.finish(folder, [target])
    assert code == 0, said
    assert '"method": "random"' in target.read_text()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
