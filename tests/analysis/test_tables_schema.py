"""What a table of results must be, at reading and at writing."""

import dataclasses

import pandas as pd
import pytest
from test_records import record

from fairlth.analysis import equal_accuracy, paired_gains, premise, records, schema, two_halves
from fairlth.config import paths

COMMITTED = ("small", "confirm", "deeper")
NAMES = [
    "",
    "2024",
    "True",
    "nan",
    "None",
    " a ",
    'a "b", c',
    "a\nb",
    "a\rb",
    "a\r\nb",
    "=1+1",
    "é🙂",
]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Where the table of preset smoke is."""
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    return tmp_path / "smoke.csv"


@pytest.fixture
def frame():
    """A sound table of two runs, of two classes that are their own groups."""
    return records.table([record(seed=0), record(seed=1)])


@pytest.mark.parametrize("preset", COMMITTED)
def test_committed_tables_are_sound_and_keep_their_bytes(preset, tmp_path, monkeypatch):
    committed = paths.ROOT / "data" / "results" / f"{preset}.csv"
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    nothing = records.table([])
    assert records.merge_table(nothing, preset).read_bytes() == committed.read_bytes()
    own = records.load(preset)
    assert records.merge_table(own, preset).read_bytes() == committed.read_bytes()


def test_columns_have_their_order_and_types(path, frame):
    shuffled = frame[[*reversed(frame.columns)]].sample(frac=1, random_state=0)
    path.write_bytes(shuffled.to_csv(index=False).encode())
    read = records.load("smoke")
    assert [*read] == schema.COLUMNS == records.COLUMNS
    assert read[["seed", "correct", "total"]].dtypes.unique().tolist() == ["int64"]
    floats = ["density", "pressure", "seconds", "shared_seconds", "memory", "cost", "spent"]
    assert read[floats].dtypes.unique().tolist() == ["float64"]


@pytest.mark.parametrize("commit", ["1234567", "12e4567", "0012345", "nan"])
def test_commits_are_text(path, frame, commit):
    path.write_bytes(schema.written(frame.assign(commit=commit)))
    assert set(records.load("smoke")["commit"]) == {commit}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes_and_groups_survive(path, name):
    odd = dataclasses.replace(record(), classes=[name, "b"], groups=[name, "b"])
    records.merge_table(records.table([odd]), "smoke")
    read = records.load("smoke")
    assert read["class"].tolist() == read["group"].tolist() == [name, "b"] * 2
    path.write_bytes(schema.written(read))
    pd.testing.assert_frame_equal(records.load("smoke"), read)


@pytest.mark.parametrize("name", schema.LATER)
def test_an_older_table_lacks_what_came_later(path, frame, name):
    path.write_bytes(frame.drop(columns=name).to_csv(index=False).encode())
    assert records.load("smoke")[name].isna().all()


@pytest.mark.parametrize("name", [name for name in schema.COLUMNS if name not in schema.LATER])
def test_a_column_that_is_missing_is_named(path, frame, name):
    path.write_bytes(frame.drop(columns=name).to_csv(index=False).encode())
    with pytest.raises(ValueError, match=f"smoke.csv has no column '{name}': take the whole file"):
        records.load("smoke")


FILES = {
    "is empty": "",
    "is empty: take": " \n\n",
    "is a pointer of Git LFS and not the table: run `git lfs pull`": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    ),
    "has semicolons between its columns: save it with commas": "dataset;target\na;b\n",
    "has tabs between its columns: save it with commas": "dataset\ttarget\na\tb\n",
    "is not UTF-8": b"\xff\xfed\x00a\x00",
    "has no column 'dataset'": "a,b\n1,2\n",
    "has the column 'seed' twice: remove one": "seed,seed\n1,2\n",
    "is not whole CSV": 'dataset,target\n"a,b\n',
    "row 3 has 1 values for 2 columns": "dataset,target\na,b\na\n",
}


@pytest.mark.parametrize("said", FILES)
def test_a_file_that_is_no_table_is_one_sentence(path, said):
    content = FILES[said]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as error:
        records.load("smoke")
    message = str(error.value)
    assert message.startswith((f"{path} ", f"{path}:"))
    assert said in message and "\n" not in message


def test_a_folder_in_place_of_a_table_is_one_sentence(path):
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)
    with pytest.raises(ValueError, match="smoke.csv is a folder and not a table: move it away"):
        records.load("smoke")


def test_a_header_alone_and_conflict_markers_are_one_sentence(path, frame):
    text = frame.to_csv(index=False)
    header, first, *_ = text.splitlines()
    path.write_text(header + "\n")
    with pytest.raises(ValueError, match="smoke.csv has no row: take the whole file again"):
        records.load("smoke")
    path.write_text(f"{header}\n<<<<<<< HEAD\n{first}\n=======\n{first}\n>>>>>>> other\n")
    with pytest.raises(ValueError, match="smoke.csv has conflict markers of git: take one side"):
        records.load("smoke")


@pytest.mark.parametrize("end", range(-3, -340, -40))
def test_a_table_that_was_cut_off_within_a_run_is_refused(path, frame, end):
    content = schema.written(frame)
    for cut in (content[:end], content[:end].rsplit(b"\n", 1)[0] + b"\n"):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match="smoke.csv"):
            records.load("smoke")


CELLS = [
    ("correct", "-1", "greater than or equal to 0"),
    ("correct", "", "valid integer"),
    ("correct", "1.5", "valid integer"),
    ("correct", "nan", "valid integer"),
    ("total", "1e30", "valid integer"),
    ("total", "99999999999", "less than or equal to 1000000000"),
    ("seed", "0.5", "valid integer"),
    ("seed", "-1", "greater than or equal to 0"),
    ("density", "0", "greater than 0"),
    ("density", "1.01", "less than or equal to 1"),
    ("density", "nan", "less than or equal to 1|finite|greater than 0"),
    ("density", "", "valid number"),
    ("pressure", "-0.1", "greater than or equal to 0"),
    ("pressure", "inf", "finite"),
    ("split", "train", "Input should be 'val', 'test'"),
    ("split", "test+0.3", "Input should be 'val', 'test'"),
    ("dataset", "", "at least 1 character"),
    ("method", "", "at least 1 character"),
    ("feasible", "maybe", "valid boolean"),
    ("cost", "", "valid number"),
    ("cost", "inf", "finite"),
    ("spent", "-1", "greater than or equal to 0"),
    ("seconds", "fast", "valid number"),
]


@pytest.mark.parametrize(("name", "text", "expected"), CELLS)
def test_a_value_of_another_type_or_range_is_named_with_its_row(path, frame, name, text, expected):
    cells = frame.astype(object)
    cells.loc[2, name] = text
    for source, call in both_ways(path, cells):
        with pytest.raises(ValueError, match=rf"{source}: row 4 has {name}=.*({expected})"):
            call()


def both_ways(path, cells):
    """Reading a file with these rows, and writing them."""

    def read():
        path.write_bytes(cells.to_csv(index=False).encode())
        records.load("smoke")

    yield "smoke.csv", read
    path.unlink(missing_ok=True)
    yield "the rows to add to .*smoke.csv", lambda: records.merge_table(cells, "smoke")


def test_rows_that_do_not_belong_together_are_refused_both_ways(path, frame):
    test_rows = frame["split"] == "test"
    faults = {
        "row 2 has 11 right answers of 10 images": changed(frame, 0, "correct", 11),
        "row 6 is of preset 'small' and not of 'smoke'": changed(frame, 4, "preset", "small"),
        "has a run twice .*seed 0.*: row 10 repeats": pd.concat([frame, frame.iloc[:4]]),
        "has a run twice .*seed 1.*: row 10 repeats": pd.concat(
            [frame, frame.iloc[4:].assign(correct=5)]
        ),
        "seed 1.* has rows that differ in settings": changed(frame, 5, "settings", "other"),
        "seed 0.* has rows that differ in cost": changed(frame, 1, "cost", 2.0),
        "seed 0.* has no rows of split 'val'": frame.drop(index=[0, 1]),
        "seed 0.* has no rows of split 'test'": frame.drop(index=[2, 3]),
        "seed 0.* counts no image in some split": changed(
            changed(frame.assign(correct=0), 0, "total", 0), 1, "total", 0
        ),
        "seed 1.* lacks rows of some classes or groups": frame.drop(index=7),
        "seed 0.* has other numbers of test images": pd.concat(
            [frame, frame[test_rows].assign(split="test+1", total=11)]
        ),
    }
    for said, faulty in faults.items():
        for source, call in both_ways(path, faulty.reset_index(drop=True)):
            with pytest.raises(ValueError, match=f"{source}.*{said}"):
                call()
            assert source == "smoke.csv" or not path.exists()


def changed(frame, row, name, value):
    """A table with another value in one place."""
    other = frame.astype(object)
    other.loc[row, name] = value
    return other


def test_columns_that_no_table_has_are_refused(path, frame):
    path.write_bytes(frame.assign(mine=1).to_csv(index=False).encode())
    with pytest.raises(ValueError, match="smoke.csv has a column 'mine' that no table has: remove"):
        records.load("smoke")


@pytest.mark.parametrize(
    "analysis",
    [
        paired_gains.paired,
        premise.beside_dense,
        two_halves.factorial,
        equal_accuracy.at_equal_accuracy,
    ],
)
def test_runs_of_two_presets_are_never_crossed(analysis):
    runs = pd.DataFrame({"preset": ["small", "other"]})
    with pytest.raises(ValueError, match="rows of presets other, small are mixed: give those of"):
        analysis(runs)
