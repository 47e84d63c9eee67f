"""A folder of one's own: a good one from its files to a ticket, and every broken one with its sentence."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fairlth import config, data
from fairlth.analysis import summaries
from fairlth.config import Run, paths
from fairlth.data import folder as folder_module
from fairlth.workflow import experiments

CLASSES = ["disc", "ring", "square"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No data folder, an empty cache, and after the test no data set that it added."""
    monkeypatch.setattr(paths, "DATA", tmp_path / "sets")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    before = dict(data.SOURCES)
    yield
    data.SOURCES.clear()
    data.SOURCES.update(before)


def draw(label, shade, seed):
    """8 x 8 pixels: a filled disc, a ring or a square, light or dark, with noise of its own."""
    radius = np.hypot(*np.mgrid[-3.5:4, -3.5:4])
    shape = {
        "disc": radius < 3,
        "ring": (radius > 2) & (radius < 4),
        "square": np.ones((8, 8), bool),
    }[label]
    noise = np.random.default_rng(seed).integers(0, 40, (8, 8, 3))
    return Image.fromarray(
        (noise + shape[..., None] * (200 if shade == "light" else 120)).astype(np.uint8)
    )


def make(folder, n=30, csv=True):
    """A folder with `n` images in three class sub-folders, every other one light, and a csv that lists them."""
    rows = []
    for number in range(n):
        label, shade = CLASSES[number % 3], ["light", "dark"][number // 3 % 2]
        rows.append((f"{label}/{number}.png", label, shade))
        (folder / label).mkdir(parents=True, exist_ok=True)
        draw(label, shade, number).save(folder / rows[-1][0])
    if csv:
        write(folder, rows)
    return rows


def write(folder, rows, columns=("file", "label", "shade")):
    pd.DataFrame(rows, columns=columns).to_csv(folder / "groups.csv", index=False)


def run(name="shapes", **values):
    return Run(
        **{
            "dataset": name,
            "model": "mlp",
            "method": "dense",
            "density": 1.0,
            "seed": 0,
            "preset": "smoke",
        }
        | values
    )


def edit(folder, change):
    """Changes the csv's text."""
    path = folder / "groups.csv"
    path.write_text(change(path.read_text()))


def test_two_hundred_images_in_three_classes_become_a_fair_ticket(tmp_path):
    make(tmp_path / "shapes", 200)
    found = data.add_folder("shapes", tmp_path / "shapes", side=8)
    assert str(found).splitlines() == [
        "200 images of 8 x 8 pixels",
        "label: disc 67, ring 67, square 66",
        "shade: dark 99, light 101; fewest in a class: 33 (disc, dark)",
    ]
    loaded = data.load(run(group_by="shade"))
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == [128, 32, 40]
    assert loaded.classes == CLASSES and loaded.groups == ["dark", "light"] and not loaded.mirror
    ticket = run(method="ballot", density=0.1, group_by="shade")
    record = experiments.run(ticket, tmp_path / "runs")
    assert record.kept == int(0.1 * record.total) and record.split("test").total.sum() == 40
    assert summaries.measures(*record.split("test").by_group())["accuracy"] > 0.8
    text = config.record_path(ticket, tmp_path / "runs").read_text()
    assert (
        str(tmp_path) not in text
        and config.record_path(ticket).name == "shapes_mlp_ballot_d0.1_s0_group-by-shade.json"
    )


def test_pixels_and_codes_are_those_of_the_files(tmp_path):
    rows = make(tmp_path / "shapes")
    data.add_folder("shapes", tmp_path / "shapes", side=8)
    table = data.decoded("shapes", 8, downloads=False)
    assert table.names == {"label": CLASSES, "shade": ["dark", "light"]}
    own = table.splits["train"]
    for number, (file, label, shade) in enumerate(sorted(rows)):
        pixels = np.asarray(Image.open(tmp_path / "shapes" / file)).transpose(2, 0, 1)
        assert (own.x[number].numpy() == pixels).all()
        assert own.columns["label"][number] == CLASSES.index(label) and own.columns["shade"][
            number
        ] == (shade == "light")


def test_without_a_csv_sub_folders_are_the_classes(tmp_path):
    make(tmp_path / "shapes", csv=False)
    (tmp_path / "shapes" / "disc" / "readme.txt").write_text("not an image")
    (tmp_path / "shapes" / ".hidden.png").write_text("not looked at")
    found = data.add_folder("shapes", tmp_path / "shapes")
    assert found.notes == (
        "No groups.csv, so the classes are the groups.",
        "No images and left out: disc/readme.txt.",
    )
    assert data.load(run()).groups == CLASSES and data.load(run()).in_shape == (3, 32, 32)


def test_a_csv_may_leave_the_label_to_the_sub_folders_and_order_numbers_by_size(tmp_path):
    rows = make(tmp_path / "shapes")
    write(
        tmp_path / "shapes",
        [(file, ["2", "10"][shade == "dark"]) for file, _, shade in rows],
        ("file", "size"),
    )
    data.add_folder("shapes", tmp_path / "shapes", side=8)
    assert data.decoded("shapes", 8, downloads=False).names == {
        "label": CLASSES,
        "size": ["2", "10"],
    }


@pytest.mark.parametrize("change", ["reversed", "shuffled", "repeated"])
def test_the_order_of_rows_decides_nothing(tmp_path, change):
    rows = make(tmp_path / "a")
    if change == "reversed":
        rows = rows[::-1]
    if change == "shuffled":
        rows = [rows[number] for number in np.random.default_rng(0).permutation(len(rows))]
    if change == "repeated":
        rows = [*rows[::-1], *rows]
    make(tmp_path / "b", csv=False)
    write(tmp_path / "b", rows)
    splits = []
    for name in ("a", "b"):
        data.add_folder(name, tmp_path / name, side=8)
        splits.append(data.load(run(name, group_by="shade")))
    for part in ("train", "val", "test"):
        one, other = (getattr(loaded, part) for loaded in splits)
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.y, other.y)
        assert torch.equal(one.group, other.group)


def test_the_order_in_which_a_disk_names_files_decides_nothing(tmp_path, monkeypatch):
    make(tmp_path, csv=False)
    there = data.look_through(tmp_path).rows
    walk = os.walk

    def backwards(*arguments, **options):
        for place, folders, files in walk(*arguments, **options):
            folders.sort(reverse=True)
            yield place, folders, sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    assert data.look_through(tmp_path).rows.equals(there)
    write(tmp_path, there.iloc[::-1].to_numpy(), ("file", "label"))
    assert data.look_through(tmp_path).rows.equals(there)


def test_a_column_split_is_kept_to(tmp_path):
    rows = make(tmp_path / "shapes", 60)
    parts = ["train"] * 30 + ["valid"] * 18 + ["test"] * 12
    write(
        tmp_path / "shapes",
        [(*row, part) for row, part in zip(rows, parts, strict=True)],
        ("file", "label", "shade", "split"),
    )
    data.add_folder("shapes", tmp_path / "shapes", side=8)
    loaded = data.load(run())
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == [30, 18, 12]
    assert sorted(data.decoded("shapes", 8, downloads=False).names) == ["label", "shade"]


def test_excels_marks_and_windows_paths_are_read(tmp_path):
    make(tmp_path / "shapes")
    edit(tmp_path / "shapes", lambda text: "\ufeff" + text.replace("/", "\\").replace(",", ", "))
    assert data.look_through(tmp_path / "shapes").rows["file"][0] == "disc/0.png"


def test_images_are_turned_as_their_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lay on its side
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert folder_module.read(tmp_path / "a.jpg").size == (2, 4)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".gif", ".tif"])
def test_the_usual_kinds_of_files_are_read(tmp_path, suffix):
    for number in range(10):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.new("L", (8, 8), number * 20).save(tmp_path / "ab"[number % 2] / f"{number}{suffix}")
    assert len(data.look_through(tmp_path).rows) == 10


@pytest.mark.parametrize("change", ["pixels", "label", "reading"])
def test_a_changed_folder_is_decoded_and_trained_anew_and_a_moved_one_is_not(
    tmp_path, change, monkeypatch
):
    folder = tmp_path / "shapes"
    rows = make(folder)
    data.add_folder("shapes", folder, side=8)
    before, [first] = (
        data.decoded("shapes", 8, False),
        experiments.run_or_load([run()], tmp_path / "runs"),
    )
    folder.rename(tmp_path / "moved")
    data.add_folder("shapes", tmp_path / "moved", side=8)
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "run", None)
        assert experiments.run_or_load([run()], tmp_path / "runs") == [first]
    if change == "pixels":
        draw("disc", "dark", 99).save(tmp_path / "moved" / "disc" / "0.png")
    if change == "label":
        write(tmp_path / "moved", [(*rows[0][:2], "dark"), *rows[1:]])
    data.add_folder("shapes", tmp_path / "moved", side=8, grey=change == "reading")
    after = data.decoded("shapes", 8, False)
    tables = [
        (table.splits["train"].x, table.splits["train"].columns["shade"])
        for table in (before, after)
    ]
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*tables, strict=True))
    [again] = experiments.run_or_load([run()], tmp_path / "runs")
    assert again.settings != first.settings


def test_a_folder_among_the_data_sets_needs_no_registration(tmp_path):
    make(paths.DATA / "shapes")
    experiments.check(run())
    assert data.load(run()).classes == CLASSES


def test_names_are_fit_for_files_and_not_those_of_others(tmp_path):
    make(tmp_path / "shapes")
    for name in ("my shapes", "a/b", "", "../x", "x" * 41):
        with pytest.raises(ValueError, match="is no name for files"):
            data.add_folder(name, tmp_path / "shapes")
    with pytest.raises(ValueError, match="'digits' is a data set that comes with the package"):
        data.add_folder("digits", tmp_path / "shapes")
    with pytest.raises(ValueError, match="dataset='../x' is unknown"):
        data.check(run("../x"))


def replace_cell(old, new):
    return lambda folder: edit(folder, lambda text: text.replace(old, new, 1))


def file_content(file, content):
    return lambda folder: (folder / file).write_bytes(
        content(folder / file) if callable(content) else content
    )


def one_class(folder):
    edit(folder, lambda text: text.replace(",ring,", ",disc,").replace(",square,", ",disc,"))


def four_of_a_class(folder):
    edit(
        folder,
        lambda text: "".join(
            line for line in text.splitlines(True) if not line.startswith("ring/")
        ),
    )
    edit(folder, lambda text: text.replace(",square,", ",ring,", 4))


def same_image_other_label(folder):
    (folder / "ring" / "1.png").write_bytes((folder / "disc" / "0.png").read_bytes())


def sixteen_bits(folder):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "disc" / "0.png")


def no_csv(folder):
    (folder / "groups.csv").unlink()


def no_csv_and_flat(folder):
    no_csv(folder)
    for path in folder.rglob("*.png"):
        path.rename(folder / path.name)


def empty_class(folder):
    no_csv(folder)
    (folder / "star").mkdir()


def only_one_sub_folder(folder):
    no_csv(folder)
    for label in CLASSES[1:]:
        (folder / label).rename(folder / f".{label}")


def emptied(folder):
    for path in folder.rglob("*.*"):
        path.unlink()


def flat_without_label(folder):
    no_csv_and_flat(folder)
    write(folder, [(path.name, "x") for path in sorted(folder.glob("*.png"))], ("file", "shade"))


def splits(*values):
    def break_it(folder):
        rows = pd.read_csv(folder / "groups.csv")
        rows.assign(split=np.resize(values, len(rows))).to_csv(folder / "groups.csv", index=False)

    return break_it


BROKEN = {
    "no such folder": (lambda folder: folder.rename(folder.with_name("other")), r"shapes is not a folder: give the path"),
    "empty": (emptied, "shapes holds no image: put images into it"),
    "no csv and no sub-folders": (no_csv_and_flat, r"has images in no class sub-folder \(0.png, 1.png, .* and 27 more\): make one sub-folder per class, or a groups.csv"),
    "empty class folder": (empty_class, r"has 0 image\(s\) of class 'star', at least 5 are needed"),
    "one class folder": (only_one_sub_folder, "shapes has one class, 'disc'"),
    "one label": (one_class, "shapes has one class, 'disc': a network needs at least two"),
    "class too small": (four_of_a_class, r"has 4 image\(s\) of class 'ring', at least 5 are needed"),
    "no header": (replace_cell("file,label,shade\n", ""), "has no column 'file', its first line is 'disc/0.png,disc,light'"),
    "a name that is no text": (lambda folder: (folder / "disc/0.png").rename(folder / "disc/caf\udce9.png"), r"the name disc/caf\?.png is not UTF-8: rename the file or its folder"),
    "a column without a name": (lambda folder: edit(folder, lambda text: text.replace("\n", ",x\n").replace("shade,x\n", 'shade,"  "\n', 1)), "has a column without a name, its first line is 'file,label,shade,  '"),
    "a comma at each line's end": (lambda folder: edit(folder, lambda text: text.replace("\n", ",\n")), "has a column without a name, .*: name it, or leave it out"),
    "other separator": (lambda folder: edit(folder, lambda text: text.replace(",", ";")), "its first line is 'file;label;shade'"),
    "no column file": (replace_cell("file,", "image,"), "has no column 'file', its first line is 'image,label,shade'"),
    "no column label": (flat_without_label, r"has images in no class sub-folder \(0.png.*a groups.csv with a column 'label'"),
    "no rows": (file_content("groups.csv", b"file,label\n"), "groups.csv has a header and no rows"),
    "nothing in the csv": (file_content("groups.csv", b""), "groups.csv cannot be read .*: write a header"),
    "cells too many": (lambda folder: edit(folder, lambda text: text.replace("light\ndisc", "light,x\ndisc")), "groups.csv cannot be read .*: write a header"),
    "every line too long": (lambda folder: edit(folder, lambda text: text.replace("ht\n", "ht,x\n").replace("rk\n", "rk,x\n")), "more cells than its header"),
    "not UTF-8": (replace_cell("light", "clair"), None),
    "no group": (replace_cell("disc/0.png,disc,light", "disc/0.png,disc,"), "has no 'shade' for disc/0.png: fill the cell"),
    "no file": (replace_cell("disc/0.png,disc,light", ",disc,light"), "has no 'file' for row 1"),
    "a space too many": (replace_cell("disc/0.png,disc,", "disc/0.png,disc ,"), "writes 'label' as 'disc ' and as 'disc'"),
    "another case": (replace_cell("disc/0.png,disc,", "disc/0.png,Disc,"), "writes 'label' as 'Disc' and as 'disc'"),
    "one number two ways": (
        lambda folder: edit(folder, lambda text: text.replace(",disc,", ",1,").replace(",1,", ",1.0,", 1)),
        "writes 'label' as '1.0' and as '1': spell it one way",
    ),
    "listed and not there": (replace_cell("disc/0.png", "disc/99.png"), r"names files that are not there \(disc/99.png\)"),
    "outside": (replace_cell("disc/0.png", "../0.png"), r"names files outside the folder \(../0.png\): move them into it"),
    "absolute": (replace_cell("disc/0.png", "/disc/0.png"), r"names files outside the folder \(/disc/0.png\)"),
    "two rows, two labels": (replace_cell("disc/3.png,disc,dark", "disc/0.png,ring,dark"), "lists disc/0.png twice, as disc, light and as ring, dark"),
    "two rows, two groups": (replace_cell("disc/3.png,disc,dark", "disc/0.png,disc,dark"), "lists disc/0.png twice, as disc, light and as disc, dark"),
    "one image, two labels": (same_image_other_label, "disc/0.png and ring/1.png are the same image, labelled 'disc' and 'ring'"),
    "zero bytes": (file_content("disc/0.png", b""), r"shapes: disc/0.png is empty \(zero bytes\): replace or remove"),
    "no image inside": (file_content("disc/0.png", b"hello"), "shapes: disc/0.png is not an image"),
    "truncated": (file_content("disc/0.png", lambda path: path.read_bytes()[:90]), r"shapes: disc/0.png cannot be read \("),
    "sixteen bits": (sixteen_bits, r"disc/0.png has more than 8 bits per channel \(mode I;16: which value is white is not known\): replace"),
    "unknown split": (splits("train", "dev"), "has dev in column 'split': expected train, valid, test"),
    "no train split": (splits("valid", "test"), "has no image of split 'train'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_gets_one_sentence(tmp_path, kind):
    make(tmp_path / "shapes")
    break_it, sentence = BROKEN[kind]
    if kind == "not UTF-8":
        path = tmp_path / "shapes" / "groups.csv"
        path.write_bytes(path.read_text().replace("light", "fahl\u00e9").encode("latin-1"))
        sentence = r"groups.csv is not UTF-8 \(byte 0xe9\): save it as UTF-8"
    else:
        break_it(tmp_path / "shapes")
    with pytest.raises(ValueError, match=sentence) as caught:
        data.add_folder("shapes", tmp_path / "shapes")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert "shapes" not in data.SOURCES


def test_what_is_odd_but_usable_is_told(tmp_path):
    rows = make(tmp_path / "shapes")
    (tmp_path / "shapes" / "disc" / "3.png").write_bytes(
        (tmp_path / "shapes" / "disc" / "0.png").read_bytes()
    )
    draw("ring", "dark", 5).resize((9, 12)).save(tmp_path / "shapes" / "ring" / "new.png")
    draw("ring", "dark", 5).resize((9, 12)).save(tmp_path / "shapes" / "ring" / "1.png")
    rows[4] = (*rows[4][:2], "grey")
    write(tmp_path / "shapes", [*rows, rows[2]])
    found = data.look_through(tmp_path / "shapes")
    assert str(found).splitlines()[0] == "30 images of 8 x 8 to 9 x 12 pixels"
    assert found.notes == (
        "Listed twice, used once: 1.",
        "Not in groups.csv and left out: ring/new.png.",
        "The same image twice, which may be learned from and tested on: disc/3.png = disc/0.png.",
        "Too few images of shade 'grey' to learn from or to judge by: 1.",
    )


def test_unreadable_files_are_all_counted_and_three_named(tmp_path):
    rows = make(tmp_path / "shapes")
    for file, _, _ in rows[:5]:
        (tmp_path / "shapes" / file).write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"disc/0.png is empty.*, disc/3.png is empty.*, ring/1.png is empty.* and 2 more",
    ):
        data.look_through(tmp_path / "shapes")


def test_one_group_is_refused_by_methods_that_compare_groups_and_not_by_others(tmp_path):
    rows = make(tmp_path / "shapes")
    write(tmp_path / "shapes", [(*row[:2], "light") for row in rows])
    data.add_folder("shapes", tmp_path / "shapes", side=8)
    with pytest.raises(
        ValueError,
        match="shapes has one group, 'light', and ballot compares groups: name another group_by",
    ):
        experiments.run(run(method="ballot", density=0.1, group_by="shade"), tmp_path / "runs")
    assert experiments.run(run(group_by="shade"), tmp_path / "runs").groups == ["light"]


def test_a_column_that_is_not_in_the_csv_is_named(tmp_path):
    make(tmp_path / "shapes")
    data.add_folder("shapes", tmp_path / "shapes")
    with pytest.raises(ValueError, match="shapes has no column 'race': choose one of label, shade"):
        data.load(run(group_by="race"))


def test_a_file_that_broke_since_is_named(tmp_path):
    make(tmp_path / "shapes")
    data.add_folder("shapes", tmp_path / "shapes")
    (tmp_path / "shapes" / "disc" / "0.png").write_bytes(b"hello")
    with pytest.raises(
        ValueError, match="shapes: disc/0.png is not an image: replace or remove it"
    ):
        data.load(run())


def in_splits(folder, counts=(("train", 30), ("val", 12), ("test", 9))):
    """A folder as torchvision's ImageFolder has it: split, class, image; its rows without the split."""
    rows = []
    for split, n in counts:
        for number in range(n):
            label, shade = CLASSES[number % 3], ["light", "dark"][number // 3 % 2]
            rows.append((f"{split}/{label}/{number}.png", label, shade))
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            draw(label, shade, len(rows)).save(folder / rows[-1][0])
    return rows


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_folders_of_splits_are_splits(tmp_path, val):
    in_splits(tmp_path / "shapes", (("train", 30), (val, 12), ("test", 9)))
    found = data.add_folder("shapes", tmp_path / "shapes", side=8)
    assert str(found).splitlines()[1:] == [
        "label: disc 17, ring 17, square 17",
        "split: train 30, valid 12, test 9",
        "No groups.csv, so the classes are the groups.",
    ]
    loaded = data.load(run())
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == [30, 12, 9]
    assert loaded.classes == CLASSES


@pytest.mark.parametrize("there", [("train",), ("train", "val"), ("train", "test")])
def test_a_split_that_a_folder_lacks_is_drawn_from_train(tmp_path, there):
    in_splits(tmp_path / "shapes", [(split, 30) for split in there])
    data.add_folder("shapes", tmp_path / "shapes", side=8)
    loaded = data.load(run())
    sizes = {("train",): [20, 4, 6], ("train", "val"): [24, 30, 6], ("train", "test"): [24, 6, 30]}
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == sizes[there]


@pytest.mark.parametrize(
    "columns", [("file", "label", "shade"), ("file", "shade"), ("File", "LABEL", "shade")]
)
def test_a_csv_gives_groups_to_folders_of_splits(tmp_path, columns):
    rows = in_splits(tmp_path / "shapes")
    kept = [row if len(columns) == 3 else (row[0], row[2]) for row in rows]
    write(tmp_path / "shapes", kept, columns)
    data.add_folder("shapes", tmp_path / "shapes", side=8)
    loaded = data.load(run(group_by="shade"))
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == [30, 12, 9]
    assert loaded.classes == CLASSES and loaded.groups == ["dark", "light"]
    assert torch.bincount(loaded.test.group).tolist() == [3, 6]


def test_the_split_of_a_csv_wins_over_the_folder_and_is_read_in_any_spelling(tmp_path):
    rows = in_splits(tmp_path / "shapes")
    parts = ["Train"] * 24 + ["val"] * 15 + ["TEST"] * 12
    columns = ("file", "label", "shade", "Split")
    write(
        tmp_path / "shapes", [(*row, part) for row, part in zip(rows, parts, strict=True)], columns
    )
    data.add_folder("shapes", tmp_path / "shapes", side=8)
    loaded = data.load(run())
    assert [len(split) for split in (loaded.train, loaded.val, loaded.test)] == [24, 15, 12]


def test_a_class_may_be_called_train(tmp_path):
    make(tmp_path / "shapes", csv=False)
    (tmp_path / "shapes" / "ring").rename(tmp_path / "shapes" / "train")
    found = data.look_through(tmp_path / "shapes")
    assert (
        sorted(set(found.rows["label"])) == ["disc", "square", "train"]
        and "split" not in found.rows
    )


def test_images_beside_folders_of_splits_are_refused(tmp_path):
    in_splits(tmp_path / "shapes")
    (tmp_path / "shapes" / "extra" / "disc").mkdir(parents=True)
    draw("disc", "dark", 1).save(tmp_path / "shapes" / "extra" / "disc" / "0.png")
    sentence = (
        r"shapes has train and other splits, and images beside them \(extra/disc/0.png\): move them"
    )
    with pytest.raises(ValueError, match=sentence):
        data.look_through(tmp_path / "shapes")


def test_a_class_that_only_the_test_split_has_is_refused(tmp_path):
    in_splits(tmp_path / "shapes")
    (tmp_path / "shapes" / "test" / "disc").rename(tmp_path / "shapes" / "test" / "star")
    with pytest.raises(ValueError, match="shapes has test images of star, and no training image"):
        data.look_through(tmp_path / "shapes")


def test_splits_without_classes_are_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    draw("disc", "dark", 1).save(tmp_path / "train" / "0.png")
    draw("disc", "dark", 2).save(tmp_path / "test" / "0.png")
    with pytest.raises(
        ValueError, match=r"images in no class sub-folder \(test/0.png, train/0.png\)"
    ):
        data.look_through(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        [str(1_000_001 + number) for number in range(30)],
        [f"{0.1234567 + number * 1e-7:.7f}" for number in range(30)],
        [["9007199254740993", "9007199254740992"][number % 2] for number in range(30)],
        [["7", "007"][number % 2] for number in range(30)],
        [f"{'aA'[number % 2]}{number // 2}" for number in range(30)],
    ],
    ids=["numbers", "scores", "long", "leading zeros", "words"],
)
def test_ids_are_no_second_spelling(tmp_path, values):
    rows = make(tmp_path / "shapes")
    write(
        tmp_path / "shapes",
        [(*row, value) for row, value in zip(rows, values, strict=True)],
        ("file", "label", "shade", "id"),
    )
    found = data.look_through(tmp_path / "shapes").rows
    told = dict(zip(found["file"], found["id"], strict=True))
    assert [told[file] for file, _, _ in rows] == values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("0.5", ".5"),
        ("1e3", "1000"),
        ("Old", "old"),
        ("a  b", "a b"),
        ("\u00e9", "e\u0301"),
    ],
)
def test_a_group_in_two_spellings_is_refused(tmp_path, one, other):
    rows = make(tmp_path / "shapes")
    write(
        tmp_path / "shapes",
        [(*row[:2], [one, other][number % 2]) for number, row in enumerate(rows)],
    )
    with pytest.raises(
        ValueError, match="groups.csv writes 'shade' as .* and as .*: spell it one way"
    ):
        data.look_through(tmp_path / "shapes")


def test_a_column_twice_is_refused(tmp_path):
    make(tmp_path / "shapes")
    edit(tmp_path / "shapes", lambda text: text.replace("shade", "label"))
    with pytest.raises(
        ValueError, match="has a column twice, its first line is 'file,label,label'"
    ):
        data.look_through(tmp_path / "shapes")


def test_a_column_twice_in_other_cases_is_refused(tmp_path):
    make(tmp_path / "shapes")
    edit(tmp_path / "shapes", lambda text: text.replace("shade", "Label"))
    with pytest.raises(
        ValueError, match="has a column twice, its first line is 'file,label,Label'"
    ):
        data.look_through(tmp_path / "shapes")


def test_linked_class_folders_are_followed_and_circles_are_not(tmp_path):
    make(tmp_path / "photos", csv=False)
    (tmp_path / "shapes").mkdir()
    for label in CLASSES:
        (tmp_path / "shapes" / label).symlink_to(tmp_path / "photos" / label)
    (tmp_path / "photos" / "disc" / "circle").symlink_to(tmp_path / "photos" / "disc")
    found = data.add_folder("shapes", tmp_path / "shapes", side=8)
    assert len(found.rows) == 30 and sorted(set(found.rows["label"])) == CLASSES
    assert data.load(run()).classes == CLASSES


def test_a_link_to_nowhere_is_named(tmp_path):
    make(tmp_path / "shapes", csv=False)
    (tmp_path / "shapes" / "disc" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"shapes: disc/gone.png cannot be read \(.*No such file"):
        data.look_through(tmp_path / "shapes")


@pytest.mark.parametrize("csv", [True, False])
@pytest.mark.parametrize(
    "file", [".DS_Store", "Thumbs.db", "disc/._0.png", "disc/notes.txt", "__MACOSX/0.png", ".git/x"]
)
def test_a_file_that_is_not_read_changes_no_fingerprint(tmp_path, file, csv):
    make(tmp_path / "shapes", csv=csv)
    data.add_folder("shapes", tmp_path / "shapes", side=8)
    before = (data.fingerprint("shapes"), data.content("shapes"))
    (tmp_path / "shapes" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "shapes" / file).write_bytes(b"x")
    after = (data.fingerprint("shapes"), data.content("shapes"))
    assert before == after
    (tmp_path / "shapes" / "disc" / "0.png").write_bytes(
        (tmp_path / "shapes" / "disc" / "3.png").read_bytes()
    )
    assert data.fingerprint("shapes") != before[0]


def test_a_relative_folder_counts_from_where_you_are_and_a_tilde_is_home(tmp_path, monkeypatch):
    make(tmp_path / "shapes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in ("shapes", "./shapes", "~/shapes"):
        assert len(data.look_through(place).rows) == 30
        data.add_folder("shapes", place, side=8)
        assert data.SOURCES["shapes"].folder == tmp_path / "shapes"
    monkeypatch.chdir("/")
    assert data.load(run()).classes == CLASSES  # and does not move with you


def test_a_wrong_argument_is_named_before_any_image_is_read(tmp_path):
    with pytest.raises(ValueError, match="side=0 is refused: expected a whole number of pixels"):
        data.add_folder("shapes", tmp_path / "nowhere", side=0)
    with pytest.raises(ValueError, match="mirror='no' is refused: expected True or False"):
        data.add_folder("shapes", tmp_path / "nowhere", mirror="no")


def test_images_of_224_pixels_are_kept_where_the_preset_allows_them(tmp_path, monkeypatch):
    in_splits(tmp_path / "shapes")
    preset = config.PRESETS["smoke"].model_copy(update={"image_size": 224})
    monkeypatch.setitem(config.PRESETS, "smoke", preset)
    data.add_folder("shapes", tmp_path / "shapes", side=224)
    assert data.load(run()).in_shape == (3, 224, 224)
