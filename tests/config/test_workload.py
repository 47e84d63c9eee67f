from importlib.util import find_spec

import pytest

from fairlth import config, data, methods
from fairlth.config import METHOD_TABLE, PRESETS, Run, paths, workload
from fairlth.lottery import Dense
from fairlth.methods import METHODS
from fairlth.methods.sharing import fresh
from fairlth.training import Trainer

STEPS = 10  # of an epoch: 640 images in batches of 64
WEIGHTS = [name for name in METHODS if METHOD_TABLE[name].structure == "weights"]
WITHOUT = find_spec("torch_pruning") is None
SKIPPED = pytest.mark.skipif(WITHOUT, reason="torch-pruning is not installed (extra `units`)")
ALL = [*WEIGHTS, *(pytest.param(name, marks=SKIPPED) for name in METHODS if name not in WEIGHTS)]


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Preset smoke with 8 epochs of 10 steps each, in a folder of its own.

    The list grows by one for each step trained.
    """
    smoke = PRESETS["smoke"]
    schedule = smoke.schedule.model_copy(update={"epochs": 8})
    changed = smoke.model_copy(update={"schedule": schedule, "n_train": 64 * STEPS})
    monkeypatch.setitem(PRESETS, "smoke", changed)
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    steps = []
    step = Trainer._step

    def count(*arguments):
        steps.append(1)
        return step(*arguments)

    monkeypatch.setattr(Trainer, "_step", count)
    return steps


def one(method, **changes):
    density = 1.0 if method == "dense" else 0.05
    fields = {"dataset": "digits", "model": "mlp", "density": density, "seed": 0}
    return Run(method=method, preset="smoke", **fields).model_copy(update=changes)


@pytest.mark.parametrize("method", ALL)
def test_a_method_trains_as_many_steps_as_planned(method, quick):
    """Counted on the real method with nothing there, and again with all that it shares."""
    run = one(method)
    loaded = data.load(run)
    for planned in (workload.work([run])[run] * run.settings.schedule.epochs, workload.own(run)):
        quick.clear()
        methods.make(run, loaded)
        assert len(quick) == pytest.approx(STEPS * planned, abs=1e-6)


def test_a_grid_counts_what_is_shared_once(quick):
    runs = [one(method) for method in ("dense", "lth", "lth_bias", "ballot", "shuffled", "random")]
    loaded = data.load(runs[0])
    for run in workload.in_turn(runs):
        methods.make(run, loaded)
    epochs = runs[0].settings.schedule.epochs
    assert len(quick) == pytest.approx(STEPS * epochs * sum(workload.work(runs).values()))
    assert sum(workload.work(runs).values()) < sum(workload.work([run])[run] for run in runs)


def test_a_network_given_as_trained_has_its_dense_net_for_nothing():
    runs = [one("dense"), one("lth"), one("ballot")]
    usual = workload.work(runs)
    given = workload.work(runs, [runs[0].model])
    assert given[runs[0]] == 0 and usual[runs[0]] == 1
    assert [given[run] for run in runs[1:]] == [usual[run] for run in runs[1:]]
    assert workload.work(runs, ["another"]) == usual


@pytest.mark.parametrize(
    ("run", "base"),
    [
        (one("dense"), None),
        (one("random"), None),
        (one("magnitude"), one("dense")),
        (one("lth"), one("dense")),
        (one("lth_bias", pressure=1.0), one("lth")),
        (one("ballot"), one("dense")),
        (one("ballot", pressure=0.2), one("ballot")),
        (one("shuffled"), one("ballot")),
        (one("ballot_refine"), one("lth_rate")),
        (one("lth_long"), one("lth_rate")),
        (one("ballot", seed=7), None),
    ],
)
def test_a_run_waits_for_the_one_that_trains_what_it_shares(run, base):
    planned = {one(method) for method in METHODS}
    assert workload.needs(run, planned) == base


@pytest.mark.parametrize("preset", PRESETS)
def test_whatever_a_run_shares_is_made_by_the_one_it_waits_for(preset):
    """No two runs that share a training start without it at the same time."""
    runs = config.every_run(preset)
    planned = set(runs)
    place = {run: i for i, run in enumerate(workload.in_turn(runs))}
    made = {}
    for run in workload.in_turn(runs):
        base = workload.needs(run, planned)
        assert base is None or place[base] < place[run]
        for key in workload.shared(run):
            maker = made.setdefault(key, run)
            before = run
            while before is not None and before != maker:
                before = workload.needs(before, planned)
            assert before == maker, f"{run.slug()} does not wait for {maker.slug()}"


@pytest.mark.parametrize("method", WEIGHTS)
def test_a_method_uses_the_dense_net_where_the_plan_says_so_and_nowhere_else(method, quick):
    """Handed the initial weights alone, whoever needs more fails, and the others make a ticket."""
    run = one(method)
    loaded = data.load(run)
    untrained = Dense(fresh(run, loaded))
    if METHOD_TABLE[method].needs_dense:
        with pytest.raises((RuntimeError, KeyError)):
            METHODS[method](run, loaded, untrained)
        assert "dense" in {key.kind for key in workload.shared(run)}
    else:
        assert METHODS[method](run, loaded, untrained).mask.n_kept == 851
        assert workload.shared(run) == {}


@pytest.mark.parametrize("method", ALL)
def test_the_trainings_that_a_plan_shares_are_the_files_that_a_method_leaves(method, quick):
    run = one(method)
    methods.make(run, data.load(run))
    kinds = {path.name.partition("_")[0] for path in paths.RUNS.rglob("*.safetensors")}
    planned = {key.kind.replace("_", "-") for key in workload.shared(run)}
    assert kinds - {"lth-trained"} == planned  # the ticket's own training is part of its search


def test_nothing_that_a_run_needs_is_planned_after_it():
    """A method outside the grid's needs the dense net of its own task and seed alone."""
    planned = {one("dense"), one("dense", seed=1), one("ballot"), one("ballot", seed=1)}
    assert workload.needs(one("shuffled", seed=1), planned) == one("ballot", seed=1)
    assert workload.needs(one("magnitude", seed=1), planned) == one("dense", seed=1)
    assert workload.needs(one("lth_long", density=0.2), planned) == one("dense")
