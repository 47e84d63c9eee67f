import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from fairlth.analysis import conditions, records, summaries
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
    found = records.unpack_predictions(records.pack_predictions(classes, confidence))
    assert found[0].tolist() == [3, 0, 199] and np.abs(found[1] - confidence).max() <= 0.5 / 65_535


@pytest.mark.parametrize("name", ["None", "NA", "0"])
def test_a_group_of_any_name_survives_a_csv_file(tmp_path, monkeypatch, name):
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    records.merge_table(
        records.table([dataclasses.replace(record(), groups=[name, "b"], classes=[name, "b"])]),
        "smoke",
    )
    assert set(records.load("smoke")["group"]) == {name, "b"}


def test_peak_memory_is_above_what_is_held():
    held = np.ones(25_000_000)  # 191 MiB
    before = conditions.peak_memory(torch.device("cpu"))
    assert before > held.nbytes / 2**20
    del held
    assert (
        conditions.peak_memory(torch.device("cpu")) > 0.9 * before
    )  # a peak does not fall, but for the kernel's rounding
