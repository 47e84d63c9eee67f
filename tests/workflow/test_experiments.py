import json

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fairlth import config, data, methods, models
from fairlth.analysis import audit, conditions, records, schema, scope, summaries
from fairlth.config import Run, paths
from fairlth.lottery import Ticket
from fairlth.masks import MaskSet
from fairlth.shipping import ticket as tickets
from fairlth.workflow import cli, experiments, grid


@pytest.fixture
def in_tmp(tmp_path):
    return tmp_path / "runs"


def test_same_run_same_record_apart_from_times(in_tmp, tmp_path, smoke_run):
    texts = []
    for folder in (in_tmp, tmp_path / "again"):
        experiments.run(smoke_run, folder)
        found = json.loads(config.record_path(smoke_run, folder).read_text())
        found.pop("sha256")
        found["conditions"].pop("seconds")
        found["conditions"].pop("shared_seconds")
        found["conditions"].pop("memory")
        texts.append(json.dumps(found))
    assert texts[0] == texts[1]
    other = experiments.run(smoke_run.model_copy(update={"seed": 1}), in_tmp)
    assert json.dumps(other.counts) != json.dumps(json.loads(texts[0])["counts"])


def test_deterministic_operations_are_used_where_asked_for_and_recorded(
    in_tmp, tmp_path, smoke_run, monkeypatch
):
    usual = experiments.run(smoke_run, in_tmp)
    monkeypatch.setattr(paths, "DETERMINISTIC", True)
    try:
        strict = experiments.run(smoke_run, tmp_path / "strict")
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
    finally:
        torch.use_deterministic_algorithms(False)
    assert strict.conditions["device"] == usual.conditions["device"] + ", deterministic"
    assert strict.counts == usual.counts


def test_what_is_there_is_not_trained_again(in_tmp, smoke_run, monkeypatch):
    [first] = experiments.run_or_load([smoke_run], in_tmp)
    monkeypatch.setattr(experiments, "run", None)
    assert experiments.run_or_load([smoke_run, smoke_run], in_tmp) == [first]


def test_a_single_run_is_a_grid_of_one(in_tmp, smoke_run):
    [alone] = experiments.run_or_load(smoke_run, in_tmp)
    assert experiments.run_or_load([smoke_run], in_tmp) == [alone]


@pytest.mark.parametrize("odd", ["digits", {"seed": 0}, None, ["digits"]])
def test_what_is_no_run_is_named(odd, in_tmp):
    for ask in (experiments.run, experiments.ticket):
        with pytest.raises(ValueError, match="expected a Run, as config.Run makes it"):
            ask(odd, in_tmp)
    with pytest.raises(ValueError, match="expected a Run, as config.Run makes it"):
        experiments.run_or_load([odd], in_tmp)


def test_other_code_or_settings_or_a_damaged_record_mean_training_again(
    in_tmp, smoke_run, monkeypatch
):
    made = []
    train = experiments.run
    monkeypatch.setattr(experiments, "run", lambda run, runs: made.append(run) or train(run, runs))
    experiments.run_or_load([smoke_run], in_tmp)
    with monkeypatch.context() as patch:
        patch.setattr(conditions, "LOADED", "other")
        experiments.run_or_load([smoke_run], in_tmp)
    longer = config.PRESETS["smoke"].schedule.model_copy(update={"epochs": 3})
    with monkeypatch.context() as patch:
        patch.setitem(
            config.PRESETS, "smoke", config.PRESETS["smoke"].model_copy(update={"schedule": longer})
        )
        experiments.run_or_load([smoke_run], in_tmp)
    config.record_path(smoke_run, in_tmp).write_text("{")
    with pytest.warns(UserWarning, match="not a whole record"):
        experiments.run_or_load([smoke_run], in_tmp)
    assert len(made) == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dataset": "mnist"}, "dataset='mnist' is unknown"),
        ({"model": "lenet"}, "model='lenet' is unknown"),
        ({"method": "snip"}, "method='snip' is unknown"),
    ],
)
def test_bad_names_are_refused_before_any_training(
    in_tmp, smoke_run, change, sentence, monkeypatch
):
    monkeypatch.setattr(experiments, "run", None)
    with pytest.raises(ValueError, match=sentence):
        experiments.run_or_load([smoke_run, smoke_run.model_copy(update=change)], in_tmp)
    assert not list(in_tmp.rglob("*.json"))


def test_a_place_that_cannot_be_written_is_refused_before_any_training(
    tmp_path, smoke_run, monkeypatch
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(data, "load", None)
    with pytest.raises(OSError, match="could not be written"):
        experiments.run(smoke_run, tmp_path / "file")


def test_a_diverging_run_leaves_nothing(in_tmp, smoke_run, monkeypatch):
    wild = config.PRESETS["smoke"].schedule.model_copy(update={"lr": 1e6})
    monkeypatch.setitem(
        config.PRESETS, "smoke", config.PRESETS["smoke"].model_copy(update={"schedule": wild})
    )
    with pytest.raises(FloatingPointError, match="training loss became"):
        experiments.run(smoke_run, in_tmp)
    assert [path for path in in_tmp.rglob("*") if path.is_file()] == []


def test_a_disk_that_fills_leaves_no_record_and_no_scraps(in_tmp, smoke_run, monkeypatch):
    real = tickets.write

    def full(*arguments, **named):
        monkeypatch.setattr(
            "os.replace",
            lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
        real(*arguments, **named)

    monkeypatch.setattr(tickets, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        experiments.run(smoke_run, in_tmp)
    assert [path for path in in_tmp.rglob("*") if path.is_file()] == []


def test_an_empty_test_group_is_named(smoke_run, in_tmp, monkeypatch):
    load = data.load

    def without_nines(run):
        loaded = load(run)
        keep = loaded.test.y != 9
        test = type(loaded.test)(
            loaded.test.x[keep], loaded.test.y[keep], loaded.test.group[keep], 10, 10
        )
        return type(loaded)(**vars(loaded) | {"test": test})

    monkeypatch.setattr(data, "load", without_nines)
    record = experiments.run(smoke_run, in_tmp)
    assert np.isnan(summaries.measures(*record.split("test").by_group())["cwv"])


def test_the_method_never_sees_the_test_split(in_tmp, smoke_run, monkeypatch):
    """A method given other test images makes the same ticket."""
    load = data.load
    experiments.run(smoke_run, in_tmp)
    first = config.ticket_path(smoke_run, in_tmp).read_bytes()

    def other_test(run):
        loaded = load(run)
        return type(loaded)(**vars(loaded) | {"test": loaded.val})

    monkeypatch.setattr(data, "load", other_test)
    experiments.run(smoke_run, in_tmp)
    assert config.ticket_path(smoke_run, in_tmp).read_bytes() == first


def test_a_table_for_a_notebook_refuses_what_is_not_a_switch():
    with pytest.raises(ValueError, match="train='no' is refused: expected true or false"):
        experiments.table("11_comparison", "smoke", "no")


def test_runs_are_refused_by_type_too():
    with pytest.raises(ValueError, match="density='1e-3'"):
        Run(dataset="digits", model="mlp", method="lth", density="1e-3", seed=0, preset="smoke")


def test_reading_a_table_trains_nothing_and_gives_what_it_has(
    tmp_path, smoke_run, in_tmp, monkeypatch
):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    monkeypatch.setattr(experiments, "run_or_load", None)
    own = smoke_run.model_copy(update={"density": 0.02})
    records.merge_table(records.table([experiments.run(own, in_tmp)]), "smoke")
    there = experiments.table("11_comparison", "smoke", train=False)
    assert set(there["method"]) == {"lth"}
    lacking = experiments.missing("11_comparison", "smoke", there)
    assert lacking.startswith("Not in the table: every run of dense, random, magnitude")
    with pytest.raises(ValueError, match="smoke.csv has no run of 20_groups: use train=True"):
        experiments.table("20_groups", "smoke", train=False)
    assert (
        len(experiments.table("00_overview", "smoke", train=False)) == (2 + len(schema.SHIFTS)) * 10
    )


def test_a_notebook_sees_its_own_runs_of_a_table_only(smoke_run, in_tmp):
    own = smoke_run.model_copy(update={"method": "lth_bias", "density": 0.02})
    other = [
        own.model_copy(update=change)
        for change in ({"pressure": 1.0}, {"density": 0.1}, {"seed": 7})
    ]
    frame = records.table(experiments.run_or_load([own, *other], in_tmp))
    shown = summaries.per_run(experiments.of("11_comparison", "smoke", frame))
    assert (
        shown[["density", "seed"]].to_numpy().tolist() == [[0.02, 0]]
        and shown["pressure"].isna().all()
    )
    assert (
        len(summaries.per_run(experiments.of("12_sparsity", "smoke", frame))) == 2
    )  # along its pressure


def test_a_density_that_keeps_nothing_is_refused_before_training(in_tmp, smoke_run, monkeypatch):
    monkeypatch.setattr(methods, "make", None)
    with pytest.raises(ValueError, match="density=1e-05 keeps none of 17024 weights"):
        experiments.run(smoke_run.model_copy(update={"density": 1e-5}), in_tmp)


def test_records_in_a_folder_that_cannot_be_written_are_still_read(in_tmp, smoke_run, monkeypatch):
    [first] = experiments.run_or_load([smoke_run], in_tmp)
    monkeypatch.setattr(paths, "check_writable", None)
    assert experiments.run_or_load([smoke_run], in_tmp) == [first]


def test_a_record_holds_the_curve_of_its_shifted_biases(in_tmp, smoke_run):
    """Half of the way in the record of a plain ticket is what the control at pressure 0.5 is."""
    control = smoke_run.model_copy(update={"method": "lth_bias", "pressure": 0.5})
    plain, shifted = experiments.run(smoke_run, in_tmp), experiments.run(control, in_tmp)
    assert set(plain.counts) == {"val", "test", "test+0.25", "test+0.5", "test+1"}
    assert plain.counts["test+0.5"] == shifted.counts["test"]
    assert len({str(plain.counts[f"test{share}"]) for share in ("", "+0.25", "+0.5", "+1")}) > 1


def test_a_ticket_is_read_where_it_is_there_and_made_where_it_is_not(
    in_tmp, smoke_run, monkeypatch
):
    first = experiments.ticket(smoke_run, in_tmp)
    monkeypatch.setattr(methods, "make", None)
    again = experiments.ticket(smoke_run, in_tmp)
    assert again.card == first.card and again.mask.n_kept == 851
    monkeypatch.undo()
    tickets.card_path(config.ticket_path(smoke_run, in_tmp)).unlink()
    third = experiments.ticket(smoke_run, in_tmp)
    assert third.card.sha256 == first.card.sha256
    config.ticket_path(smoke_run, in_tmp).write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="has 7 bytes and not the .* It is made anew now"):
        assert experiments.ticket(smoke_run, in_tmp).card.sha256 == first.card.sha256


def test_a_notebook_sees_its_own_tasks_of_a_table_only_and_says_what_is_missing(smoke_run, in_tmp):
    by_class = smoke_run.model_copy(update={"method": "lth", "density": 0.02})
    by_ink = by_class.model_copy(update={"target": "odd", "group_by": "ink"})
    frame = records.table(experiments.run_or_load([by_class, by_ink], in_tmp))
    assert set(experiments.of("11_comparison", "smoke", frame)["group_by"]) == {"class"}
    assert set(experiments.of("20_groups", "smoke", frame)["group_by"]) == {"ink"}
    lacking = experiments.missing("20_groups", "smoke", frame)
    assert (
        lacking
        == "Not in the table: every run of dense, magnitude, ballot; 2 of digits odd by ink, mlp."
    )
    every = pd.concat(
        frame[frame["group_by"] == "ink"].assign(
            method=run.method, density=run.density, seed=run.seed
        )
        for run in config.study("20_groups", "smoke")
    )
    assert experiments.missing("20_groups", "smoke", every) == ""


def test_runs_that_a_table_has_count_as_done(smoke_run, in_tmp, tmp_path, monkeypatch):
    """Where trainings take long; under other settings than today's they do not."""
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    slow = config.PRESETS["smoke"].model_copy(
        update={"in_process": False, "methods": ("dense", "lth"), "pressures": False}
    )
    monkeypatch.setitem(config.PRESETS, "slow", slow)
    first, second = config.study("10_motivation", "slow")[:2]
    records.merge_table(records.table([experiments.run(first, in_tmp)]), "slow")
    assert experiments.in_table("slow") == {scope.key(first)}
    asked = []
    monkeypatch.setattr(
        experiments,
        "run_or_load",
        lambda runs: asked.extend(runs) or [experiments.run(second, in_tmp)],
    )
    frame = experiments.table("10_motivation", "slow", train=True)
    assert first not in asked and second in asked and len(summaries.per_run(frame)) == 2
    monkeypatch.setitem(config.PRESETS, "slow", slow.model_copy(update={"epsilon": 0.1}))
    assert experiments.in_table("slow") == set()


def test_what_a_run_spent_counts_every_pass(smoke_run, in_tmp):
    """By hand, smoke: dense 10 epochs; lth_long 3 times the epochs after the rewind; validation
    images count a third.
    """
    found = {
        method: experiments.run(
            smoke_run.model_copy(update={"method": method, "density": density}), in_tmp
        )
        for method, density in (("dense", 1.0), ("lth_long", 0.05), ("ballot", 0.05))
    }
    assert (
        found["dense"].spent == 1.0
        and found["lth_long"].spent == found["lth_long"].cost == 1 + 13 * 0.1 + 1.8
    )
    dense = 10 * (1079 // 64 * 64)
    readings = (9 * 16 + 13 * 16) // 18 * 64
    validations = (
        1 + 6 + 6 + 1
    )  # the floor, six before and six after the rate has settled, the shift
    ballot = found["lth_long"].spent + (readings + validations * 269 / 3) / dense
    assert (
        found["ballot"].spent == pytest.approx(ballot, abs=1e-4)
        and ballot <= 1.1 * found["lth_long"].spent + 0.02
    )


def test_a_record_keeps_what_each_test_image_was_taken_for(smoke_run, in_tmp):
    record = experiments.run(smoke_run, in_tmp)
    classes, confidence = record.predicted()
    loaded = data.load(smoke_run)
    assert np.bincount(
        loaded.test.y.numpy()[classes == loaded.test.y.numpy()], minlength=10
    ).tolist() == (record.split("test").by_group().correct.tolist())
    assert (confidence >= 0.1).all() and (confidence <= 1).all()


def test_predictions_are_those_that_were_counted_where_outputs_are_nearly_alike(smoke_run, in_tmp):
    """Softmax rounds these outputs to one probability, of which it would name the first."""
    loaded = data.load(smoke_run)
    network = models.build("mlp", (1, 8, 8), 10, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        network.linear3.bias[5] = 1e-9
    mask = MaskSet.full(models.prunable(network))
    record = experiments.record_of(smoke_run, loaded, Ticket(network, mask, 1.0), 0.0, 0.0)
    assert set(record.predicted()[0].tolist()) == {5}
    assert audit.answers(record, loaded.test).right.sum() == record.split("test").correct.sum()


def test_a_card_knows_what_the_ticket_lost_where_the_dense_net_was_made(
    smoke_run, in_tmp, monkeypatch
):
    run = smoke_run.model_copy(update={"method": "magnitude", "density": 0.02})
    dense = run.model_copy(update={"method": "dense", "density": 1.0})
    experiments.run(run, in_tmp)
    path = config.ticket_path(run, in_tmp)
    assert list(tickets.read_card(path).audit) == ["ece", "brier"]
    experiments.run(dense, in_tmp)
    record = experiments.run(run, in_tmp)
    card = tickets.read_card(path)
    before, after = (records.read(config.record_path(one, in_tmp), one) for one in (dense, run))
    truth = data.load(run).test.y.numpy()
    right = before.predicted()[0] == truth
    lost = right & (record.predicted()[0] != truth)
    by_class = [lost[truth == c].sum() / right[truth == c].sum() for c in range(10)]
    assert card.audit["lost"] == pytest.approx(by_class, abs=1e-6) and max(by_class) > 0
    assert after.predicted()[0].tolist() == record.predicted()[0].tolist()
    other = config.PRESETS["smoke"].model_copy(update={"epsilon": 0.3})
    monkeypatch.setitem(config.PRESETS, "smoke", other)  # the dense net is of other settings now
    experiments.run(run, in_tmp)
    assert list(tickets.read_card(path).audit) == ["ece", "brier"]
    dense_card = tickets.read_card(config.ticket_path(dense, in_tmp))
    assert list(dense_card.audit) == ["ece", "brier"]


def test_a_run_of_other_code_than_its_grid_began_with_is_refused(smoke_run, in_tmp, monkeypatch):
    monkeypatch.setattr(paths, "GRID_CODE", conditions.LOADED)
    experiments.run(smoke_run, in_tmp)
    monkeypatch.setattr(paths, "GRID_CODE", "0123456789ab")
    with pytest.raises(
        ValueError,
        match="has changed under a running grid, from 0123456789ab to .*: let the grid finish",
    ):
        experiments.run(smoke_run, in_tmp)


@pytest.fixture
def faces(tmp_path, monkeypatch):
    """A data set of the package whose files are made here, a run on it that counts as costly."""
    monkeypatch.setattr(paths, "DATA", tmp_path / "sets")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    tiny = config.PRESETS["smoke"].model_copy(update={"n_val": 10, "in_process": False})
    monkeypatch.setitem(config.PRESETS, "smoke", tiny)
    datasets.disable_progress_bars()
    fill(tmp_path / "sets/fashion_mnist", seed=0)
    return Run(
        dataset="fashion_mnist", model="mlp", method="dense", density=1.0, seed=0, preset="smoke"
    )


def fill(folder, seed):
    """Files of random images of two classes."""
    numbers = np.random.default_rng(seed).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    images = [Image.fromarray(image) for image in numbers]
    folder.mkdir(parents=True, exist_ok=True)
    for split, first, last in (("train", 0, 40), ("test", 40, 60)):
        rows = {"image": images[first:last], "label": [0, 1] * ((last - first) // 2)}
        datasets.Dataset.from_dict(rows).to_parquet(folder / f"{split}-0.parquet")


def without_data(path):
    """The record as it was before records named the files of their data."""
    values = json.loads(path.read_text())
    del values["conditions"]["data"], values["sha256"]
    path.write_text(json.dumps(values))


class TestReplacedFiles:
    def test_a_record_names_the_content_of_its_files(self, faces, in_tmp):
        record = experiments.run(faces, in_tmp)
        assert record.conditions["data"] == data.content("fashion_mnist")
        assert "data" not in record.settings  # which tables know by their hash

    def test_digits_have_no_files(self, smoke_run, in_tmp):
        assert "data" not in experiments.run(smoke_run, in_tmp).conditions

    def test_another_file_of_the_same_name_makes_the_run_anew(self, faces, in_tmp):
        first = experiments.run(faces, in_tmp)
        path = config.record_path(faces, in_tmp)
        before = path.read_bytes()
        fill(paths.DATA / "fashion_mnist", seed=1)
        with pytest.warns(UserWarning, match="was made with other files of") as warned:
            [second] = experiments.run_or_load(faces, in_tmp)
        aside = in_tmp / "smoke/aside" / path.name
        assert [str(warning.message) for warning in warned] == [
            "fashion_mnist_mlp_dense_d1.0_s0 was made with other files of fashion_mnist: it is "
            "made anew now.",
            f"{path} was made with other files of its data set: it is {aside} now.",
        ]
        assert first.predictions != second.predictions
        assert aside.read_bytes() == before
        assert experiments.run_or_load(faces, in_tmp) == [second]

    def test_the_same_files_under_other_names_change_nothing(self, faces, in_tmp, monkeypatch):
        [first] = experiments.run_or_load(faces, in_tmp)
        folder = paths.DATA / "fashion_mnist"
        (folder / "train-0.parquet").rename(folder / "train.parquet")
        monkeypatch.setattr(experiments, "run", None)
        assert experiments.run_or_load(faces, in_tmp) == [first]

    @pytest.mark.parametrize("what", ["the record", "the machine"])
    def test_where_one_does_not_know_the_files_the_record_counts(
        self, faces, in_tmp, monkeypatch, what
    ):
        experiments.run(faces, in_tmp)
        if what == "the record":
            without_data(config.record_path(faces, in_tmp))
            fill(paths.DATA / "fashion_mnist", seed=1)
        else:
            for path in (paths.DATA / "fashion_mnist").iterdir():
                path.unlink()
        assert experiments.usable(faces, in_tmp) is not None

    def test_a_grid_sets_it_aside_and_gather_leaves_it_out(self, faces, monkeypatch, capsys):
        monkeypatch.setattr(config, "every_run", lambda preset: [faces])
        experiments.run(faces)
        path = config.record_path(faces)
        fill(paths.DATA / "fashion_mnist", seed=1)
        assert cli.main(["gather", "smoke"]) == 2
        told = f"left out: {path} was made with other files of fashion_mnist: run it again.\n"
        assert told in capsys.readouterr().err
        assert grid.set_aside("smoke", [faces]) == [
            "1 record(s) were made with other files of their data set: they are in "
            f"{paths.RUNS / 'smoke/aside'} now, and the runs are made anew."
        ]
        assert not path.exists()


def test_the_place_of_runs_is_taken_when_it_is_asked_for(tmp_path, smoke_run, monkeypatch):
    for folder in (tmp_path / "one", tmp_path / "other"):
        monkeypatch.setattr(paths, "RUNS", folder)
        assert experiments.usable(smoke_run) is None
        [record] = experiments.run_or_load(smoke_run)
        assert experiments.ticket(smoke_run).card.run == record.run
        assert config.record_path(smoke_run, folder).exists()
