"""The presets of the package, and those of your own from the file that FAIRLTH_PRESETS names."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from fairlth import config
from fairlth.config import PRESETS, paths
from fairlth.config.presets import LISTS, YOUNGER, Cell, own_presets

TASK = {"dataset": "digits", "model": "mlp"}


@pytest.mark.parametrize(
    ("preset", "digest"),
    [("smoke", "ad4fde22fb5bcca8"), ("small", "6511573e26c50cc8"), ("confirm", "c8960fef7bafd1ba"), ("deeper", "88c503846939d975"), ("paper_full", "020257a7e8dfc9b8")],
)  # fmt: skip
def test_what_decides_a_run_of_the_published_presets_has_not_changed(preset, digest):
    """Another digest would train every record anew."""
    scale = PRESETS[preset]
    names = sorted({task.dataset for task in scale.tasks + scale.group_tasks})
    told = {name: scale.at(name).model_dump(mode="json", exclude=LISTS) for name in names}
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


def test_whole_gpu_is_whole_with_a_larger_network_on_two_data_sets():
    runs = config.every_run("whole_gpu")
    assert len(runs) == 2 * 8 * 3 and {run.model for run in runs} == {"resnet18"}
    one, other = (PRESETS[name].model_dump(exclude={"tasks"}) for name in ("whole", "whole_gpu"))
    assert one == other


def test_finetune_is_one_task_of_six_methods_that_rewinds_to_where_it_starts():
    runs = config.every_run("finetune")
    assert len(runs) == 6 * 3
    assert {run.density for run in runs} == {1.0, 0.2}
    preset = PRESETS["finetune"]
    assert preset.rewind_epochs == preset.schedule.warmup == 0
    assert (preset.schedule.optimizer, preset.schedule.lr) == ("adamw", 5e-5)


def test_a_preset_that_names_an_unknown_method_is_refused(monkeypatch):
    monkeypatch.setitem(
        PRESETS, "mine", PRESETS["smoke"].model_copy(update={"methods": ("dense", "balot")})
    )
    with pytest.raises(
        ValueError,
        match="preset 'mine' names the method 'balot', which is unknown: choose of .*ballot, ",
    ):
        config.every_run("mine")


def test_so_is_one_beside_the_grid(monkeypatch):
    """It would be left out and never missed."""
    cell = Cell(task=config.Task(**TASK), densities=(0.1,), methods=("lth", "balot"))
    monkeypatch.setitem(PRESETS, "mine", PRESETS["smoke"].model_copy(update={"also": (cell,)}))
    with pytest.raises(ValueError, match="preset 'mine' names the method 'balot', which is unk"):
        config.every_run("mine")


def test_a_preset_of_your_own_tasks_comes_without_the_sweep_and_the_settings_beside_of_the_other(
    tmp_path,
):
    path = tmp_path / "presets.json"
    beside = {"task": TASK, "densities": [0.1], "methods": ["lth"]}
    path.write_text(
        json.dumps(
            {
                "a": {"like": "breadth", "tasks": [TASK]},
                "b": {"like": "small", "also": [beside], "sweep_tasks": [TASK]},
            }
        )
    )
    found = own_presets(path)
    assert (
        found["a"].also == ()
        and found["a"].sweep_tasks is None
        and found["a"].methods == PRESETS["breadth"].methods
    )
    assert found["b"].also == (Cell(task=config.Task(**TASK), densities=(0.1,), methods=("lth",)),)
    assert (
        found["b"].sweep_tasks == (config.Task(**TASK),)
        and found["b"].tasks == PRESETS["small"].tasks
    )


def test_an_unknown_preset_is_refused_by_name():
    with pytest.raises(
        ValueError,
        match="preset='tiny'.*smoke, small, confirm, deeper, breadth, whole, whole_gpu, paper",
    ):
        config.study("11_comparison", "tiny")


def test_own_presets_differ_from_the_one_that_they_are_like(tmp_path):
    path = tmp_path / "presets.json"
    path.write_text(
        '{"mine": {"like": "small", "seeds": [7], "schedule": {"epochs": 4}, "tasks": [{"dataset": "digits", "model": "mlp"}]}}'
    )
    mine = own_presets(path)["mine"]
    small = PRESETS["small"]
    assert mine.seeds == (7,)
    assert mine.schedule.epochs == 4
    assert mine.tasks == (config.Task(dataset="digits", model="mlp"),)
    assert mine.schedule.lr == small.schedule.lr
    assert mine.densities == small.densities


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be used"),
        ('{"mine": {"like": "huge"}}', "there is no preset 'huge' to be like"),
        ('{"mine": {"seeds": [0]}}', "like"),
        ('{"mine": {"like": "small", "sedes": [0]}}', "'sedes' is not one of its names"),
        ('{"mine": {"like": "small", "seeds": ["0"]}}', "seeds.0='0' is refused"),
        ("[" * 100_000, "recursion"),
        ("[]", "'list' object has no attribute 'items'"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_of_presets_is_one_sentence(text, sentence, tmp_path):
    path = tmp_path / "presets.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"^FAIRLTH_PRESETS=.*expected such as") as caught:
        own_presets(path)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tasks": []}, "tasks=() is refused"),
        ({"seeds": []}, "seeds=() is refused"),
        ({"methods": []}, "methods=() is refused"),
        ({"densities": []}, "densities=() is refused"),
        ({"sparsities": []}, "sparsities=() is refused"),
        ({"sweep_seeds": []}, "sweep_seeds=() is refused"),
        ({"seeds": [0, 1, 0]}, "seeds=(0, 1, 0) is refused: 0 is there twice"),
        ({"sweep_seeds": [2, 2]}, "sweep_seeds=(2, 2) is refused: 2 is there twice"),
        ({"densities": [0.1, 0.1]}, "densities=(0.1, 0.1) is refused: 0.1 is there twice"),
        ({"sparsities": [0.1, 0.1]}, "sparsities=(0.1, 0.1) is refused: 0.1 is there twice"),
        ({"seeds": [-1]}, "seeds.0=-1 is refused"),
        ({"sweep_seeds": [-1]}, "sweep_seeds.0=-1 is refused"),
        ({"densities": [2.0]}, "densities.0=2.0 is refused"),
        ({"sparsities": [0.0]}, "sparsities.0=0.0 is refused"),
        ({"n_train": 0}, "n_train=0 is refused"),
        ({"n_val": 0}, "n_val=0 is refused"),
        ({"image_size": 0}, "image_size=0 is refused"),
        ({"image_size": -3}, "image_size=-3 is refused"),
        ({"epochs": {"digits": 0}}, "epochs.digits=0 is refused"),
        ({"schedule": {"epochs": 0}}, "epochs=0 is refused"),
        ({"schedule": {"batch_size": 0}}, "batch_size=0 is refused"),
        ({"schedule": {"epochs": 1}}, "rewind_epochs=1 is refused: expected fewer than the 1"),
        (
            {"also": [{"task": TASK, "densities": [], "methods": ["lth"]}]},
            "densities=() is refused",
        ),
        (
            {"also": [{"task": TASK, "densities": [2.0], "methods": ["lth"]}]},
            "densities.0=2.0 is refused",
        ),
        ({"also": [{"task": TASK, "densities": [0.1], "methods": []}]}, "methods=() is refused"),
    ],
)
def test_a_preset_without_contents_or_with_sizes_of_0_is_refused_by_the_files_name(
    fields, sentence, tmp_path
):
    path = tmp_path / "presets.json"
    path.write_text(json.dumps({"mine": {"like": "smoke"} | fields}))
    with pytest.raises(ValueError, match=rf"^FAIRLTH_PRESETS={path} cannot be used") as caught:
        own_presets(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../../escaped", "a/b", "", "..", "a b", "x" * 41])
def test_a_preset_is_called_by_a_name_and_not_by_a_path(name, tmp_path):
    """Its name is that of a folder of results."""
    path = tmp_path / "presets.json"
    path.write_text(json.dumps({name: {"like": "smoke"}}))
    with pytest.raises(ValueError, match="FAIRLTH_PRESETS=.* is no name for files") as caught:
        own_presets(path)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["smoke", "small", "paper", "Small"])
def test_a_preset_of_the_package_is_not_replaced(name, tmp_path):
    path = tmp_path / "presets.json"
    path.write_text(json.dumps({name: {"like": "smoke"}}))
    with pytest.raises(ValueError) as caught:
        own_presets(path)
    assert str(caught.value) == (
        f"FAIRLTH_PRESETS={path} cannot be used ({name!r} is a preset of the package: choose "
        'another name): expected such as {"mine": {"like": "small", "seeds": [0]}}.'
    )


def test_a_preset_of_your_own_may_be_read_again(tmp_path, monkeypatch):
    path = tmp_path / "presets.json"
    path.write_text('{"mine": {"like": "smoke"}}')
    found = own_presets(path)
    monkeypatch.setitem(PRESETS, "mine", found["mine"])
    assert own_presets(path) == found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"mine": {"like": "smoke"}, "mine": {"like": "small"}}', "mine"),
        ('{"mine": {"like": "smoke", "seeds": [0], "seeds": [1]}}', "seeds"),
        ('{"mine": {"like": "smoke", "schedule": {"lr": 0.1, "lr": 0.2}}}', "lr"),
    ],
)
def test_of_a_name_that_is_there_twice_none_is_taken(text, name, tmp_path):
    path = tmp_path / "presets.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"cannot be used \('{name}' is there twice\)"):
        own_presets(path)


def test_own_presets_are_there_where_the_variable_names_their_file(tmp_path):
    """And a file that is refused ends the process with its sentence."""
    path = tmp_path / "presets.json"
    code = "from fairlth import config; print(len(config.grid('mine', ['lth'])))"
    environment = os.environ | {
        "FAIRLTH_PRESETS": str(path),
        "PYTHONPATH": str(paths.PACKAGE.parent),
    }
    command = [sys.executable, "-c", code]
    path.write_text('{"mine": {"like": "smoke", "seeds": [3, 4]}}')
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
    path.write_text('{"mine": {"like": "smoke", "seeds": []}}')
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ValueError: FAIRLTH_PRESETS={path} cannot be used (")


def test_what_decides_no_single_run_is_left_out_of_a_records_settings():
    fields = set(config.Preset.model_fields)
    assert set(LISTS) < fields
    assert fields - LISTS == {
        "schedule",
        "n_train",
        "n_val",
        "image_size",
        "rewind_epochs",
        "keep_per_level",
        "epsilon",
        *YOUNGER,
    }


def test_younger_settings_are_told_only_where_they_are_set():
    usual = PRESETS["smoke"]
    set_otherwise = usual.model_copy(update={"count_flops": True, "round_units": 8})
    assert YOUNGER.keys() & usual.model_dump().keys() == set()
    told = set_otherwise.model_dump(mode="json", include={"count_flops", "round_units", "epsilon"})
    assert told == {"count_flops": True, "round_units": 8, "epsilon": 0.2}
    assert {name: config.Preset.model_fields[name].default for name in YOUNGER} == YOUNGER
