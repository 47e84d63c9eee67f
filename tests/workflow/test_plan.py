import pytest
import torch

from fairlth import config, data
from fairlth.config import PRESETS, Preset, Run, paths, workload
from fairlth.data import SOURCES
from fairlth.workflow import cost, plan
from fairlth.workflow.cost import Step

HOUR = 3600.0


@pytest.fixture
def steps():
    """One second for every step that preset paper_full makes."""
    runs = config.grid("paper_full", ("dense",))
    return {cost.step_of(run, torch.device("cpu")): 1.0 for run in runs}


def test_hours_are_trainings_times_epochs_times_steps(steps, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    table = plan.table("paper_full", steps)
    row = table[(table["task"] == "cifar10 by class") & (table["model"] == "resnet18")].iloc[0]
    runs = [
        run
        for run in config.every_run("paper_full")
        if run.dataset == "cifar10" and run.model == "resnet18"
    ]
    trainings = sum(workload.work(runs).values())
    assert (
        row["runs"] == len(runs)
        and row["done"] == 0
        and row["dense trainings"] == pytest.approx(trainings)
    )
    assert row["hours"] == pytest.approx(trainings * 160 * ((50_000 - 5000) // 128) / HOUR)
    celeba = table[(table["task"] == "celeba Smiling by Male") & (table["model"] == "vgg16")].iloc[
        0
    ]
    assert celeba["hours"] == pytest.approx(
        celeba["dense trainings"] * 50 * (162_770 // 128) / HOUR
    )


def test_the_last_row_is_the_sum_and_every_run_is_in_one_task(steps):
    table = plan.table("paper_full", steps)
    *tasks, total = table.to_dict("records")
    assert total["task"] == "all" and total["runs"] == len(config.every_run("paper_full")) == sum(
        row["runs"] for row in tasks
    )
    for name in ("dense trainings", "hours", "tickets GB", "records GB", "shared GB"):
        assert total[name] == pytest.approx(sum(row[name] for row in tasks)) and total[name] > 0


def test_a_step_that_nobody_timed_leaves_no_hours():
    assert plan.table("smoke", {})["hours"].isna().all()


def test_tickets_and_records_are_of_the_size_that_is_planned(tmp_path, monkeypatch, smoke_run):
    from fairlth.workflow import experiments

    monkeypatch.setattr(paths, "RUNS", tmp_path)
    experiments.run(smoke_run, tmp_path)
    found = plan.gigabytes({smoke_run: 1.0})
    shared = sum(path.stat().st_size for path in (tmp_path / "smoke/shared").iterdir())
    assert config.ticket_path(smoke_run, tmp_path).stat().st_size / 1e9 == pytest.approx(
        found["tickets GB"], rel=0.15
    )
    assert shared / 1e9 == pytest.approx(found["shared GB"], rel=0.05)
    assert config.record_path(smoke_run, tmp_path).stat().st_size / 1e9 == pytest.approx(
        found["records GB"], rel=0.5
    )


@pytest.mark.parametrize(
    "each", [0.001, 0.5]
)  # seconds an image: the whole batch is timed, or two small ones
def test_a_step_has_a_fixed_part_and_one_that_grows_with_its_images(each, monkeypatch):
    timed = []
    monkeypatch.setattr(
        cost, "_spent", lambda name, schedule, data, n: timed.append(n) or 0.01 + each * n
    )
    step = Step("convnet", 32, 64, "float32")
    assert cost.seconds(step, config.PRESETS["small"].schedule) == pytest.approx(0.01 + 64 * each)
    assert timed == ([8, 64] if each == 0.001 else [8, 16])


def test_a_step_is_timed_on_a_runs_own_images_and_classes(random_data, monkeypatch, smoke_run):
    timed = []
    trainer = cost.Trainer

    def watched(model, data, schedule, seed):
        timed.append(data.train)
        return trainer(model, data, schedule, seed)

    monkeypatch.setattr(cost, "Trainer", watched)
    assert 0 < cost.seconds_on(smoke_run, random_data) < 10
    assert [len(split) for split in timed] == [8, 64]
    assert (timed[1].x == random_data.train.x[:64]).all() and timed[1].n_classes == 3


def test_a_timed_step_comes_back_from_its_table(tmp_path):
    timed = cost.time_steps("smoke")
    [(step, spent)] = timed.items()
    assert step == Step("mlp", 8, 64, "float32") and 0 < spent < 10
    cost.write_steps(timed, tmp_path / "steps.csv")
    found, device = cost.read_steps(tmp_path / "steps.csv")
    assert found == pytest.approx(timed) and device == cost.device_name()
    (tmp_path / "steps.csv").write_text("no,table\n")
    with pytest.raises(
        ValueError, match=r"steps.csv is not a table of timed steps .*: write one with --save"
    ):
        cost.read_steps(tmp_path / "steps.csv")


def test_a_number_of_images_that_is_not_known_is_one_sentence():
    with pytest.raises(
        ValueError, match="how many images lfw has is not known before it is loaded"
    ):
        plan.images(
            Run(
                dataset="lfw",
                model="resnet18",
                method="dense",
                density=1.0,
                seed=0,
                preset="paper_full",
            )
        )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_planned(preset):
    for run in config.grid(preset, ("dense",)):
        target = run.target or SOURCES[run.dataset].target
        assert plan.images(run) > 0 and target in plan.VALUES[run.dataset]
        assert run.group_by is None or run.group_by in plan.VALUES[run.dataset]


def test_images_and_labels_are_those_of_the_data(smoke_run):
    loaded = data.load(smoke_run)
    assert (
        plan.images(smoke_run) == len(loaded.train)
        and plan.VALUES["digits"]["label"] == loaded.train.n_classes
    )


def test_images_and_labels_are_those_of_real_data(real_data):
    import pyarrow.parquet as parquet

    for name in ("cifar10", "cifar100", "fashion_mnist", "utkface"):
        if files := sorted((real_data / name).glob("train-*.parquet")):
            rows = sum(parquet.read_metadata(path).num_rows for path in files)
            kept = (
                rows - int(rows * SOURCES[name].test_fraction)
                if "test" not in SOURCES[name].splits
                else rows
            )
            assert plan.IMAGES[name] == kept, name


def test_the_scale_of_preset_paper_full():
    paper = PRESETS["paper_full"]
    assert (
        len(paper.tasks) == 6 * 3
        and paper.densities == (0.2, 0.1, 0.05, 0.02)
        and len(paper.seeds) == 5
    )
    assert {task.model for task in paper.tasks} == {"resnet18", "vgg16", "mobilenet_v2"}
    assert {task.group_by for task in paper.tasks if task.dataset == "utkface"} == {
        "gender",
        "age_band",
    }
    run = Run(
        dataset="celeba", model="vgg16", method="dense", density=1.0, seed=0, preset="paper_full"
    )
    assert run.settings.schedule.epochs == 50 and paper.schedule.epochs == 160
    with pytest.raises(
        ValueError, match="rewind_epochs=2 is refused: expected fewer than the 2 epochs"
    ):
        Preset(
            **{name: getattr(paper, name) for name in Preset.model_fields}
            | {"epochs": {"celeba": 2}}
        )
