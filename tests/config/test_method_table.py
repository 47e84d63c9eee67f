"""The table of methods, and that a new method is one file and one row."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from fairlth import selection
from fairlth.config import KNOBS, METHOD_TABLE, PRESETS, STUDIES, paths
from fairlth.config.method_table import n_levels, short_epochs
from fairlth.methods import METHODS

COMPARED_NOWHERE = {  # in no notebook
    *("units_norm", "units_long", "units_ballot", "units_scratch", "fairprune"),
    "lth_long_shift",  # tables have all shifts of lth_long
}
ROW = """METHOD_TABLE = {
    "first_weights": Method(
        module="first",
        title="first weights",
        family="control",
        marker="8",
        notebooks="11 14",
        trains=Trains(levels=1),
        knob=Knob(0.5, highest=1.0),
        budget="uniform",
    ),
"""
MODULE = '''"""The first weights of each layer."""

import torch

from fairlth.config import Run
from fairlth.images import Data
from fairlth.lottery import Dense, Ticket, at_rewind, train_plainly
from fairlth.masks import prunable
from fairlth.methods.allocation import uniform
from fairlth.selection import select_by_layer


def first_weights(run: Run, data: Data, dense: Dense) -> Ticket:
    """Keeps each layer's first weights."""
    weights = prunable(dense.network)
    scores = {name: -torch.arange(w.numel()).reshape(w.shape) for name, w in weights.items()}
    mask = select_by_layer(scores, uniform(run.density, weights))
    return train_plainly(run, data, at_rewind(dense, mask, run.settings.schedule.epochs))
'''
ASKED = """
import json
from fairlth import config, methods
from fairlth.analysis import records
from fairlth.config import Run
from fairlth.figures import style
from fairlth.training import Trainer
from fairlth.config import workload
from fairlth.workflow import experiments

steps = []
step = Trainer._step
Trainer._step = lambda *arguments: steps.append(1) or step(*arguments)
task = {"dataset": "digits", "model": "mlp", "seed": 0, "preset": "smoke", "density": 0.1}
run = Run(**task, method="first_weights")
dense = run.model_copy(update={"method": "dense", "density": 1.0})
planned = workload.work([run])[run] * run.settings.schedule.epochs
record = experiments.run(run)
found = {
    "kept": record.kept,
    "planned": planned,
    "trained": len(steps) / 16,
    "knob": run.knob,
    "needs": workload.needs(run, {dense}).method,
    "studies": [name for name, names in config.STUDIES.items() if "first_weights" in names],
    "in grid": sum(one.method == "first_weights" for one in config.every_run("smoke")),
    "look": list(style.LOOKS["first_weights"]),
    "in table": sorted(set(records.table([record])["method"])),
    "doc": methods.METHODS["first_weights"].__doc__,
}
for name, wrong in {
    "pressure": run.model_copy(update={"pressure": 2.0}),
    "density": run.model_copy(update={"density": 0.0001}),
}.items():
    try:
        experiments.run(wrong)
    except ValueError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def test_a_new_method_is_one_file_and_one_row(tmp_path):
    """In a copy of the package: it is trained, planned, checked, studied, drawn and recorded."""
    package = tmp_path / "fairlth"
    shutil.copytree(paths.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    table = package / "config" / "method_table.py"
    text = table.read_text()
    assert text.count("METHOD_TABLE = {\n") == 1
    table.write_text(text.replace("METHOD_TABLE = {\n", ROW))
    (package / "methods" / "first.py").write_text(MODULE)
    environment = {key: value for key, value in os.environ.items() if "FAIRLTH" not in key}
    environment |= {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "kept": 1702,
        "planned": 10 + 9,
        "trained": 10 + 9,
        "knob": 0.5,
        "needs": "dense",
        "studies": ["11_comparison", "14_cost"],
        "in grid": 3,
        "look": ["first weights", "#7F7F7F", "8"],
        "in table": ["first_weights"],
        "doc": "Keeps each layer's first weights.",
        "pressure": "pressure=2.0 is out of range for first_weights: expected 0 to 1.",
        "density": "density=0.0001 leaves linear2.weight, which has 8192 weights, without any: "
        "choose a higher one.",
    }


def test_every_row_is_a_method_and_stands_in_its_notebooks():
    assert list(METHODS) == list(METHOD_TABLE)
    studied = {method for names in STUDIES.values() for method in names}
    assert studied == {name for name, row in METHOD_TABLE.items() if row.notebooks}
    assert set(METHOD_TABLE) - studied == COMPARED_NOWHERE
    numbers = {name[:2] for name in STUDIES}
    for row in METHOD_TABLE.values():
        assert set(row.notebooks.split()) <= numbers


def test_titles_and_markers_differ():
    titles = [row.title for row in METHOD_TABLE.values()]
    markers = [row.marker for row in METHOD_TABLE.values()]
    assert len(set(titles)) == len(titles)
    assert len(set(markers)) == len(markers)


def test_knobs_are_within_their_range():
    assert set(KNOBS) == {name for name, row in METHOD_TABLE.items() if row.knob}
    for knob in KNOBS.values():
        values = (knob.default, *knob.others)
        assert len(set(values)) == len(values)
        assert all(0 <= value <= knob.highest for value in values)


def test_whoever_shares_a_search_names_one_that_searches():
    for row in METHOD_TABLE.values():
        if row.search is not None:
            assert METHOD_TABLE[row.search].searches is not None
            assert METHOD_TABLE[row.search].search == row.search
    searching = {name for name, row in METHOD_TABLE.items() if row.searches is not None}
    assert searching == {"lth", "lth_fine", "lth_rate", "ballot", "units_norm"}


@pytest.mark.parametrize("density", [1.0, 0.5, 0.2, 0.05, 0.02, 0.01])
@pytest.mark.parametrize("keep", [0.8, 0.6, 0.36])
def test_levels_are_counted_as_selection_makes_them(density, keep):
    assert n_levels(density, keep) == len(selection.levels(density, keep))


@pytest.mark.parametrize(("preset", "epochs"), [("smoke", 1), ("small", 1), ("paper_full", 20)])
def test_a_short_level_takes_an_eighth_of_the_epochs(preset, epochs):
    assert short_epochs(PRESETS[preset]) == epochs
