"""Every notebook: executed by Papermill with its defaults, an assertion on what it produced, and
its form.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image

from fairlth import config, metrics
from fairlth.analysis import records
from fairlth.analysis.records import KEYS
from fairlth.config import Run, paths
from fairlth.shipping import ticket as tickets
from fairlth.workflow.execute import execute

NOTEBOOKS = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
SMOKE = config.PRESETS["smoke"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One folder of results for all notebooks, so that what they share is trained once: that of
    `make test`, where nbval finds them, too, or one of this process.
    """
    shared = os.environ.get("NOTEBOOKS_HOME")
    return Path(shared).absolute() if shared else tmp_path_factory.mktemp("home")


def overview(home, text):
    claims = (home / "runs/smoke/claims.txt").read_text()
    assert (
        "CWV lower than magnitude" in claims
        and "better" in claims
        and "38.0%" in claims
        and "not run" not in claims
    )
    assert (
        len(
            re.findall(
                r"^ *(lth|lth_rate|constrained|fairgrape) +digits by class, mlp .* (better|open|worse)\b",
                claims,
                re.M,
            )
        )
        == 4
    )
    table = pd.read_csv(home / "data/results/smoke.csv")
    assert (
        len(table[KEYS].drop_duplicates())
        == len(config.every_run("smoke"))
        == 40 * len(SMOKE.seeds)
    )
    assert (table[table["split"] == "test"].groupby(KEYS, dropna=False)["total"].sum() == 449).all()


def one_run(home, text):
    run = Run(dataset="digits", model="mlp", method="ballot", density=0.02, seed=0, preset="smoke")
    record = records.read(config.record_path(run, home / "runs"))
    assert record.kept == 340
    assert f"accuracy {metrics.accuracy(*record.split('test')):.1%} on 449 test images" in text


def motivation(home, text):
    assert (
        re.search(r"^ *training +[+-]?\d\.\d\d \(", text, re.M)
        and "Pruning alone, lth_rate: CWV " in text
    )
    assert (
        re.search(r"^selection .*on its log", text, re.M)
        and (home / "figures/smoke/10_factorial.png").exists()
    )


def comparison(home, text):
    assert re.search(r"^ *lth_bias +-?\d+% \(", text, re.M)
    assert "digits: 449 test images, 3 seeds" in text
    assert (home / "figures/smoke/11_tradeoff.png").exists() and (
        home / "figures/smoke/11_groups.png"
    ).exists()


def sparsity(home, text):
    assert (
        "87 of 87 runs are in the table" in text and (home / "figures/smoke/12_curves.png").exists()
    )
    # the sparsest, of methods that go along densities
    assert len(re.findall(r"^ *\w+ +0.02 +\d\d\.\d ± ", text, re.M)) == 5


def ablation(home, text):
    assert re.search(r"^ *ballot_select +-?\d+% \(", text, re.M)
    assert re.search(r"^ *ballot +[0-3] +3$", text, re.M)


def cost(home, text):
    assert re.search(r"lth_fine +17.20 ", text) and re.search(
        r"lth +4.60 ", text
    )  # 18 levels at density 0.02, and 4
    assert re.search(r"^ *ballot +0.5 +\d\d\.\d ", text, re.M)
    assert re.search(r"resnet20 +(bfloat16|float32) +15.51", text)


def equal(home, text):
    assert "at equal accuracy and epochs" in text
    assert (
        len(
            re.findall(
                r"^ *(lth|lth_rate|constrained|fairgrape) +\d+\.\d\d \(.* (better|open|worse)",
                text,
                re.M,
            )
        )
        == 8
    )


def deploy(home, text):
    run = Run(dataset="digits", model="mlp", method="ballot", density=0.02, seed=0, preset="smoke")
    path = config.ticket_path(run, home / "runs")
    assert tickets.load(path).mask.n_kept == 340
    assert len(list(path.parent.glob(f"{run.slug()}*.onnx"))) == 5
    assert re.search(r"ticket, static int8 +\d\d\.\d ", text)
    assert "170 of 340 weights are left" in text
    assert "ONNX Runtime and the card differ by 0 of 449 images" in text
    assert re.search(r"ticket, compact +other predictions, seed by seed: 0, 0, 0 of 449", text)
    assert (
        re.search(r"int8 of ticket +cwv +[+-]\d+\.\d+ \(", text)
        and "is not what its card describes" in text
    )


def groups(home, text):
    assert "Every run of this notebook is in the table." in text
    assert re.search(r"odd +68 +109 +49", text)  # test images of thin, medium and thick odd digits
    assert (
        "digits odd by ink, mlp" in text
        and "smallest group thick, images 114" in text
        and "equalised odds" in text
    )


def whom_it_forgets(home, text):
    assert re.search(r"^ *ballot +\d\.\d ± \d\.\d +-?\d\.\d ± \d\.\d", text, re.M)
    assert len(re.findall(r" (more|less|not shown)$", text, re.M)) == 8
    table = pd.read_csv(home / "data/results/smoke.audit.csv")
    assert len(table) == 4 * 3 * (11 + 4)  # methods, seeds, groups and all images of two tasks


def your_data(home, text):
    assert "label: eight 65, five 67, three 68" in text and "spell it one way" in text
    assert re.search(r"of these can be pruned +89,112$", text, re.M)
    records = [path.name for path in (home / "runs/mine/records").glob("three-digits_*.json")]
    assert (
        len(records) == 4 * 3 + 1
        and "three-digits_shufflenet_ballot_d0.1_s0_group-by-pen.json" in records
    )


CHECKS = {
    "00_overview": overview,
    "01_data": lambda home, text: (
        "'train': 1079, 'val': 269, 'test': 449" in text or pytest.fail("no sizes")
    ),
    "02_walkthrough": lambda home, text: (
        "85 of 17024 weights stay" in text or pytest.fail("no count")
    ),
    "03_one_run": one_run,
    "10_motivation": motivation,
    "11_comparison": comparison,
    "12_sparsity": sparsity,
    "13_ablation": ablation,
    "14_cost": cost,
    "15_equal_accuracy": equal,
    "20_groups": groups,
    "21_audit": whom_it_forgets,
    "30_your_data": your_data,
    "40_deploy": deploy,
}


def texts(cell):
    """What a cell printed and showed, as plain text."""
    for output in cell.get("outputs", []):
        yield output.get("text", "") + output.get("data", {}).get("text/plain", "")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_produces_its_number(path, home, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLTH_HOME", str(home))
    execute(path, tmp_path / "out.ipynb", {})
    CHECKS[path.stem](
        home,
        "\n".join(
            text for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for text in texts(cell)
        ),
    )
    assert (home / "figures" / "smoke" / f"{path.stem}.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def folder(tmp_path):
    """A folder of 60 images of two shades, and every other one marked old."""
    rows = []
    for number in range(60):
        shade = ["dark", "light"][number % 2]
        noise = np.random.default_rng(number).integers(0, 60, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "shades" / shade).mkdir(parents=True, exist_ok=True)
        file = f"{shade}/{number}.png"
        Image.fromarray(noise + 150 * np.uint8(number % 2)).save(tmp_path / "shades" / file)
        rows.append((file, shade, ["old", "new"][number // 2 % 2]))
    table = pd.DataFrame(rows, columns=["file", "tone", "age"])
    table.to_csv(tmp_path / "shades/groups.csv", index=False)
    return tmp_path / "shades"


def test_notebooks_on_your_images_write_beside_your_tickets_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLTH_HOME", str(tmp_path / "home"))
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    task = {"target": "tone", "group_by": "age", "model": "mlp"}
    about = task | {"folder": str(folder)}
    execute(paths.ROOT / "notebooks/30_your_data.ipynb", tmp_path / "30.ipynb", about)
    about = task | {"dataset": str(folder), "method": "magnitude", "density": 0.1, "seeds": 1}
    execute(paths.ROOT / "notebooks/40_deploy.ipynb", tmp_path / "40.ipynb", about)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    drawn = [path.relative_to(tmp_path / "home") for path in (tmp_path / "home").rglob("*.png")]
    learned = "target-tone_group-by-age"
    assert sorted(path.as_posix() for path in drawn) == [
        f"runs/smoke/tickets/shades_mlp_ballot_d0.02_s2_{learned}.30_your_data.png",
        f"runs/smoke/tickets/shades_mlp_magnitude_d0.1_s0_{learned}.40_deploy.png",
    ]
    cells = nbformat.read(tmp_path / "30.ipynb", 4).cells
    text = "\n".join(text for cell in cells for text in texts(cell))
    assert "60 images of 8 x 8 pixels" in text and "shades tone by age, shufflenet" in text


def names(tree, kind):
    """Names that are read (`ast.Load`) or assigned (`ast.Store`) in a piece of code."""
    found = [one for one in ast.walk(tree) if isinstance(one, ast.Name)]
    return {one.id for one in found if isinstance(one.ctx, kind)}


def test_what_the_sliders_read_is_assigned_nowhere_after_them():
    """A slider is moved when all cells have run: a later cell of the same name would break it."""
    notebook = nbformat.read(paths.ROOT / "notebooks/02_walkthrough.ipynb", as_version=4)
    cells = [ast.parse(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    functions = {
        one.name: one for tree in cells for one in tree.body if isinstance(one, ast.FunctionDef)
    }
    outer = {name: names(one, ast.Load) - names(one, ast.Store) for name, one in functions.items()}
    read = outer["move"]
    for _ in functions:  # and what the functions read that it calls
        read = read.union(*(outer[name] for name in read & functions.keys()))
    [shown] = [n for n, tree in enumerate(cells) if "slider" in names(tree, ast.Store)]
    assert {"passed", "curves"} <= read
    for tree in cells[shown + 1 :]:
        outside = [one for one in tree.body if not isinstance(one, ast.FunctionDef)]
        defined = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
        assert not (defined | names(ast.Module(outside, []), ast.Store)) & read


def run_here(notebook, parameters):
    """Runs a notebook's cells in this process, with parameters as Papermill fills them in."""
    filled_in = parameterize_notebook(load_notebook_node(str(notebook)), parameters)
    names = {}
    for cell in filled_in.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    plt.close("all")


@pytest.mark.parametrize(
    ("name", "preset", "pictures"),
    [
        ("10_motivation", "deeper", ["10_motivation", "10_premise"]),  # no halves of Ballot
        ("12_sparsity", "deeper", ["12_sparsity"]),  # each method at one pressure
        ("00_overview", "whole_gpu", ["00_premise"]),  # no tickets but those of magnitude
        ("14_cost", "whole_gpu", []),
        ("15_equal_accuracy", "whole_gpu", []),
    ],
)
def test_what_a_table_has_is_drawn_and_no_more(name, preset, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paths, "TABLES", tmp_path / "data/results")
    run_here(paths.ROOT / f"notebooks/{name}.ipynb", {"preset": preset, "train": False})
    drawn = sorted(path.name for path in tmp_path.glob("figures/*/*"))
    assert drawn == [f"{picture}.{suffix}" for picture in pictures for suffix in ("pdf", "png")]


def test_every_notebook_is_checked_and_there_are_some():
    assert {path.stem for path in NOTEBOOKS} == set(CHECKS) and len(NOTEBOOKS) >= 9


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"density": "1e-3"}, "density='1e-3'"),
        ({"method": "snip"}, "method='snip' is unknown"),
    ],
)
def test_papermills_own_command_refuses_bad_values_in_one_sentence(parameters, sentence, tmp_path):
    command = [
        sys.executable,
        "-m",
        "papermill",
        paths.ROOT / "notebooks/03_one_run.ipynb",
        tmp_path / "out.ipynb",
    ]
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
        assert [cell.execution_count for cell in self.code(path)] == list(
            range(1, len(self.code(path)) + 1)
        )
        kinds = [output.output_type for cell in self.code(path) for output in cell.outputs]
        assert "error" not in kinds
        assert not [
            output
            for cell in self.code(path)
            for output in cell.outputs
            if output.get("name") == "stderr"
        ]

    def test_prose_first_and_short_cells(self, path):
        assert self.cells(path)[0].cell_type == "markdown" and self.cells(path)[
            0
        ].source.startswith(f"# {path.stem[:2]}")
        lines = [len(cell.source.splitlines()) for cell in self.code(path)]
        words = sum(
            len(cell.source.split()) for cell in self.cells(path) if cell.cell_type == "markdown"
        )
        assert max(lines) <= 12 and words >= 3 * sum(lines), (max(lines), words / sum(lines))

    def test_functions_are_defined_where_they_are_what_is_shown(self, path):
        """The walkthrough shows the method, and 30 how a network of your own is built."""
        defined = any(re.search(r"^\s*(def|class) ", cell.source, re.M) for cell in self.code(path))
        assert defined == (path.stem in ("02_walkthrough", "30_your_data"))

    def test_no_absolute_paths_and_a_bounded_size(self, path):
        text = Path(path).read_text()
        assert not re.search(r"/(home|root|tmp|Users)/", text)
        assert len(text) < 900_000
