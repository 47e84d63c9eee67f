import sys

import pytest

from fairlth import config
from fairlth.analysis import records
from fairlth.config import PRESETS, Task, paths, workload
from fairlth.workflow import experiments
from studies import grid
from studies.grid import Part

real_run = experiments.run
METHODS = ("dense", "lth", "lth_bias", "random")


@pytest.fixture
def preset(monkeypatch, tmp_path):
    """A preset of digits in memory, two tasks and two seeds, 16 runs, in a folder of its own."""
    tasks = (
        Task(dataset="digits", model="mlp"),
        Task(dataset="digits", model="mlp", target="odd", group_by="ink"),
    )
    schedule = PRESETS["smoke"].schedule.model_copy(update={"epochs": 2})
    changes = {"tasks": tasks, "group_tasks": (), "sweep_tasks": None, "pressures": False}
    changes |= {"seeds": (0, 1), "sweep_seeds": (0, 1), "sparsities": (0.02,)}
    changes |= {"methods": METHODS, "schedule": schedule, "in_process": False}
    monkeypatch.setitem(PRESETS, "tiny", PRESETS["smoke"].model_copy(update=changes))
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "TABLES", tmp_path / "tables")
    monkeypatch.setattr(paths, "COMMITTED_TABLES", tmp_path / "tables")
    return "tiny"


@pytest.fixture
def made(monkeypatch):
    """The runs that are made, none of them trained."""
    found = []
    monkeypatch.setattr(experiments, "run", lambda run, runs: found.append(run))
    return found


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["grid.py", *arguments])
    return grid.main()


def test_the_order_is_by_preset_then_seed_then_what_others_need(preset):
    runs = grid.plan([preset])
    assert sorted(run.slug() for run in runs) == sorted(
        run.slug() for run in config.every_run(preset)
    )
    assert [run.seed for run in runs] == [0] * 8 + [1] * 8
    of_a_seed = [method for method in ("dense", "lth") for _ in range(2)]
    assert [run.method for run in runs][:4] == of_a_seed
    for place, run in enumerate(runs):
        base = workload.needs(run, set(runs))
        assert base is None or runs.index(base) < place
    both = grid.plan([preset, "smoke"])
    assert both == runs + grid.plan(["smoke"])


def test_parts_are_disjoint_whole_and_share_no_training(preset):
    runs = grid.plan([preset])
    parts = [grid.share(runs, Part(number, 3)) for number in range(3)]
    assert [len(part) for part in parts] == [8, 4, 4]
    assert set().union(*parts) == set(runs)
    shared = [{key for run in part for key in workload.shared(run)} for part in parts]
    assert [len(keys) for keys in shared] == [4, 2, 2]
    assert len(set().union(*shared)) == 8
    for part in parts:
        assert part == [run for run in runs if run in set(part)]


def test_some_methods_alone_are_made(preset, made, monkeypatch):
    assert call(monkeypatch, preset, "--method", "lth", "random") == 0
    assert sorted(run.method for run in made) == ["lth"] * 4 + ["random"] * 4


def test_what_is_there_is_left_out_and_a_failed_run_is_named(preset, monkeypatch, capsys):
    runs = grid.share(grid.plan([preset]), Part(0, 2))

    def fails_once(run, folder):
        if run == runs[2]:
            raise RuntimeError("no room")
        return real_run(run, folder)

    monkeypatch.setattr(experiments, "run", fails_once)
    assert call(monkeypatch, preset, "--part", "0/2") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "8 runs in this part, 8 to make"
    assert f"3/8 tiny {runs[2].slug()}: FAILED, RuntimeError: no room" in said[3]
    assert [run.slug() in line for run, line in zip(runs, said[1:9], strict=True)] == [True] * 8
    assert said[9:] == ["7 runs made, 1 failed", f"failed: tiny {runs[2].slug()}"]

    tried = []
    monkeypatch.setattr(experiments, "run", lambda run, folder: tried.append(run))
    assert call(monkeypatch, preset, "--part", "0/2") == 0
    assert tried == [runs[2]]


def test_rows_of_the_table_are_left_out(preset, made, monkeypatch, tmp_path):
    done = grid.plan([preset])[0]
    frame = records.table([real_run(done, tmp_path / "elsewhere")])
    records.merge_table(frame, preset)
    assert call(monkeypatch, preset) == 0
    assert len(made) == 15
    assert done not in made


def test_a_record_of_other_settings_is_made_anew(preset, made, monkeypatch):
    first = grid.plan([preset])[0]
    real_run(first, paths.RUNS)
    call(monkeypatch, preset)
    assert first not in made
    changed = PRESETS[preset].model_copy(update={"epsilon": 0.3})
    monkeypatch.setitem(PRESETS, preset, changed)
    call(monkeypatch, preset)
    assert first in made


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no-such"], "preset='no-such' is refused: choose one of smoke"),
        (["smoke", "--method", "snip"], "method='snip' is unknown: choose from dense"),
        (["smoke", "--part", "2/2"], "'2/2' is no part: expected its number from 0"),
        (["smoke", "--part", "half"], "'half' is no part"),
    ],
)
def test_bad_input_is_one_sentence_before_any_run(arguments, sentence, made, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, *arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert made == []
