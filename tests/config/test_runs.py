import hashlib
import json
import os
import subprocess
import sys

import pytest

from fairlth import config
from fairlth.config import KNOBS, PRESETS, STUDIES, Run, Schedule, paths

GOOD = {
    "dataset": "digits",
    "model": "mlp",
    "method": "lth",
    "density": 0.05,
    "seed": 0,
    "preset": "smoke",
}


def test_a_run_is_frozen_and_takes_an_integer_for_a_float():
    run = Run(**GOOD | {"density": 1})
    assert run.density == 1.0
    with pytest.raises(ValueError, match="frozen"):
        run.seed = 3


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"density": "1e-3"}, ["density", "1e-3", "number"]),
        ({"density": 0.0}, ["density=0.0", "greater than 0"]),
        ({"density": 1.5}, ["density=1.5", "less than or equal to 1"]),
        ({"density": float("nan")}, ["density=nan"]),
        ({"seed": -1}, ["seed=-1", "0"]),
        ({"seed": True}, ["seed=True", "integer"]),
        ({"seed": "0"}, ["seed='0'", "integer"]),
        ({"pressure": "false"}, ["pressure='false'", "number"]),
        (
            {"preset": "huge"},
            ["preset='huge'", "smoke, small, confirm, deeper, breadth, whole, paper"],
        ),
        ({"densty": 0.1}, ["densty", "density"]),
        ({"method": "dense"}, ["dense", "1.0", "0.05"]),
        ({"dataset": None}, ["dataset=None", "string"]),
    ],
)
def test_bad_values_get_one_sentence_that_names_them(wrong, names):
    with pytest.raises(ValueError, match="Run: ") as caught:
        Run(**GOOD | wrong)
    message = str(caught.value)
    assert "\n" not in message
    for name in names:
        assert name in message


def test_a_missing_value_is_named():
    with pytest.raises(ValueError, match="seed is missing"):
        Run(**{name: value for name, value in GOOD.items() if name != "seed"})


def test_no_model_takes_the_first_of_the_preset():
    assert Run(**GOOD | {"model": None}).model == "mlp"
    assert Run(**GOOD | {"model": None, "preset": "small"}).model == "convnet"


def test_slugs_differ_for_every_field():
    base = Run(**GOOD)
    changes = {"dataset": "lfw", "model": "convnet", "method": "random", "density": 0.051, "seed": 1, "pressure": 0.5, "target": "a", "group_by": "b"}  # fmt: skip
    slugs = {base.model_copy(update={name: value}).slug() for name, value in changes.items()} | {
        base.slug()
    }
    assert len(slugs) == len(changes) + 1
    assert base.slug() == "digits_mlp_lth_d0.05_s0"


def test_a_grid_has_the_dense_net_once_and_the_others_at_every_density():
    runs = config.grid("small", ("dense", "lth"))
    assert len(runs) == 3 * 5 * (1 + 2)  # tasks, seeds, dense + two densities of lth
    assert len(config.grid("paper", ("dense", "lth"))) == 18 * 5 * (1 + 4)
    assert {run.density for run in runs if run.method == "dense"} == {1.0}


def test_every_run_counts_a_run_of_two_notebooks_once():
    runs = config.every_run("smoke")
    methods = {method for methods in STUDIES.values() for method in methods}
    denser = len(STUDIES["12_sparsity"]) - 1  # at another density
    pressures = sum(len(knob.others) for knob in KNOBS.values())
    groups = len(STUDIES["20_groups"]) * len(PRESETS["smoke"].group_tasks)
    assert (
        len(runs)
        == len(set(runs))
        == (len(methods) + denser + pressures + groups) * len(PRESETS["smoke"].seeds)
    )


@pytest.mark.parametrize(
    ("preset", "digest"),
    [("smoke", "ad4fde22fb5bcca8"), ("small", "6511573e26c50cc8"), ("confirm", "c8960fef7bafd1ba"), ("deeper", "88c503846939d975"), ("paper", "020257a7e8dfc9b8")],
)  # fmt: skip
def test_what_decides_a_run_of_the_published_presets_has_not_changed(preset, digest):
    """Another digest would train every record anew."""
    scale = PRESETS[preset]
    names = sorted({task.dataset for task in scale.tasks + scale.group_tasks})
    told = {name: scale.at(name).model_dump(mode="json", exclude=config.LISTS) for name in names}
    assert hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16] == digest


def test_breadth_is_fifteen_cells_of_eight_methods_and_nine_runs_beside():
    runs = config.every_run("breadth")
    beside = [run for run in runs if run.density == 0.02]
    assert len(runs) == 15 * 8 * 3 + 9 and {(run.dataset, run.model) for run in beside} == {
        ("fer2013", "convnet")
    }
    assert {run.method for run in beside} == {"lth", "lth_long", "ballot"}
    assert len({(run.dataset, run.model) for run in runs}) == 15 and {
        run.pressure for run in runs
    } == {None}
    assert len(config.every_run("whole")) == 8 * 3


def test_a_preset_that_names_an_unknown_method_is_refused(monkeypatch):
    monkeypatch.setitem(
        PRESETS, "mine", PRESETS["smoke"].model_copy(update={"methods": ("dense", "balot")})
    )
    with pytest.raises(
        ValueError,
        match="preset 'mine' names the method 'balot', which is unknown: choose of .*ballot, ",
    ):
        config.every_run("mine")


def test_a_preset_of_your_own_tasks_comes_without_the_sweep_and_the_settings_beside_of_the_other(
    tmp_path,
):
    path = tmp_path / "presets.json"
    task = {"dataset": "digits", "model": "mlp"}
    beside = {"task": task, "densities": [0.1], "methods": ["lth"]}
    path.write_text(
        json.dumps(
            {
                "a": {"like": "breadth", "tasks": [task]},
                "b": {"like": "small", "also": [beside], "sweep_tasks": [task]},
            }
        )
    )
    found = config.own_presets(path)
    assert (
        found["a"].also == ()
        and found["a"].sweep_tasks is None
        and found["a"].methods == PRESETS["breadth"].methods
    )
    assert found["b"].also == (
        config.Cell(task=config.Task(**task), densities=(0.1,), methods=("lth",)),
    )
    assert (
        found["b"].sweep_tasks == (config.Task(**task),)
        and found["b"].tasks == PRESETS["small"].tasks
    )


def test_the_study_of_groups_has_its_own_tasks_and_leaves_the_others_alone():
    runs, scale = config.study("20_groups", "small"), PRESETS["small"]
    assert {config.Task(**run.model_dump(include=set(config.TASK))) for run in runs} == set(
        scale.group_tasks
    )
    assert len(runs) == 3 * 4 * 5 and {run.density for run in runs} == {1.0, 0.05}
    assert not [
        run
        for name in STUDIES
        if name != "20_groups"
        for run in config.study(name, "small")
        if run.group_by == "age_band"
    ]
    assert config.study("20_groups", "confirm") == []


def test_the_sparsity_study_goes_along_densities_and_pressures():
    runs, scale = config.study("12_sparsity", "small"), PRESETS["small"]
    assert {run.density for run in runs} == {1.0, *scale.sparsities} and {
        run.seed for run in runs
    } == set(scale.sweep_seeds)
    sweep = [run for run in runs if run.density in (0.2, 0.1, 0.01)]
    assert {(run.dataset, run.target) for run in sweep} == {("cifar10", None), ("utkface", "race")}
    assert len(sweep) == 2 * 3 * 5 * 3  # tasks, densities, methods but the dense net, seeds
    knobs = {(run.method, run.pressure) for run in runs if run.pressure is not None}
    assert knobs == {(name, pressure) for name, knob in KNOBS.items() for pressure in knob.others}
    assert {run.density for run in runs if run.pressure is not None} == {0.05}
    assert {name for name, _ in knobs} <= {
        run.method for run in runs if run.pressure is None and run.density == 0.05
    }


def test_an_unknown_preset_is_refused_by_name():
    with pytest.raises(
        ValueError, match="preset='tiny'.*smoke, small, confirm, deeper, breadth, whole, paper"
    ):
        config.study("11_comparison", "tiny")


def test_seeds_differ_by_purpose_and_by_seed():
    seeds = {
        config.seed_for(seed, purpose)
        for seed in range(50)
        for purpose in ("init", "order/1", "split")
    }
    assert len(seeds) == 150
    assert config.seed_for(3, "init") == config.seed_for(3, "init")


def test_a_schedule_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="optimizer='adam' is refused"):
        Schedule(epochs=1, optimizer="adam")


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.json"
    paths.write_atomically(path, b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError, match=r"file.json could not be written \(No space left on device\)"
    ):
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
    sizes, write = [], paths.write_atomically
    monkeypatch.setattr(
        paths,
        "write_atomically",
        lambda path, content: sizes.append(len(content)) or write(path, content),
    )
    paths.check_writable(tmp_path / "record.json")
    assert sizes == [1 << 20]


def test_only_config_and_the_runner_touch_the_environment():
    for path in paths.PACKAGE.rglob("*.py"):
        if path.name not in ("config.py", "execute.py"):
            assert "environ" not in path.read_text() and "__file__" not in path.read_text(), path


def test_relative_folders_count_from_the_project(tmp_path):
    code = "from fairlth import config; print(paths.DATA, paths.RUNS, paths.FIGURES)"
    environment = os.environ | {"FAIRLTH_DATA": "../faces", "FAIRLTH_HOME": "elsewhere"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
    )
    root = str(paths.ROOT)
    assert done.stdout.split() == [
        f"{root}/../faces",
        f"{root}/elsewhere/runs",
        f"{root}/elsewhere/figures",
    ]


@pytest.mark.parametrize(
    ("asked", "told"),
    [("1", "True :4096:8"), ("0", "False None"), ("yes", "'yes' is refused: expected 0 or 1.")],
)
def test_the_switch_for_deterministic_operations_takes_0_or_1(asked, told):
    code = "import os; from fairlth import config; print(paths.DETERMINISTIC, os.environ.get('CUBLAS_WORKSPACE_CONFIG'))"
    environment = {
        name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"
    }
    environment["FAIRLTH_DETERMINISTIC"] = asked
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert (done.stdout + done.stderr).strip().endswith(told)
