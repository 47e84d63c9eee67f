import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from fairlth import config
from fairlth.analysis import records, summaries
from fairlth.config import paths


def record(
    method="lth",
    seed=0,
    correct=((8, 0), (0, 6)),
    total=((10, 0), (0, 10)),
    group_by="class",
    density=0.05,
):
    """A record made by hand: two classes that are their own groups."""
    run = {
        "dataset": "digits",
        "model": "mlp",
        "method": method,
        "density": density,
        "seed": seed,
        "preset": "smoke",
    }
    counts = {"correct": [list(row) for row in correct], "total": [list(row) for row in total]}
    return records.Record(
        run=run | {"pressure": None, "target": None, "group_by": None},
        target="label",
        group_by=group_by,
        classes=["a", "b"],
        groups=["a", "b"],
        counts={"val": counts, "test": counts},
        layers=[{"layer": "w", "kept": 5, "total": 100}],
        cost=1.0,
        spent=1.25,
        feasible=None,
        predictions={},
        trace=[],
        notes={},
        settings={},
        conditions={
            "version": "0",
            "commit": "x",
            "code": "y",
            "torch": "2",
            "device": "cpu",
            "precision": "float32",
            "seconds": 1.5,
            "shared_seconds": 0.0,
            "memory": 300.0,
        },
    )


def test_a_record_survives_writing_and_reading(tmp_path):
    path = tmp_path / "record.json"
    records.write(record(), path)
    assert records.read(path) == record()
    assert (record().kept, record().total) == (5, 100)
    assert records.read(path).split("test").correct.tolist() == [[8, 0], [0, 6]]


@pytest.mark.parametrize("content", ["", "{", '{"run": {}}', "[]"])
def test_a_damaged_record_is_one_sentence(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(ValueError, match="record.json is not a whole record"):
        records.read(tmp_path / "record.json")


def test_class_wise_rows_are_the_cells_that_exist():
    rows = records.rows(record())
    assert [(row["split"], row["class"], row["group"], row["correct"], row["total"]) for row in rows] == [
        ("val", "a", "a", 8, 10), ("val", "b", "b", 6, 10), ("test", "a", "a", 8, 10), ("test", "b", "b", 6, 10)
    ]  # fmt: skip
    assert set(rows[0]) == set(records.COLUMNS)


def test_a_table_survives_a_csv_file_and_its_order_is_that_of_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    one, other = record(seed=0), record(seed=1, correct=((9, 0), (0, 9)))
    records.merge_table(records.table([one, other]), "smoke")
    first = (tmp_path / "smoke.csv").read_bytes()
    records.merge_table(records.table([other, one]), "smoke")
    assert (tmp_path / "smoke.csv").read_bytes() == first
    read, made = (
        summaries.per_run(frame).drop(columns="feasible")
        for frame in (records.load("smoke"), records.table([one, other]))
    )
    pd.testing.assert_frame_equal(read, made, check_dtype=False)


def test_a_table_that_is_not_there_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    with pytest.raises(
        ValueError, match="paper.csv is not there: run `make reproduce PRESET=paper`"
    ):
        records.load("paper")


def table_of(*made, preset="confirm"):
    return records.table(list(made)).assign(preset=preset)


def test_merging_adds_runs_and_drops_none(tmp_path, monkeypatch):
    """Into a place without a table of its own the committed one is taken over whole."""
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    before = records.load("confirm")
    records.merge_table(table_of(record(seed=0)), "confirm")
    records.merge_table(table_of(record(seed=1)), "confirm")
    path = records.merge_table(table_of(record(seed=0)), "confirm")
    after = records.load("confirm")
    assert len(after) == len(before) + 2 * 4 and path == tmp_path / "confirm.csv"
    old = after[after["dataset"].isin(before["dataset"].unique())]
    pd.testing.assert_frame_equal(old.reset_index(drop=True), before, check_dtype=False)


def test_a_committed_table_keeps_its_bytes_when_nothing_is_added(tmp_path, monkeypatch):
    committed = records.table_path("deeper").read_bytes()
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    assert records.merge_table(records.load("deeper"), "deeper").read_bytes() == committed


def test_merging_refuses_other_counts_and_other_presets_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    before = records.merge_table(table_of(record(seed=0)), "confirm").read_bytes()
    other = table_of(record(seed=0, correct=((7, 0), (0, 7))))
    with pytest.raises(
        ValueError,
        match=r"confirm.csv has other counts for the run .*method lth.*seed 0.*: find out which",
    ):
        records.merge_table(other, "confirm")
    with pytest.raises(
        ValueError, match="confirm.csv: row 2 is of preset 'small' and not of 'confirm'"
    ):
        records.merge_table(table_of(record(seed=2), preset="small"), "confirm")
    assert (tmp_path / "confirm.csv").read_bytes() == before


def test_runs_made_again_under_other_settings_are_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    records.merge_table(table_of(record(seed=0), record(seed=1)), "confirm")
    again = dataclasses.replace(record(seed=0, correct=((7, 0), (0, 7))), settings={"epochs": 3})
    with pytest.warns(
        UserWarning,
        match="1 run.s. in .*confirm.csv were made under other settings of the preset: they are in",
    ):
        records.merge_table(table_of(again), "confirm")
    mine = records.load("confirm")
    mine = mine[mine["dataset"] == "digits"]
    assert mine[mine["split"] == "test"].groupby("seed")["correct"].apply(list).to_dict() == {
        0: [7, 7],
        1: [8, 6],
    }
    aside = pd.read_csv(tmp_path / "confirm.other-settings.csv")
    assert aside["seed"].tolist() == [0] * 4 and aside["correct"].tolist() == [8, 6, 8, 6]


def test_predictions_survive_packing():
    classes, confidence = np.array([3, 0, 199]), np.array([0.5, 1.0, 0.0])
    packed = records.pack_predictions(classes, confidence)
    found = dataclasses.replace(record(), predictions=packed).predicted()
    assert found[0].tolist() == [3, 0, 199] and np.abs(found[1] - confidence).max() <= 0.5 / 65_535


def test_merging_refuses_other_cells_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    before = records.merge_table(table_of(record(seed=0)), "confirm").read_bytes()
    renamed = dataclasses.replace(record(seed=0), classes=["a", "c"], groups=["a", "c"])
    with pytest.raises(ValueError, match="confirm.csv has other counts for the run .*seed 0"):
        records.merge_table(table_of(renamed), "confirm")
    assert (tmp_path / "confirm.csv").read_bytes() == before


def test_merging_adds_a_split_to_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    one = record(seed=0)
    records.merge_table(table_of(one), "confirm")
    more = dataclasses.replace(one, counts=one.counts | {"test+1": one.counts["test"]})
    records.merge_table(table_of(more), "confirm")
    mine = records.load("confirm").query("dataset == 'digits'")
    assert mine["split"].value_counts().to_dict() == {"test": 2, "test+1": 2, "val": 2}


def test_nothing_to_write_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    with pytest.raises(ValueError, match="there is no run to write to .*smoke.csv: make one first"):
        records.merge_table(records.table([]), "smoke")


def test_what_is_set_aside_keeps_names_and_what_was_set_aside_before(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    odd = dataclasses.replace(record(), classes=["", "nan"], groups=["", "nan"])
    for epochs in (1, 2, 3):
        again = table_of(dataclasses.replace(odd, settings={"epochs": epochs}))
        if epochs == 1:
            records.merge_table(again, "confirm")
            continue
        with pytest.warns(UserWarning, match="they are in confirm.other-settings.csv now"):
            records.merge_table(again, "confirm")
    beside = tmp_path / "confirm.other-settings.csv"
    aside = pd.read_csv(beside, dtype=str, keep_default_na=False)
    digests = [records.settings_digest({"epochs": epochs}) for epochs in (1, 2)]
    assert aside["settings"].tolist() == [digests[0]] * 4 + [digests[1]] * 4
    assert aside["class"].tolist() == ["", "nan"] * 4 and set(aside["pressure"]) == {""}


RUN = config.Run(dataset="digits", model="mlp", method="lth", density=0.05, seed=0, preset="smoke")


@pytest.fixture
def path(tmp_path):
    """A record of RUN in a folder of runs."""
    made = tmp_path / "runs/smoke/records/one.json"
    records.write(sound(), made)
    return made


def sound(**changes):
    """A record of RUN with predictions, and nan where the system tells no memory."""
    classes = np.array([0] * 8 + [1] * 12)
    packed = records.pack_predictions(classes, np.full(20, 0.5))
    nameless = record().conditions | {"memory": float("nan")}
    values = {"predictions": packed, "conditions": nameless} | changes
    return dataclasses.replace(record(), **values)


def edited(path, change, keep_hash=False):
    """The file with other values, as an older version would have written them, without a hash."""
    values = json.loads(path.read_text())
    if not keep_hash:
        del values["sha256"]
    change(values)
    path.write_text(json.dumps(values))


def test_a_record_without_a_hash_is_accepted(path):
    edited(path, lambda values: None)
    pd.testing.assert_frame_equal(
        records.table([records.read(path, RUN)]), records.table([sound()])
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["counts"]["test"]["correct"][0].__setitem__(0, 7),
        lambda values: values["trace"].append({}),
        lambda values: values["conditions"].update(seconds=1.0),
        lambda values: values.update(feasible=True),
        lambda values: values.update(sha256="0" * 64),
    ],
)
def test_a_changed_record_is_told_by_its_hash(path, change):
    edited(path, change, keep_hash=True)
    with pytest.raises(ValueError, match="not a whole record of its run .its content has changed"):
        records.read(path, RUN)


def test_the_order_of_a_records_values_is_no_change(path):
    values = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(values.items()))))
    assert records.read(path, RUN).classes == ["a", "b"]


IMPOSSIBLE = {
    "more or less is right on test than": lambda k: k["counts"]["test"]["correct"][0].__setitem__(
        0, 11
    ),
    "more or less is right on val than": lambda k: k["counts"]["val"]["correct"][0].__setitem__(
        0, -1
    ),
    "counts.test.correct.0.0: Input should be a valid integer": (
        lambda k: k["counts"]["test"]["correct"][0].__setitem__(0, 1.5)
    ),
    "correct of test is not 2 classes of 2 groups": lambda k: k["counts"]["test"]["correct"].pop(),
    "total of val is not 2 classes of 2 groups": lambda k: k["counts"]["val"]["total"][1].pop(),
    "its counts has no 'val'": lambda k: k["counts"].pop("val"),
    "its counts of test has no 'total'": lambda k: k["counts"]["test"].pop("total"),
    "it counts on 'train', expected val, test": lambda k: k["counts"].update(
        train=k["counts"]["val"]
    ),
    "test.1 has other numbers of images than test": lambda k: k["counts"].update(
        {"test+1": {"correct": [[0, 0], [0, 0]], "total": [[9, 0], [0, 10]]}}
    ),
    "its conditions has no 'code'": lambda k: k["conditions"].pop("code"),
    "conditions: Input should be an object": lambda k: k.update(conditions=None),
    "seconds=-1: Input should be greater": lambda k: k["conditions"].update(seconds=-1),
    "memory='much': Input should be a valid number": lambda k: k["conditions"].update(
        memory="much"
    ),
    "mine: Unexpected keyword argument": lambda k: k.update(mine=1),
    "settings: Field required": lambda k: k.pop("settings"),
    "its run has no 'seed'": lambda k: k["run"].pop("seed"),
    "cost=inf: Input should be a finite": lambda k: k.update(cost=float("inf")),
    "w keeps 101 of 100 weights": lambda k: k["layers"][0].update(kept=101),
    "its layer 0 has no 'kept'": lambda k: k["layers"][0].pop("kept"),
    "w keeps None of 100 weights": lambda k: k["layers"][0].update(kept=None),
    "w keeps 1.5 of 100 weights": lambda k: k["layers"][0].update(kept=1.5),
    "its layers .. are not one or more different ones": lambda k: k["layers"].clear(),
    "its layers .'w', 'w'. are not one or more": lambda k: k["layers"].append(k["layers"][0]),
    "it counts no image on val": lambda k: k["counts"].update(
        val={"correct": [[0, 0], [0, 0]], "total": [[0, 0], [0, 0]]}
    ),
    "its groups are its classes, and it names .'b', 'a'.": lambda k: k.update(groups=["b", "a"]),
    "its predictions are not 20 of 2 cl": lambda k: k.update(
        predictions=records.pack_predictions(np.array([0] * 20), np.ones(19))
    ),
    "different ones": lambda k: k.update(classes=["a", "a"]),
    "its predictions are not 20 of 2 classes": lambda k: k.update(
        predictions=records.pack_predictions(np.array([2] * 20), np.ones(20))
    ),
    "its predictions are not 20 of": lambda k: k.update(
        predictions=records.pack_predictions(np.array([0] * 19), np.ones(19))
    ),
    "its predictions cannot be unpacked": lambda k: k["predictions"].update({"class": "AAAA"}),
}


@pytest.mark.parametrize("said", IMPOSSIBLE)
def test_an_impossible_record_is_one_sentence_with_its_file(path, said):
    edited(path, IMPOSSIBLE[said])
    with pytest.raises(
        ValueError, match=f"one.json is not a whole record of its run .*{said}"
    ) as error:
        records.read(path)
    assert "\n" not in str(error.value) and str(error.value).endswith("move it away and run again.")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, "it is of a run of seed 0 and not 1"),
        ({"density": 0.02}, "it is of a run of density 0.05 and not 0.02"),
        ({"method": "lth_rate"}, "it is of a run of method 'lth' and not 'lth_rate'"),
        ({"preset": "small"}, "it is of a run of preset 'smoke' and not 'small'"),
        ({"pressure": 0.5}, "it is of a run of pressure None and not 0.5"),
        ({"group_by": "ink"}, "it is of a run of group_by None and not 'ink'"),
    ],
)
def test_a_record_of_another_run_is_refused(path, other, said):
    assert records.read(path, RUN) is not None
    with pytest.raises(ValueError, match=rf"one.json is not a whole record of its run .{said}"):
        records.read(path, RUN.model_copy(update=other))


@pytest.mark.parametrize("name", ["cost", "spent"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_impossible_costs_are_refused(path, name, value):
    edited(path, lambda own: own.update({name: value}))
    with pytest.raises(
        ValueError, match=f"one.json is not a whole record of its run .{name}={value}"
    ):
        records.read(path)


def test_a_seed_that_is_false_is_not_seed_0(path):
    edited(path, lambda own: own["run"].update(seed=False))
    with pytest.raises(ValueError, match="it is of a run of seed False and not 0"):
        records.read(path, RUN)


def test_a_record_that_was_grouped_otherwise_is_refused(path):
    edited(path, lambda values: values.update(group_by="ink"))
    with pytest.raises(ValueError, match="it is of label by ink and not of label by class"):
        records.read(path, RUN)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"my notes", b"\xff"])
def test_writing_loses_nothing_that_is_no_record_of_the_run(path, damage):
    path.write_bytes(damage)
    records.write(sound(), path)
    assert (path.parent.parent / "aside/one.json").read_bytes() == damage
    path.write_bytes(damage + b" ")
    records.write(sound(), path)
    assert (path.parent.parent / "aside/one.json.2").read_bytes() == damage + b" "
    assert records.read(path, RUN).run == sound().run


def test_a_record_of_another_run_is_set_aside_and_one_of_the_same_is_replaced(path):
    records.write(sound(cost=2.0), path)
    assert records.read(path).cost == 2.0 and not (path.parent.parent / "aside").exists()
    records.write(sound(run=sound().run | {"seed": 1}), path)
    assert records.read(path).run["seed"] == 1
    assert records.read(path.parent.parent / "aside/one.json", RUN).cost == 2.0


def test_a_record_of_other_settings_is_set_aside_where_it_took_long(path, monkeypatch):
    records.write(sound(settings={"epochs": 2}), path)
    assert not (path.parent.parent / "aside").exists()
    slow = config.PRESETS["smoke"].model_copy(update={"in_process": False})
    monkeypatch.setitem(config.PRESETS, "smoke", slow)
    with pytest.warns(
        UserWarning, match="one.json was made under other settings of its preset: it is"
    ):
        records.write(sound(settings={"epochs": 3}), path)
    assert records.read(path).settings == {"epochs": 3}
    assert records.read(path.parent.parent / "aside/one.json").settings == {"epochs": 2}


def test_a_file_of_brackets_alone_is_one_sentence(tmp_path):
    path = tmp_path / "one.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="one.json is not a whole record of its run"):
        records.read(path)
