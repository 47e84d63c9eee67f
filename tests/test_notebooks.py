"""Every notebook: executed by Papermill with its defaults, an assertion on what it produced, and its form."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from fairlth import config, execute, results
from fairlth.config import STUDIES, Run

NOTEBOOKS = sorted((config.ROOT / "notebooks").glob("*.ipynb"))
SMOKE = config.PRESETS["smoke"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One folder of records for all notebooks of a worker, so that what they share is trained once."""
    return tmp_path_factory.mktemp("runs")


def has_run(folder, notebook):
    assert len(list((folder / "smoke" / "records").glob("*.json"))) >= len(config.study(notebook, "smoke"))


def has_record(folder):
    run = Run(dataset="digits", model="mlp", method="ballot", density=0.02, seed=0, preset="smoke")
    assert results.read(config.record_path(run, folder)).kept == 340


def has_claims(folder):
    text = (folder / "smoke" / "claims.txt").read_text()
    assert "CWV lower than magnitude" in text and "38.0%" in text and "not run" in text
    n_runs = len(config.every_run("smoke"))
    assert len(results.per_run(results.load("smoke"))) == n_runs == 8 * len(SMOKE.seeds)


def has_splits(folder, executed):
    assert "'train': 1079, 'val': 269, 'test': 449" in executed


def has_exact_mask(folder, executed):
    assert "85 of 17024 weights stay" in executed


CHECKS = {
    "00_overview": lambda folder, executed: has_claims(folder),
    "01_data": has_splits,
    "02_walkthrough": has_exact_mask,
    "03_one_run": lambda folder, executed: has_record(folder),
} | {name: lambda folder, executed, name=name: has_run(folder, name) for name in STUDIES}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_produces_its_number(path, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLTH_RUNS", str(runs))
    picture = config.FIGURES / "smoke" / f"{path.stem}.png"
    picture.unlink(missing_ok=True)
    execute.execute(path, tmp_path / "out.ipynb", {})
    cells = nbformat.read(tmp_path / "out.ipynb", 4).cells
    printed = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    CHECKS[path.stem](runs, printed)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_notebook_is_checked_and_there_are_some():
    assert {path.stem for path in NOTEBOOKS} == set(CHECKS) and len(NOTEBOOKS) >= 7


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"density": "1e-3"}, "density='1e-3'"),
        ({"density": 1.5}, "density=1.5"),
        ({"method": "snip"}, "method='snip' is unknown"),
        ({"dataset": "mnist"}, "dataset='mnist' is unknown"),
        ({"preset": "huge"}, "preset='huge'"),
    ],
)
def test_papermills_own_command_refuses_bad_values_in_one_sentence(parameters, sentence, tmp_path):
    command = [sys.executable, "-m", "papermill", config.ROOT / "notebooks/03_one_run.ipynb", tmp_path / "out.ipynb"]
    command += ["-k", "python3", "-y", json.dumps(parameters), "--no-progress-bar"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(rf"ValueError: .*{re.escape(sentence)}", done.stderr)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestForm:
    def cells(self, path):
        return nbformat.read(path, 4).cells

    def code(self, path):
        return [cell for cell in self.cells(path) if cell.cell_type == "code"]

    def test_kernel_and_metadata_say_nothing_of_a_machine(self, path):
        metadata = nbformat.read(path, 4).metadata
        assert metadata.kernelspec.name == "python3"
        assert set(metadata) == {"kernelspec", "language_info"}
        assert all(set(cell.metadata) <= {"tags"} for cell in self.cells(path))

    def test_parameters_are_literals_with_types_and_help(self, path):
        [cell] = [cell for cell in self.code(path) if "parameters" in cell.metadata.get("tags", [])]
        for line in cell.source.splitlines():
            assert re.fullmatch(r"\w+: (str|int|float|bool) = [^=]+  # [^=]+", line), line

    def test_outputs_are_those_of_one_run_from_top_to_bottom(self, path):
        assert [cell.execution_count for cell in self.code(path)] == list(range(1, len(self.code(path)) + 1))
        kinds = [output.output_type for cell in self.code(path) for output in cell.outputs]
        assert "error" not in kinds
        assert not [output for cell in self.code(path) for output in cell.outputs if output.get("name") == "stderr"]

    def test_prose_first_and_short_cells(self, path):
        assert self.cells(path)[0].cell_type == "markdown" and self.cells(path)[0].source.startswith(f"# {path.stem[:2]}")
        lines = [len(cell.source.splitlines()) for cell in self.code(path)]
        words = sum(len(cell.source.split()) for cell in self.cells(path) if cell.cell_type == "markdown")
        assert max(lines) <= 12 and words >= 3 * sum(lines), (max(lines), words / sum(lines))

    def test_only_the_walkthrough_defines_functions(self, path):
        defined = any(re.search(r"^\s*(def|class) ", cell.source, re.M) for cell in self.code(path))
        assert defined == path.stem.startswith("02_")

    def test_no_absolute_paths_and_a_bounded_size(self, path):
        text = Path(path).read_text()
        assert not re.search(r"(/home/|/root/|/work/|/tmp/|[A-Z]:\\\\)", text)
        assert len(text) < 900_000
