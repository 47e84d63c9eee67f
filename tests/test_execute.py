import sys

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from fairlth import execute


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
    return "".join(output.get("text", "") for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", []))


def test_a_notebook_is_executed_with_its_parameters(notebook, tmp_path):
    execute.execute(notebook, tmp_path / "deep" / "out.ipynb", {"n": 21})
    assert "42" in printed(tmp_path / "deep" / "out.ipynb")


def test_an_unknown_parameter_is_refused_and_nothing_is_run(notebook, tmp_path):
    with pytest.raises(ValueError, match=r"'m' is not a parameter of notebook.ipynb: choose one of n\."):
        execute.execute(notebook, tmp_path / "out.ipynb", {"m": 1})
    assert not (tmp_path / "out.ipynb").exists()


def test_a_failed_cell_leaves_the_executed_notebook(notebook, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="n=-1 is below 0"):
        execute.execute(notebook, tmp_path / "out.ipynb", {"n": -1})
    assert (tmp_path / "out.ipynb").exists()


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
def test_the_command_line_says_what_is_wrong_by_code_and_sentence(
    notebook, tmp_path, monkeypatch, capsys, arguments, code, message
):
    monkeypatch.setattr(sys, "argv", ["execute", str(tmp_path / arguments[0]), str(tmp_path / "out.ipynb"), *arguments[1:]])
    assert execute.main() == code
    assert message in capsys.readouterr().err


def test_values_are_json_or_strings():
    pairs = ["a=0.05", "b=true", "c=null", "d=[0, 1]", "e=cifar10", 'f="x"', "g=1e-3", "h=a=b"]
    found = execute.parse(pairs)
    assert found == {"a": 0.05, "b": True, "c": None, "d": [0, 1], "e": "cifar10", "f": "x", "g": 0.001, "h": "a=b"}
