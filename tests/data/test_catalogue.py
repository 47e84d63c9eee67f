"""Reading parquet: good files, and every broken one with its sentence."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from fairlth import data
from fairlth.config import PRESETS, Run, paths
from fairlth.config.presets import usual_target
from fairlth.data import decode

TINY = PRESETS["smoke"].model_copy(update={"n_val": 6})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, an empty cache, and the preset "smoke" made small enough for a few images."""
    monkeypatch.setattr(paths, "DATA", tmp_path / "sets")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setitem(PRESETS, "smoke", TINY)
    datasets.disable_progress_bars()
    return tmp_path / "sets"


def picture(label, side=8):
    return Image.fromarray(np.full((side, side, 3), label * 20, np.uint8))


def write(path, labels, column="img", side=8, **columns):
    """A parquet file like those of the hub: an image column, class labels, and more columns."""
    features = {column: datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    features |= {
        name: datasets.Value("string" if isinstance(values[0], str) else "int64")
        for name, values in columns.items()
    }
    rows = {column: [picture(label, side) for label in labels], "label": labels, **columns}
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(rows, datasets.Features(features)).to_parquet(path)


def run(name="cifar10", **values):
    return Run(
        dataset=name, model="mlp", method="dense", density=1.0, seed=0, preset="smoke", **values
    )


def test_local_parquet_becomes_tensors_in_order(folder):
    write(folder / "cifar10" / "train-00000.parquet", [0, 1, 2] * 8)
    write(folder / "cifar10" / "test-00000.parquet", [2, 0, 1])
    tables = data.decoded("cifar10", 8, downloads=False)
    assert tables.splits["train"].x.shape == (24, 3, 8, 8)
    assert tables.splits["train"].x.dtype == torch.uint8
    assert tables.splits["test"].columns["label"].tolist() == [2, 0, 1]
    assert tables.splits["test"].x[:, 0, 0, 0].tolist() == [40, 0, 20]
    assert tables.names == {"label": ["a", "b", "c"]}


def test_decoding_is_done_once_and_again_for_a_new_file(folder, monkeypatch):
    write(folder / "cifar10" / "train-0.parquet", [0, 1, 2] * 8)
    first = data.decoded("cifar10", 8, downloads=False)
    monkeypatch.setattr(decode, "_decode", None)
    again = data.decoded("cifar10", 8, downloads=False)
    assert torch.equal(first.splits["train"].x, again.splits["train"].x)
    assert first.names == again.names
    write(folder / "cifar10" / "train-0.parquet", [0, 1] * 8)
    with pytest.raises(TypeError):
        data.decoded("cifar10", 8, downloads=False)


def test_images_of_another_size_are_averaged_down(folder):
    write(folder / "cifar10" / "train-0.parquet", [0, 1, 2] * 8, side=32)
    assert data.decoded("cifar10", 8, downloads=False).splits["train"].x.shape[2:] == (8, 8)


def test_several_files_are_one_split_and_valid_is_used(folder):
    write(folder / "celeba" / "train-0.parquet", [0, 1, 2] * 4, "image", Smiling=["no", "yes"] * 6)
    write(folder / "celeba" / "train-1.parquet", [0, 1, 2] * 4, "image", Smiling=["no", "yes"] * 6)
    write(folder / "celeba" / "valid-0.parquet", [0, 1, 2] * 2, "image", Smiling=["no", "yes"] * 3)
    write(folder / "celeba" / "test-0.parquet", [0, 1, 2] * 2, "image", Smiling=["no", "yes"] * 3)
    loaded = data.load(run("celeba", group_by="label"))
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == [24, 6, 6]
    assert loaded.classes == ["no", "yes"] and loaded.groups == ["a", "b", "c"]


def test_ages_come_in_bands(folder):
    ages = [0, 17, 18, 29, 30, 44, 45, 59, 60, 116] * 5
    races = ["white", "black", "asian", "indian", "others"] * 10
    write(folder / "utkface" / "train-0.parquet", [0, 1] * 25, "image", age=ages, ethnicity=races)
    tables = data.decoded("utkface", 8, downloads=False)
    assert tables.names["age_band"] == ["0-17", "18-29", "30-44", "45-59", "60+"]
    assert tables.splits["train"].columns["age_band"][:10].tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
    ]
    assert tables.names["race"] == sorted(set(races))  # the hub's "ethnicity" has our name


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "is not a whole parquet file"),
        (lambda path: path.write_bytes(b""), "is not a whole parquet file"),
        (lambda path: write(path, []), "has no rows"),
        (
            lambda path: write(path, [0, 1, 2] * 8, column="picture"),
            "no image column 'img'.*picture, label",
        ),
        (lambda path: path.rename(path.with_name("data.parquet")), r"holds no train-\*.parquet"),
        (lambda path: write(path, [0, 1] * 8 + [2]), r"class 'c' has 1 image\(s\), .*at least 5"),
    ],
    ids=["truncated", "zero bytes", "no rows", "no column", "no file", "one image"],
)
def test_broken_files_get_one_sentence(folder, break_it, sentence):
    path = folder / "cifar10" / "train-0.parquet"
    write(path, [0, 1, 2] * 8)
    break_it(path)
    with pytest.raises(ValueError, match=sentence) as caught:
        data.load(run())
    assert "\n" not in str(caught.value)


def test_a_split_too_small_for_its_classes_is_refused_with_numbers(folder, monkeypatch):
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"].model_copy(update={"n_val": 2}))
    write(folder / "cifar10" / "train-0.parquet", [0, 1, 2] * 10)
    with pytest.raises(
        ValueError, match="cifar10: 2 of 24 images cannot hold every one of 3 classes"
    ):
        data.load(run())


@pytest.mark.parametrize("n", [6, 7, 8])
def test_the_smallest_class_that_is_let_in_reaches_every_split(folder, n):
    write(folder / "cifar10" / "train-0.parquet", [0, 1] * 20 + [2] * n)
    loaded = data.load(run())
    assert [int((split.y == 2).sum()) > 0 for split in (loaded.train, loaded.val, loaded.test)] == [
        True
    ] * 3


def test_a_group_that_validation_lacks_is_named(folder):
    write(folder / "celeba" / "train-0.parquet", [0, 1, 2] * 8, "image", Male=["no", "yes"] * 12)
    write(folder / "celeba" / "valid-0.parquet", [0, 1, 2] * 4, "image", Male=["no"] * 12)
    with pytest.raises(ValueError, match="celeba has no validation image of 'yes'"):
        data.load(run("celeba", target="label", group_by="Male"))


@pytest.mark.parametrize(
    ("name", "kinds"), [("tiny_imagenet", ["train", "test"]), ("celeba", ["train", "valid"])]
)
def test_a_valid_file_is_the_test_split_only_where_the_set_has_no_other(folder, name, kinds):
    for kind in ("train", "valid"):
        write(folder / name / f"{kind}-0.parquet", [0, 1, 2] * 8, "image")
    assert list(decode.local_files(name)) == kinds


def test_a_test_file_is_the_test_split_whatever_the_hub_calls_it(folder):
    for kind in ("train", "valid", "test"):
        write(folder / "fairface" / f"{kind}-0.parquet", [0, 1, 2] * 8, "image")
    assert list(decode.local_files("fairface")) == ["train", "valid", "test"]


def test_rows_without_a_value_are_named(folder):
    write(folder / "cifar10" / "train-0.parquet", [0, 1, 2] * 8, note=["x", None] * 12)
    assert data.load(run()).classes == ["a", "b", "c"]  # nobody asked for the note
    sentence = (
        r"group_by='note' is refused: cifar10: column 'note' has 12 train row\(s\) without a value"
    )
    with pytest.raises(ValueError, match=sentence):
        data.load(run(group_by="note"))


def test_columns_that_only_one_split_has_are_left_out(folder):
    write(folder / "cifar10" / "train-0.parquet", [0, 1, 2] * 8, note=["x", "y"] * 12)
    write(folder / "cifar10" / "test-0.parquet", [0, 1, 2])
    assert list(data.decoded("cifar10", 8, downloads=False).names) == ["label"]


def test_ages_need_no_age_column(folder):
    write(folder / "utkface" / "train-0.parquet", [0, 1] * 20, "image", race=["a", "b"] * 20)
    assert list(data.decoded("utkface", 8, downloads=False).names) == ["label", "race"]


def test_nothing_but_digits_loads_at_smoke_without_a_file(folder, monkeypatch):
    with pytest.raises(ValueError, match="lfw is not in .*downloads nothing"):
        data.decoded("lfw", 8, downloads=False)
    assert data.decoded("digits", 8, downloads=False).splits["train"].x.shape == (1797, 1, 8, 8)


def test_a_preset_larger_than_the_data_is_refused_with_numbers(folder, monkeypatch):
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"].model_copy(update={"n_train": 20}))
    write(folder / "cifar10" / "train-0.parquet", [0, 1, 2] * 8)
    write(folder / "cifar10" / "test-0.parquet", [0, 1, 2])
    with pytest.raises(
        ValueError, match="cifar10 has 24 images to train on and preset 'smoke' wants 26"
    ):
        data.load(run())


def test_no_file_and_no_downloads_is_refused_before_anything(folder):
    with pytest.raises(
        ValueError, match=r"cifar10 is not in .*train-\*.parquet.*downloads nothing"
    ):
        data.check(run())


@pytest.mark.parametrize("values", [{"target": "race"}, {"group_by": "race"}])
def test_a_column_that_is_not_there_is_named(folder, values):
    write(folder / "cifar10" / "train-0.parquet", [0, 1, 2] * 8)
    with pytest.raises(ValueError, match="cifar10 has no column 'race': choose one of label"):
        data.load(run(**values))


def test_a_hub_that_cannot_be_reached_is_one_sentence(folder, monkeypatch):
    def gone(*arguments, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", gone)
    with pytest.raises(
        ValueError, match=r"cifar10 is neither in .* nor .*uoft-cs/cifar10 \(no network\)"
    ):
        data.decoded("cifar10", 8, downloads=True)


@pytest.fixture
def own(folder):
    """After the test no data set that it added."""
    before = dict(data.SOURCES)
    yield folder
    data.SOURCES.clear()
    data.SOURCES.update(before)


def test_a_hub_set_of_ones_own_with_two_columns(own, monkeypatch, tmp_path):
    def hub(name, configuration, split):
        assert (name, configuration) == ("me/birds", None)
        labels = [0, 1, 2] * (16 if split == "train" else 4)
        features = datasets.Features(
            {"photo": datasets.Image(), "species": datasets.ClassLabel(names=["a", "b", "c"])}
        )
        return datasets.Dataset.from_dict(
            {"photo": [picture(label) for label in labels], "species": labels}, features
        )

    monkeypatch.setattr(datasets, "load_dataset", hub)
    monkeypatch.setitem(
        PRESETS,
        "smoke",
        PRESETS["smoke"].model_copy(update={"downloads": True, "n_val": 2000, "n_train": 8000}),
    )
    data.add_source(
        "birds", data.Source("me/birds", licence="mine", image="photo", target="species", side=8)
    )
    loaded = data.load(run("birds"))
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == [
        39,
        9,
        12,
    ]  # a fifth of 48 validates
    assert loaded.classes == ["a", "b", "c"] and data.SOURCES["birds"].own
    first = data.fingerprint("birds")
    data.add_source(
        "birds", data.Source("me/other", licence="mine", image="photo", target="species", side=8)
    )
    assert data.fingerprint("birds") != first
    with pytest.raises(ValueError, match="neither in"):  # not what was decoded of the other
        data.load(run("birds"))


def test_a_set_of_ones_own_cannot_take_a_name(own):
    with pytest.raises(ValueError, match="'cifar10' is a data set that comes with the package"):
        data.add_source("cifar10", data.Source("me/birds", licence="mine"))
    assert not data.SOURCES["cifar10"].own and data.fingerprint("cifar10") == ""


def test_digits_have_a_binary_task_and_groups_by_ink():
    table = data.decoded("digits", 8, downloads=False)
    columns = table.splits["train"].columns
    assert table.names["odd"] == ["even", "odd"] and table.names["ink"] == [
        "thin",
        "medium",
        "thick",
    ]
    assert torch.equal(columns["odd"], columns["label"] % 2)
    ink = (
        table.splits["train"].x.double().mean((1, 2, 3)) / 255
    )  # rounded down to a byte, so at most 1/255 less
    for code, (low, high) in enumerate([(0, 0.28), (0.28, 0.33), (0.33, 1)]):
        own = ink[columns["ink"] == code]
        assert own.min() > low - 1 / 255 and own.max() < high
    assert columns["ink"].bincount().tolist() == [467, 875, 455]


def test_the_splits_of_digits_by_class_are_what_they_were():
    loaded = data.load(run("digits"))
    sums = [
        int((split.x.long().sum((1, 2, 3)) * torch.arange(len(split))).sum())
        for split in (loaded.train, loaded.val, loaded.test)
    ]
    assert sums == [2883227739, 178801388, 498577821]


def test_every_source_says_what_it_is():
    assert set(data.SOURCES) == {
        "digits",
        "fashion_mnist",
        "cifar10",
        "cifar10_lt",
        "cifar100",
        "fer2013",
        "tiny_imagenet",
        "celeba",
        "utkface",
        "fairface",
        "lfw",
    }
    readme = (paths.ROOT / "data" / "README.md").read_text()
    for name, source in data.SOURCES.items():
        assert source.licence and source.hub.split("/")[-1] in readme and f"`{name}`" in readme, (
            name
        )


@pytest.mark.parametrize(
    ("name", "shape", "classes", "sizes"),
    [
        ("cifar10", (3, 32, 32), 10, (8000, 4000, 10000)),
        ("cifar100", (3, 32, 32), 100, (8000, 4000, 10000)),
        ("fashion_mnist", (1, 28, 28), 10, (8000, 4000, 10000)),
        ("utkface", (3, 32, 32), 5, (8000, 4000, 9326)),
    ],
)
def test_real_files_load(real_data, name, shape, classes, sizes):
    loaded = data.load(
        Run(dataset=name, model="mlp", method="dense", density=1.0, seed=0, preset="small")
    )
    assert loaded.in_shape == shape and len(loaded.classes) == classes
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == sizes
    assert (loaded.train.y.bincount() > 0).all()


def test_faces_with_a_validation_split_load_at_48_pixels(real_data):
    if "fer2013" not in data.SOURCES or not (real_data / "fer2013").is_dir():
        pytest.skip("fer2013 is not in the catalogue or not here")
    tables = data.decoded("fer2013", 48, downloads=False)
    sizes = {name: tuple(table.x.shape) for name, table in tables.splits.items()}
    assert sizes == {
        "train": (28006, 1, 48, 48),
        "valid": (3543, 1, 48, 48),
        "test": (3589, 1, 48, 48),
    }
    assert tables.names["label"] == [
        "angry",
        "disgust",
        "fear",
        "happy",
        "sad",
        "surprise",
        "neutral",
    ]
    assert tables.splits["train"].columns["label"].bincount().tolist() == [
        3879,
        389,
        3988,
        7157,
        4780,
        2896,
        4917,
    ]


def test_utkface_by_race_and_gender(real_data):
    values = {"model": "mlp", "method": "dense", "density": 1.0, "seed": 0, "preset": "small"}
    loaded = data.load(Run(dataset="utkface", target="gender", group_by="race", **values))
    assert loaded.classes == ["male", "female"]
    assert loaded.groups == ["white", "black", "asian", "indian", "others"]
    shares = [
        split.group.bincount() / len(split) for split in (loaded.train, loaded.val, loaded.test)
    ]
    assert (shares[0] - shares[1]).abs().max() < 0.001 and (
        shares[0] - shares[2]
    ).abs().max() < 0.001


def test_runs_know_the_usual_label_of_each_data_set():
    for name, source in data.SOURCES.items():
        assert usual_target(name) == source.target, name


def test_the_usual_label_named_or_not_is_one_run():
    fields = {"dataset": "utkface", "model": "convnet", "method": "lth", "density": 0.05, "seed": 0}
    plain = Run(**fields, preset="small")
    named = Run(**fields, preset="small", target="race")
    by_itself = Run(**fields, preset="small", target="race", group_by="race")
    assert plain == named == by_itself and plain.slug() == by_itself.slug()
    assert (plain.label, plain.group_column, plain.groups) == ("race", "race", "class")
    other = Run(**fields, preset="small", target="gender", group_by="race")
    assert (other.label, other.group_column, other.groups) == ("gender", "race", "race")
    assert other != plain
