"""Folders, environment variables, and files that are there whole or not at all."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fairlth.config import paths


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.json"
    paths.write_atomically(path, b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    sentence = r"file.json could not be written \(No space left on device\)"
    with pytest.raises(OSError, match=sentence):
        paths.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_found_before_any_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="could not be written"):
        paths.check_writable(tmp_path / "file" / "record.json")
    paths.check_writable(tmp_path / "new" / "record.json")
    assert not list((tmp_path / "new").iterdir())


def test_the_probe_of_a_place_asks_for_room(tmp_path, monkeypatch):
    sizes = []
    write = paths.write_atomically

    def remember(path, content):
        sizes.append(len(content))
        write(path, content)

    monkeypatch.setattr(paths, "write_atomically", remember)
    paths.check_writable(tmp_path / "record.json")
    assert sizes == [1 << 20]


READERS = {"config/paths.py", "workflow/execute.py"}  # of the environment
OWN_FILES = {"config/paths.py", "figures/style.py"}  # that find what lies beside them


def test_only_paths_and_the_runner_touch_the_environment():
    """Others ask `paths`; a style sheet is found beside its module."""
    read = set()
    placed = set()
    for path in paths.PACKAGE.rglob("*.py"):
        name = path.relative_to(paths.PACKAGE).as_posix()
        text = path.read_text()
        if re.search(r"\b(environ|getenv)\b", text):
            read.add(name)
        if "__file__" in text:
            placed.add(name)
    assert read <= READERS
    assert placed <= OWN_FILES


def told(expression, tmp_path, **variables):
    """What a new process in another folder says of an expression, or the last line of its error."""
    code = f"import os; from fairlth.config import paths; print({expression})"
    environment = {key: value for key, value in os.environ.items() if "FAIRLTH" not in key}
    environment.pop("CUBLAS_WORKSPACE_CONFIG", None)
    environment["PYTHONPATH"] = str(paths.PACKAGE.parent)
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment | variables
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def test_relative_folders_count_from_the_project_and_the_tilde_is_your_home(tmp_path):
    expression = "paths.DATA, paths.RUNS, paths.TABLES, paths.FIGURES"
    variables = {"FAIRLTH_DATA": "../faces", "FAIRLTH_HOME": "~/elsewhere", "HOME": str(tmp_path)}
    found = told(expression, tmp_path, **variables)
    expected = (
        paths.ROOT.parent / "faces",
        tmp_path / "elsewhere/runs",
        tmp_path / "elsewhere/data/results",
        tmp_path / "elsewhere/figures",
    )
    assert found == " ".join(map(str, expected))


def test_a_tilde_in_the_folder_of_data(tmp_path):
    variables = {"FAIRLTH_DATA": "~/sets", "HOME": str(tmp_path)}
    assert told("paths.DATA", tmp_path, **variables) == str(tmp_path / "sets")


def test_a_file_of_presets_counts_from_the_project_too():
    assert paths.from_root(Path("mine.json")) == paths.ROOT / "mine.json"
    assert paths.from_root(Path("~/mine.json")) == Path.home() / "mine.json"
    assert paths.from_root(Path("../a/../mine.json")) == paths.ROOT.parent / "mine.json"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("1", "True :4096:8"),
        ("0", "False None"),
        (
            "yes",
            "ValueError: FAIRLTH_DETERMINISTIC='yes' is refused: Input should be '0' or '1'.",
        ),
    ],
)
def test_the_switch_for_deterministic_operations_takes_0_or_1(asked, answer, tmp_path):
    expression = "paths.DETERMINISTIC, os.environ.get('CUBLAS_WORKSPACE_CONFIG'), sep=' '"
    assert told(expression, tmp_path, FAIRLTH_DETERMINISTIC=asked) == answer


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("0", "Input should be greater than or equal to 1"),
        ("-1", "Input should be greater than or equal to 1"),
        ("abc", "Input should be a valid integer, unable to parse string as an integer"),
        ("1.5", "Input should be a valid integer, unable to parse string as an integer"),
        ("9" * 20, "Input should be less than or equal to 1024"),
    ],
)
def test_a_number_of_threads_that_is_none_is_one_sentence(asked, why, monkeypatch):
    monkeypatch.setenv("FAIRLTH_THREADS", asked)
    with pytest.raises(ValueError) as caught:
        paths.read_environment()
    assert str(caught.value) == f"FAIRLTH_THREADS={asked!r} is refused: {why}."


def test_a_variable_that_nobody_reads_is_refused(monkeypatch):
    monkeypatch.setenv("FAIRLTH_THREDS", "4")
    with pytest.raises(ValueError) as caught:
        paths.read_environment()
    assert str(caught.value) == (
        "FAIRLTH_THREDS is no variable of fairlth: choose of FAIRLTH_DATA, FAIRLTH_HOME, "
        "FAIRLTH_PRESETS, FAIRLTH_THREADS, FAIRLTH_DETERMINISTIC, FAIRLTH_CODE, FAIRLTH_GPUS, "
        "FAIRLTH_GPU_SLOTS."
    )


def test_variables_of_gpus_and_those_of_others_are_none_of_its_business(monkeypatch):
    for name in ("FAIRLTH_GPUS", "FAIRLTH_GPU_SLOTS", "FAIRLTHX"):
        monkeypatch.setenv(name, "2")
    assert paths.read_environment().threads == 1


def test_the_home_of_nobody_is_one_sentence():
    with pytest.raises(ValueError) as caught:
        paths.from_root(Path("~nobody-of-this-name/sets"))
    assert str(caught.value) == (
        "~nobody-of-this-name/sets is in the home of nobody here: give the whole path."
    )


def test_threads_are_counted_and_the_sentence_ends_the_process(tmp_path):
    assert told("paths.THREADS", tmp_path, FAIRLTH_THREADS="3") == "3"
    refused = told("paths.THREADS", tmp_path, FAIRLTH_THREADS="0")
    assert refused.startswith("ValueError: FAIRLTH_THREADS='0' is refused: ")


def test_an_empty_variable_is_one_that_is_not_set(tmp_path):
    names = ("DATA", "HOME", "THREADS", "DETERMINISTIC", "PRESETS", "CODE")
    empty = {f"FAIRLTH_{name}": "" for name in names}
    expression = "paths.DATA, paths.RUNS, paths.THREADS, paths.DETERMINISTIC, paths.GRID_CODE"
    assert told(expression, tmp_path, **empty) == told(expression, tmp_path)


def test_code_is_told_from_other_code(tmp_path, monkeypatch):
    """By what its files say; a module that is not there is an error."""
    (tmp_path / "wing").mkdir()
    (tmp_path / "wing" / "one.py").write_text("1")
    (tmp_path / "alone.py").write_text("2")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    before = paths.code_fingerprint(("wing", "alone"))
    assert before == paths.code_fingerprint(("wing", "alone"))
    (tmp_path / "wing" / "one.py").write_text("3")
    assert before != paths.code_fingerprint(("wing", "alone"))
    with pytest.raises(FileNotFoundError):
        paths.code_fingerprint(("gone",))


def test_every_module_of_the_core_decides_a_runs_outcome():
    """The top of the package is the core; wings that show or write results decide nothing."""
    core = {path.stem for path in paths.PACKAGE.glob("[a-z]*.py")}
    wings = {path.parent.name for path in paths.PACKAGE.glob("*/__init__.py")}
    assert set(paths.DECIDES) == core | (wings - {"analysis", "figures", "shipping", "workflow"})
    assert len(paths.code_fingerprint(paths.DECIDES)) == 12
