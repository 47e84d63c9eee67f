import pytest

from fairlth import config, data, methods, selection
from fairlth.config import PRESETS, Run, paths
from fairlth.methods import METHODS
from fairlth.training import Trainer
from fairlth.workflow import workload

STEPS = 10  # of an epoch: 640 images in batches of 64


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Preset smoke with 8 epochs of 10 steps each, in a folder of its own; the list grows by one for each step trained."""
    smoke, steps, step = PRESETS["smoke"], [], Trainer._step
    schedule = smoke.schedule.model_copy(update={"epochs": 8})
    monkeypatch.setitem(
        PRESETS, "smoke", smoke.model_copy(update={"schedule": schedule, "n_train": 64 * STEPS})
    )
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(Trainer, "_step", lambda *arguments: steps.append(1) or step(*arguments))
    return steps


def one(method, **changes):
    density = 1.0 if method == "dense" else 0.05
    return Run(
        dataset="digits", model="mlp", method=method, density=density, seed=0, preset="smoke"
    ).model_copy(update=changes)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_as_many_steps_as_planned(method, quick):
    """Counted on the real method with nothing there, and again with all that it shares."""
    run = one(method)
    loaded = data.load(run)
    for planned in (workload.work([run])[run] * run.settings.schedule.epochs, workload.own(run)):
        quick.clear()
        METHODS[method](run, loaded)
        assert len(quick) == pytest.approx(STEPS * planned, abs=1e-6)


def test_a_grid_counts_what_is_shared_once(quick):
    runs = [one(method) for method in ("dense", "lth", "lth_bias", "ballot", "shuffled", "random")]
    loaded = data.load(runs[0])
    for run in workload.in_turn(runs):
        METHODS[run.method](run, loaded)
    epochs = runs[0].settings.schedule.epochs
    assert len(quick) == pytest.approx(STEPS * epochs * sum(workload.work(runs).values()))
    assert sum(workload.work(runs).values()) < sum(workload.work([run])[run] for run in runs)


def test_levels_are_counted_as_selection_makes_them():
    for density in (0.5, 0.2, 0.05, 0.02, 0.01):
        for keep in (0.8, 0.6, 0.36):
            assert workload.n_levels(density, keep) == len(selection.levels(density, keep))


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
        (one("ballot", seed=7), None),
    ],
)
def test_a_run_waits_for_the_one_that_trains_what_it_shares(run, base):
    planned = {one(method) for method in METHODS}
    assert workload.needs(run, planned) == base


@pytest.mark.parametrize("preset", PRESETS)
def test_whatever_a_run_shares_is_made_by_the_one_it_waits_for(preset):
    """Following what each run needs, no two runs that share a training start without it at the same time."""
    runs = config.every_run(preset)
    planned, place = set(runs), {run: i for i, run in enumerate(workload.in_turn(runs))}
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


def test_every_method_is_planned_for():
    assert {method for studied in config.STUDIES.values() for method in studied} <= set(
        methods.METHODS
    )
    assert set(workload.SEARCHES) | workload.NEED_NOTHING <= set(METHODS)
