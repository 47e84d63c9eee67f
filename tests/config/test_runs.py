"""A run, its file names and seeds, and the grids of the notebooks."""

from itertools import combinations, permutations, product
from urllib.parse import unquote

import pytest

from fairlth import config
from fairlth.config import KNOBS, PRESETS, STUDIES, Run, paths
from fairlth.config.runs import WITH_UNDERSCORE
from fairlth.data import SOURCES
from fairlth.models.registry import MODELS

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
            ["preset='huge'", "smoke, small, confirm, deeper, breadth, whole, whole_gpu, paper"],
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


AWKWARD = (
    "a/b",
    "a-b",
    "a_b",
    "a b",
    "a%2Fb",
    "a%b",
    "A-b",
    "a.b",
    "../b",
    "ä",
    "日",
    "a\\b",
    "a\nb",
)


@pytest.mark.parametrize("field", ["dataset", "target", "group_by"])
def test_slugs_are_one_to_one_whatever_a_column_is_called(field):
    """Each is the name of one file in its folder, and tells what the column was called."""
    names = [Run(**GOOD | {field: name}).slug() for name in AWKWARD]
    assert len(set(names)) == len(AWKWARD)
    for name, slug in zip(AWKWARD, names, strict=True):
        assert name in unquote(slug)
        assert slug.isascii() and not set(slug) & set("/\\ \n")
        run = Run(**GOOD | {field: name})
        assert config.record_path(run).parent == config.record_path(Run(**GOOD)).parent


FIELDS = ("dataset", "model", "method")


def test_names_of_the_package_keep_their_underscores():
    for field, names in WITH_UNDERSCORE.items():
        for name in names:
            run = Run(**GOOD | {field: name})
            parts = {"dataset": "digits", "model": "mlp", "method": "lth"} | {field: name}
            assert run.slug() == "_".join([*parts.values(), "d0.05", "s0"])


def test_those_names_are_all_that_the_package_has():
    """Another data set or network with a `_` would change the names of its files."""
    known = {"dataset": SOURCES, "model": MODELS, "method": config.METHOD_TABLE}
    found = {field: {name for name in names if "_" in name} for field, names in known.items()}
    assert found == WITH_UNDERSCORE


@pytest.mark.parametrize("field", FIELDS)
def test_a_name_of_your_own_has_its_underscores_written_out(field):
    slug = Run(**GOOD | {field: "x_y"}).slug()
    assert slug.count("x%5Fy") == 1
    assert slug.count("_") == 4


def test_runs_whose_names_join_to_the_same_words_have_files_of_their_own():
    """Each of three names may end where another begins."""
    words = ("fashion", "mnist", "vgg11", "small", "lth", "rate", "x", "cifar10", "lt")
    names = [*words, *(f"{one}_{other}" for one, other in permutations(words, 2))]
    methods = [name for name in names if name in config.METHOD_TABLE]
    assert {"lth", "lth_rate"} == set(methods)
    slugs = {}
    for dataset, model, method in product(names, names, methods):
        slug = Run(**GOOD | {"dataset": dataset, "model": model, "method": method}).slug()
        assert slugs.setdefault(slug, (dataset, model, method)) == (dataset, model, method)
    assert len(slugs) == len(names) ** 2 * len(methods)


def test_places_are_taken_when_a_run_asks_for_them(tmp_path, monkeypatch):
    run = Run(**GOOD)
    for folder in (tmp_path / "one", tmp_path / "other"):
        monkeypatch.setattr(paths, "RUNS", folder)
        assert config.record_path(run) == folder / "smoke/records/digits_mlp_lth_d0.05_s0.json"
        assert config.ticket_path(run).parent == folder / "smoke/tickets"
    assert config.record_path(run, tmp_path).parent == tmp_path / "smoke/records"


def test_a_target_is_not_taken_for_a_group():
    changes = ({"target": "x"}, {"group_by": "x"}, {"target": "x", "group_by": "y"}, {})
    slugs = [Run(**GOOD | change).slug() for change in changes]
    assert all(one != other for one, other in combinations(slugs, 2))


def test_every_planned_run_has_a_file_of_its_own():
    for preset in PRESETS:
        runs = config.every_run(preset)
        assert len({config.record_path(run) for run in runs}) == len(runs)
        assert len({config.ticket_path(run) for run in runs}) == len(runs)


def test_a_grid_has_the_dense_net_once_and_the_others_at_every_density():
    runs = config.grid("small", ("dense", "lth"))
    assert len(runs) == 3 * 5 * (1 + 2)  # tasks, seeds, dense + two densities of lth
    assert len(config.grid("paper_full", ("dense", "lth"))) == 18 * 5 * (1 + 4)
    assert {run.density for run in runs if run.method == "dense"} == {1.0}


def test_a_grid_of_no_seeds_or_densities_has_no_run():
    assert config.grid("smoke", ("dense", "lth"), seeds=()) == []
    assert config.grid("smoke", ("lth",), densities=()) == []
    assert config.grid("smoke", ("lth",), tasks=()) == []


def test_a_notebook_without_a_study_is_named():
    with pytest.raises(ValueError, match="notebook='99_x' is refused: choose one of 10_motivation"):
        config.study("99_x", "smoke")


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
    assert {(run.dataset, run.target) for run in sweep} == {("cifar10", None), ("utkface", None)}
    assert len(sweep) == 2 * 3 * 5 * 3  # tasks, densities, methods but the dense net, seeds
    knobs = {(run.method, run.pressure) for run in runs if run.pressure is not None}
    assert knobs == {(name, pressure) for name, knob in KNOBS.items() for pressure in knob.others}
    assert {run.density for run in runs if run.pressure is not None} == {0.05}
    assert {name for name, _ in knobs} <= {
        run.method for run in runs if run.pressure is None and run.density == 0.05
    }


def test_seeds_differ_by_purpose_and_by_seed():
    seeds = {
        config.seed_for(seed, purpose)
        for seed in range(50)
        for purpose in ("init", "order/1", "split")
    }
    assert len(seeds) == 150
    assert config.seed_for(3, "init") == config.seed_for(3, "init")


def test_a_column_may_not_have_the_name_of_the_classes_themselves():
    fields = {"dataset": "digits", "model": "mlp", "method": "lth", "density": 0.1, "seed": 0}
    with pytest.raises(ValueError, match=r"group_by='class' .*leave it out to compare these, or"):
        Run(**fields, preset="smoke", group_by="class")
