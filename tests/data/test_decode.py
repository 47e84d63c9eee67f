"""Odd files on their way to tensors: pixels, label columns, names of files, the cache."""

import os
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from fairlth import data
from fairlth.config import PRESETS, Run, paths
from fairlth.data import decode, pixels

TINY = PRESETS["smoke"].model_copy(update={"n_val": 6})
HALF = [0, 1] * 15


@pytest.fixture(autouse=True)
def sets(tmp_path, monkeypatch):
    """An empty data folder and cache, a preset for a few images, and a data set "mine" of grey 8 x 8 pixels."""
    monkeypatch.setattr(paths, "DATA", tmp_path / "sets")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setitem(PRESETS, "smoke", TINY)
    datasets.disable_progress_bars()
    before = dict(data.SOURCES)
    data.add_source("mine", data.Source("me/mine", licence="mine", side=8, grey=True))
    yield tmp_path / "sets"
    data.SOURCES.clear()
    data.SOURCES.update(before)


def run(**values):
    return Run(
        **{
            "dataset": "mine",
            "model": "mlp",
            "method": "dense",
            "density": 1.0,
            "seed": 0,
            "preset": "smoke",
        }
        | values
    )


def grey(number, side=8):
    return Image.fromarray(
        np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)
    )


def put(folder, file, pictures=None, names=None, **columns):
    """A parquet file; `names` are those of the column `label`, as hub repositories have them."""
    n = len(next(iter(columns.values())))
    pictures = pictures or [grey(number) for number in range(n)]
    rows = datasets.Dataset.from_dict({"image": pictures} | columns)
    if names:
        rows = rows.cast_column("label", datasets.ClassLabel(names=names))
    (folder / "mine").mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / "mine" / f"{file}.parquet")


def refused(sentence, **values):
    with pytest.raises(ValueError, match=sentence) as caught:
        data.load(run(**values))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("mode", "kind"), [("I;16", np.uint16), ("F", np.float32), ("I", np.int32)]
)
def test_deep_images_are_refused_in_parquet(sets, mode, kind):
    deep = Image.fromarray((np.arange(64).reshape(8, 8) * 900).astype(kind))
    assert deep.mode == mode
    with pytest.raises(ValueError, match=f"has more than 8 bits per channel .mode {mode}"):
        pixels.pixels_of(deep, 8, grey=True)
    if mode == "I;16":
        put(sets, "train-0", [*[grey(number) for number in range(29)], deep], label=HALF)
        refused(
            r"mine train: image number 29 cannot be used \(has more than 8 bits per channel \(mode I;16"
        )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparent_pixels_are_white(mode):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.paste((40, 40, 40, 255), (0, 0, 4, 8))
    image = image.convert("RGBA" if mode == "RGBA" else "LA" if mode == "LA" else "PA")
    if mode == "P":
        image = Image.fromarray(np.repeat([[1] * 4 + [0] * 4], 8, 0).astype(np.uint8), "L").convert(
            "P"
        )
        image.putpalette([200, 0, 0, 40, 40, 40])
        image.info["transparency"] = 0
    found = pixels.pixels_of(image, 8, grey=False)
    assert (found[:, :, 4:] == 255).all()
    assert (abs(found[:, :, :4].astype(int) - 40) < 8).all()


def test_hidden_labels_of_a_test_split_are_refused_before_training(sets):
    put(sets, "train-0", label=HALF, names=["a", "b"])
    put(sets, "test-0", label=[-1] * 10, names=["a", "b"])
    refused(
        r"mine: column 'label' has 10 hidden label\(s\), such as -1, in test: leave that file out"
    )


def test_a_label_beyond_its_names_is_refused(sets):
    fault = decode._fault({"train": [0, 1, 2]}, {"train": ["a", "b"]})
    assert fault == "has the label 2 in train, and 2 classes from 0 on"


def test_a_test_label_that_training_never_sees_is_refused(sets):
    put(sets, "train-0", label=HALF)
    put(sets, "test-0", label=[0, 1, -1])
    refused("mine has no training image of '-1' in column 'label'")


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        (
            HALF,
            [str(value) for value in HALF],
            r"not the same in all splits \(numbers in train, words in test\)",
        ),
        ([float("nan")] * 2 + [1.0, 0.0] * 14, [0.0, 1.0], r"has 2 train row\(s\) without a value"),
        (["a", "b"] * 15, ["a", " "], r"has 1 test row\(s\) without a value"),
        (["a", "b"] * 15, [None, "b"], r"has 1 test row\(s\) without a value"),
        ([[0], [1]] * 15, [[0], [1]], "has values that are no single words or numbers"),
    ],
    ids=["mixed", "nan", "blank", "none", "lists"],
)
def test_odd_columns_are_refused_only_where_they_are_asked_for(sets, train, test, sentence):
    put(sets, "train-0", label=HALF, odd=train)
    put(sets, "test-0", label=(HALF * 2)[: len(test)], odd=test)
    assert data.load(run()).classes == ["0", "1"]
    refused(f"target='odd' is refused: mine: column 'odd' .*{sentence}", target="odd")
    assert data.load(run()).classes == ["0", "1"]  # from the cache, which knows it too
    refused(f"column 'odd' .*{sentence}", group_by="odd")


def test_classes_in_another_order_are_not_taken_for_the_same(sets):
    put(sets, "train-0", label=HALF, names=["a", "b"])
    put(sets, "test-0", label=HALF, names=["b", "a"])
    refused("column 'label' is not the same in all splits .*'a', 'b'.*'b', 'a'")


def test_whole_and_broken_numbers_are_one_kind(sets):
    put(sets, "train-0", label=HALF)
    put(sets, "test-0", label=[0.0, 1.0])
    assert data.load(run()).classes == ["0", "1"] and data.load(run()).test.y.tolist() == [0, 1]


def test_columns_are_read_in_any_case(sets):
    rows = {
        "IMAGE": [grey(number) for number in range(30)],
        "Label": HALF,
        "Tone": ["light", "dark", "light"] * 10,
    }
    (sets / "mine").mkdir(parents=True)
    datasets.Dataset.from_dict(rows).to_parquet(sets / "mine" / "train-0.parquet")
    loaded = data.load(run(group_by="tone"))
    assert loaded.classes == ["0", "1"] and loaded.groups == ["dark", "light"]


def test_bands_need_numbers_that_are_in_them(sets):
    bands = {"band": ("age", (0, 18))}
    data.add_source("mine", data.Source("me/mine", licence="mine", side=8, grey=True, bands=bands))
    put(sets, "train-0", label=HALF, Age=[3, 40, -1] * 10)
    refused("column 'band' needs numbers from 0 on in column 'Age'", group_by="band")
    put(sets, "train-0", label=HALF, Age=[3, 40, 18] * 10)
    assert data.load(run(group_by="band")).groups == ["0-17", "18+"]


@pytest.mark.parametrize(
    "name", ["valid-0", "validation-00000-of-00001", "val-0", "Validation-0", "validation"]
)
def test_a_validation_file_is_the_validation_split(sets, name):
    put(sets, "train-0", label=HALF)
    put(sets, name, label=[0, 1] * 4)
    loaded = data.load(run())
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == [24, 8, 6]


def test_a_parquet_file_that_is_no_split_is_named(sets):
    put(sets, "train-0", label=HALF)
    put(sets, "dev-0", label=HALF)
    with pytest.warns(
        UserWarning, match=r"mine: dev-0.parquet is not read: expected train-\*.parquet, valid"
    ):
        assert list(decode.local_files("mine")) == ["train"]
    (sets / "mine" / "train-0.parquet").unlink()
    with pytest.raises(ValueError, match=r"holds no train-\*.parquet and has dev-0.parquet: place"):
        decode.local_files("mine")


def test_parquet_files_without_a_source_ask_for_one(sets):
    put(sets, "train-0", label=HALF)
    (sets / "mine").rename(sets / "other")
    with pytest.raises(
        ValueError, match=r"other has parquet files.*data.add_source\('other', Source"
    ):
        data.check(run(dataset="other"))


def test_the_content_of_files_is_told_and_not_their_names(sets):
    assert data.content("mine") == ""
    put(sets, "train-0", label=HALF)
    first = data.content("mine")
    assert len(first) == 12
    (sets / "mine/train-0.parquet").rename(sets / "mine/train.parquet")
    assert data.content("mine") == first
    (sets / "mine/train.parquet").rename(sets / "mine/test.parquet")
    assert data.content("mine") == ""  # there is nothing to train on
    put(sets, "train-0", label=HALF)
    both = data.content("mine")
    (sets / "mine/test.parquet").rename(sets / "mine/valid.parquet")
    assert len({first, both, data.content("mine")}) == 3
    (sets / "mine/valid.parquet").unlink()
    put(sets, "train-0", label=HALF[::-1])
    assert data.content("mine") not in (first, both)


def test_a_file_is_read_once_for_its_content(sets, monkeypatch):
    put(sets, "train-0", label=HALF)
    first = data.content("mine")
    monkeypatch.setattr(decode.hashlib, "file_digest", None)
    assert data.content("mine") == first


def test_a_replaced_file_of_the_same_size_and_time_is_decoded_anew(sets):
    """In another process: in one, size and time say whether a file is read again."""
    data.SOURCES["mine"] = replace(data.SOURCES["mine"], own=False)
    put(sets, "train-0", label=HALF)
    path = sets / "mine/train-0.parquet"
    before = path.stat()
    first = data.decoded("mine", 8, downloads=False).splits["train"].x
    content = path.read_bytes()
    put(sets, "train-0", [grey(number) for number in range(29, -1, -1)], label=HALF)
    assert path.stat().st_size == before.st_size
    assert path.read_bytes() != content
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    decode._hash_as_it_was.cache_clear()
    again = data.decoded("mine", 8, downloads=False).splits["train"].x
    assert torch.equal(again, first.flip(0))


def cached(sets):
    [path] = paths.CACHE.glob("mine-8-*.safetensors")
    return path


def change_a_pixel(path, notes, tensors):
    tensors["train/"][0, 0, 0, 0] ^= 1
    save_file(tensors, path, notes)


def change_a_label(path, notes, tensors):
    tensors["train/label"][0] ^= 1
    save_file(tensors, path, notes)


def change_a_name(path, notes, tensors):
    save_file(tensors, path, notes | {"labels": notes["labels"].replace('"0"', '"zero"')})


def of_another_set(path, notes, tensors):
    save_file(tensors, path, notes | {"about": notes["about"].replace("mine", "yours")})


def in_another_size(path, notes, tensors):
    save_file(tensors, path, notes | {"about": notes["about"].replace('"side": 8', '"side": 16')})


def without_notes(path, notes, tensors):
    save_file(tensors, path)


def torn(path, notes, tensors):
    path.write_bytes(path.read_bytes()[:-5])


BROKEN = {
    change_a_pixel: "its content is not what was written",
    change_a_label: "its content is not what was written",
    change_a_name: "its content is not what was written",
    of_another_set: "it was made from other files or in another size",
    in_another_size: "it was made from other files or in another size",
    without_notes: "it does not say what it is",
    torn: "",
}


@pytest.mark.parametrize("break_it", BROKEN)
def test_a_cached_file_that_is_not_what_its_name_says_is_set_aside(sets, break_it):
    put(sets, "train-0", label=HALF)
    first = data.load(run())
    path = cached(sets)
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        notes = file.metadata()
    break_it(path, notes, tensors)
    broken = path.read_bytes()
    with pytest.warns(
        UserWarning, match=f"cannot be used .*{BROKEN[break_it]}.*it is in .*aside.*decoded anew"
    ):
        again = data.load(run())
    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.train.y, again.train.y)
    assert (path.parent / "aside" / path.name).read_bytes() == broken
    assert torch.equal(data.load(run()).test.x, first.test.x)  # without a word now


def test_a_sound_cached_file_is_read_and_one_of_other_code_is_made_anew(sets, monkeypatch):
    put(sets, "train-0", label=HALF)
    data.load(run())
    monkeypatch.setattr(decode, "_decode", None)
    data.load(run())
    monkeypatch.setattr("fairlth.data.cached.LOADED", "other")
    with pytest.raises(TypeError):
        data.load(run())


def test_a_cache_that_cannot_be_written_is_done_without(sets, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "file" / "cache")
    put(sets, "train-0", label=HALF)
    with pytest.warns(UserWarning, match="could not be written.*decoded again next time"):
        assert len(data.load(run()).train) == 20


def test_a_side_that_the_preset_does_not_honour_is_told(sets, monkeypatch):
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"].model_copy(update={"image_size": 8}))
    data.add_source("mine", data.Source("me/mine", licence="mine", side=16, grey=True))
    put(sets, "train-0", label=HALF)
    told = (
        "mine wants side=16, and preset 'smoke' has image_size=8: its images are 8 pixels per side"
    )
    with pytest.warns(UserWarning, match=told):
        data.check(run())
    with pytest.warns(UserWarning, match=told):
        assert data.load(run()).in_shape == (1, 8, 8)


def test_a_group_without_test_images_is_told_before_training(sets):
    put(sets, "train-0", label=HALF, tone=["x", "y", "y"] * 10)
    put(sets, "test-0", label=[0, 1], tone=["y", "y"])
    with pytest.warns(
        UserWarning, match="mine: no test image of x, so gaps over groups will be nan"
    ):
        data.load(run(group_by="tone"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"side": 0}, "side=0 is refused: expected a whole number of pixels, at least 1"),
        ({"side": "64"}, "side='64' is refused"),
        ({"side": True}, "side=True is refused"),
        ({"grey": 1}, "grey=1 is refused: expected True or False"),
        ({"test_fraction": 1.0}, "test_fraction=1.0 is refused: expected a share between 0 and 1"),
        ({"long_tail": 0.5}, "long_tail=0.5 is refused: expected at least 1"),
    ],
)
def test_a_value_that_a_source_cannot_have_is_named(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.add_source("other", data.Source("x", licence="x", **values))
    assert "other" not in data.SOURCES


def test_a_column_without_a_name_is_no_group_and_does_no_harm(sets):
    put(sets, "train-0", label=HALF, **{"": HALF})
    for _ in ("decoded", "from the cache"):
        assert len(data.load(run()).train) == 20
    refused("group_by=' ' is refused: mine has no column ' '", group_by=" ")


@pytest.mark.parametrize("columns", [("race", "ethnicity"), ("ethnicity", "race")])
def test_two_columns_that_stand_for_one_are_refused(sets, columns):
    """One would take the place of the other, by the order in which they are written."""
    source = replace(data.SOURCES["mine"], aliases={"ethnicity": "race"})
    data.add_source("mine", source)
    groups = dict(zip(columns, (HALF, HALF[::-1]), strict=True))
    put(sets, "train-0", label=HALF, **groups)
    refused("column 'race' stands for two columns of the files: leave one of", group_by="race")
    assert len(data.load(run()).train) == 20


@pytest.mark.parametrize("name", ["band", "Band"])
def test_a_column_called_as_a_band_is_refused(sets, name):
    source = replace(data.SOURCES["mine"], bands={"band": ("age", (0, 18))})
    data.add_source("mine", source)
    put(sets, "train-0", label=HALF, age=[10, 20] * 15, **{name: HALF})
    refused("is in the files and is made of another column, too: give it another", group_by="band")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"long_tail": float("nan")}, "long_tail=nan is refused: expected at least 1."),
        ({"long_tail": float("inf")}, "long_tail=inf is refused: expected at least 1."),
        ({"long_tail": "50"}, "long_tail='50' is refused: expected at least 1."),
        ({"test_fraction": "0.2"}, "test_fraction='0.2' is refused: expected a share between 0 and 1."),
        ({"test_fraction": True}, "test_fraction=True is refused: expected a share between 0 and 1."),
    ],
)  # fmt: skip
def test_values_of_a_source_that_cannot_be_are_one_sentence(values, sentence):
    with pytest.raises(ValueError) as caught:
        data.add_source("odd", data.Source("me/odd", licence="mine", **values))
    assert str(caught.value) == sentence


def test_what_is_no_source_or_like_none_is_one_sentence():
    with pytest.raises(ValueError, match=r"^source='me/odd' is refused: expected a data.Source\.$"):
        data.add_source("odd", "me/odd")
    with pytest.raises(ValueError, match=r"^like='nope' is refused: choose one of digits, "):
        data.add_source("odd", data.Source("me/odd", licence="mine", like="nope"))
    for folder in (3, None):
        with pytest.raises(ValueError, match=f"^folder={folder} is refused: give the path of a"):
            data.add_folder("odd", folder)
