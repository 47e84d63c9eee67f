import json

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from fairlth.workflow import cli, locks, status
from fairlth.workflow.execute import execute


@pytest.fixture
def notebook(tmp_path):
    """A notebook with one parameter that fails where it is below 0."""
    cells = [
        new_code_cell("n: int = 1  # a number", metadata={"tags": ["parameters"]}),
        new_code_cell("assert n >= 0, f'n={n} is below 0'\nprint(n * 2)"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "notebook.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


def printed(path):
    return "".join(
        output.get("text", "")
        for cell in nbformat.read(path, 4).cells
        for output in cell.get("outputs", [])
    )


def test_a_notebook_is_executed_with_its_parameters(notebook, tmp_path):
    execute(notebook, tmp_path / "deep" / "out.ipynb", {"n": 21})
    assert "42" in printed(tmp_path / "deep" / "out.ipynb")


def test_paths_may_have_any_characters(notebook, tmp_path):
    folder = tmp_path / "a {n} b's ~ größe"
    folder.mkdir()
    path = notebook.rename(folder / "note {x} book.ipynb")
    execute(path, folder / "out {n}.ipynb", {"n": 21})
    assert "42" in printed(folder / "out {n}.ipynb")


def test_an_unknown_parameter_is_refused_and_nothing_is_run(notebook, tmp_path):
    with pytest.raises(
        ValueError, match=r"'m' is not a parameter of notebook.ipynb: choose one of n\."
    ):
        execute(notebook, tmp_path / "out.ipynb", {"m": 1})
    assert not (tmp_path / "out.ipynb").exists()


def test_a_failed_cell_leaves_the_executed_notebook(notebook, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="n=-1 is below 0"):
        execute(notebook, tmp_path / "out.ipynb", {"n": -1})
    assert (tmp_path / "out.ipynb").exists()
    assert status.state(tmp_path / "out.ipynb").name == "failed"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["notebook.ipynb", "m=1"], 2, "'m' is not a parameter"),
        (["notebook.ipynb", "n"], 2, "'n' is not a parameter: write name=value"),
        (["nothing.ipynb"], 2, "nothing.ipynb is not there"),
        (["notebook.ipynb", "n=-1"], 1, "AssertionError: n=-1 is below 0"),
        (["notebook.ipynb", "n=3"], 0, ""),
    ],
)
def test_the_command_says_what_is_wrong_by_code_and_sentence(
    notebook, tmp_path, monkeypatch, capsys, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["execute", arguments[0], "out.ipynb", *arguments[1:]]) == code
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert (tmp_path / "out.ipynb").exists() == (code != 2)


def test_a_notebook_that_is_stopped_has_failed(notebook, tmp_path, monkeypatch, capsys):
    """Papermill itself notes a stopped notebook as one that ran to its end."""

    def stopped(path, output, *arguments, **settings):
        done(path, output, *arguments, **settings)
        raise KeyboardInterrupt

    done = papermill.execute_notebook
    monkeypatch.setattr(papermill, "execute_notebook", stopped)
    assert cli.main(["execute", str(notebook), str(tmp_path / "out.ipynb")]) == 130
    assert capsys.readouterr().err.endswith("stopped.\n")
    assert status.state(tmp_path / "out.ipynb")[:2] == ("failed", "it was stopped.")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"nbformat": 9}', "x = 1"])
def test_a_file_that_is_no_notebook_is_one_sentence(text, tmp_path, capsys):
    (tmp_path / "a.ipynb").write_text(text)
    assert cli.main(["execute", str(tmp_path / "a.ipynb"), str(tmp_path / "out.ipynb")]) == 2
    assert "a.ipynb cannot be read as a notebook" in capsys.readouterr().err


class TestNothingOfTheUsersIsReplaced:
    @pytest.mark.parametrize("text", ["", "my notes", "[]", "{}", '{"metadata": {}, "cells": []}'])
    def test_a_file_that_is_no_executed_notebook(self, text, notebook, tmp_path):
        mine = tmp_path / "mine.ipynb"
        mine.write_text(text)
        with pytest.raises(
            ValueError, match=r"mine\.ipynb is there and is not an executed notebook"
        ):
            execute(notebook, mine, {})
        assert mine.read_text() == text

    def test_the_notebook_itself(self, notebook, tmp_path):
        before = notebook.read_bytes()
        with pytest.raises(ValueError, match="is the notebook itself"):
            execute(notebook, tmp_path / "." / "notebook.ipynb", {})
        assert notebook.read_bytes() == before

    def test_files_beside_the_executed_notebook(self, notebook, tmp_path):
        (tmp_path / "out.json").write_text('{"a": 1}\n{"a": 2}\n')
        execute(notebook, tmp_path / "out.ipynb", {})
        assert (tmp_path / "out.json").read_text() == '{"a": 1}\n{"a": 2}\n'
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"out.json", "out.ipynb", "notebook.ipynb"}

    def test_an_output_that_is_not_called_a_notebook(self, notebook, tmp_path):
        with pytest.raises(
            ValueError, match=r"res\.json is refused: give the executed notebook a name"
        ):
            execute(notebook, tmp_path / "res.json", {})


def test_an_executed_notebook_is_replaced_and_one_that_a_killed_process_tore(notebook, tmp_path):
    output = tmp_path / "out.ipynb"
    execute(notebook, output, {"n": 1})
    execute(notebook, output, {"n": 2})
    assert "4" in printed(output)
    output.write_text(output.read_text()[:100])
    locks.of_notebook(output).touch()
    execute(notebook, output, {"n": 3})
    assert "6" in printed(output) and not locks.of_notebook(output).exists()


def test_a_run_on_a_gpu_of_its_own_sees_that_one_alone(tmp_path, monkeypatch):
    source = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "notebook.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source)], metadata=kernel), path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.setenv("FAIRLTH_GPUS", "3")
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path / "locks"))
    execute(path, tmp_path / "out.ipynb", {})
    assert printed(tmp_path / "out.ipynb") == "3\n"


def test_a_failure_is_written_into_the_executed_notebook_with_its_reason(notebook, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError):
        execute(notebook, tmp_path / "out.ipynb", {"n": -1})
    found = json.loads((tmp_path / "out.ipynb").read_text())["metadata"]["papermill"]
    assert found["exception"] is True
    assert found["reason"] == "cell 3 failed with AssertionError: n=-1 is below 0."
