"""Which images a folder holds and what they are called; opens none of them.

Its sub-folders are the classes, or it has splits: `train/<class>/`, `val/<class>/` and `test/`.
A file `groups.csv` in it may list the images. Its columns: `file`, a path inside the folder;
`label`, which may be missing where the files are in class sub-folders; any number of attributes
such as race or age band; and `split` (train, valid or test), which may be missing where the files
are in splits.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path, PurePosixPath

import pandas as pd

from fairlth.data.catalogue import SMALLEST_CLASS, first_line

CSV = "groups.csv"
SPLITS = ("train", "valid", "test")
SPLIT_OF = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}
KNOWN = ("file", "label", "split")  # columns that the csv may write in any case
MOST_GROUPS = 20  # a column with more values is no group: it is told in one number
NUMBER = re.compile(  # 007 is a word
    r"[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[-+]?\d{1,3})?", re.IGNORECASE | re.ASCII
)
LITTER = ("thumbs.db", "desktop.ini")


def listing(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The images of a folder and notes on what is left out; opens none of them.

    Returns:
        Columns file, label, attributes, and split where there are splits, all of them strings; and
        the notes.

    Raises:
        ValueError: in one sentence, the first thing that is wrong with the folder or its csv.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give the path of a folder of images.")
    files = _files_in(folder)
    endings = _endings()
    images = [file for file in files if Path(file).suffix.lower() in endings]
    if not images:
        raise ValueError(
            f"{folder} holds no image: put images into it, one sub-folder per class, or a {CSV} "
            "beside them."
        )
    if (folder / CSV).exists():
        rows, notes = _from_csv(folder / CSV)
        left_out = sorted(set(images) - set(rows["file"]))
        told = f"Not in {CSV} and left out"
    else:
        rows = _by_place(pd.DataFrame({"file": images}), folder.name)
        notes = [f"No {CSV}, so the classes are the groups."]
        left_out = sorted(set(files) - set(images))
        told = "No images and left out"
    if left_out:
        notes.append(f"{told}: {some(left_out)}.")
    _check_splits(folder, rows)
    _check_classes(folder, rows)
    return rows, notes


def files_of(folder: Path) -> list[str]:
    """The files that decide what is learned from a folder, as paths inside it, in order."""
    rows, _ = listing(folder)
    csv = [CSV] if (folder / CSV).exists() else []
    return csv + sorted(rows["file"])


def _files_in(folder: Path) -> list[str]:
    """All files but the csv and hidden ones, as paths inside the folder, in order.

    Links are followed, but not to a folder that they are in. ValueError for a name that is no text.
    """
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        above = {parent.resolve() for parent in (here, *here.parents)}
        seen = [name for name in folders if _is_seen(name)]
        folders[:] = [name for name in seen if (here / name).resolve() not in above]
        found += [here / name for name in files if _is_seen(name)]
    inside = [path.relative_to(folder) for path in sorted(found)]
    names = [path.as_posix() for path in inside if path != Path(CSV)]
    for name in names:
        shown = name.encode(errors="replace").decode()
        if shown != name:
            raise ValueError(f"the name {shown} is not UTF-8: rename the file or its folder.")
    return names


def _is_seen(name: str) -> bool:
    """Whether a file or folder is neither hidden nor what a file manager leaves."""
    return not name.startswith((".", "__")) and name.casefold() not in LITTER


def _endings() -> set[str]:
    """Endings of the files that PIL opens."""
    from PIL import Image

    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _by_place(rows: pd.DataFrame, folder: str) -> pd.DataFrame:
    """The rows with the columns `label` and `split` that they lack, as far as folders tell them."""
    parts = [file.split("/") for file in rows["file"]]
    in_splits = _in_splits(parts)
    if in_splits and "split" not in rows:
        beside = [file for file in rows["file"] if file.split("/")[0].casefold() not in SPLIT_OF]
        cure = f"move them, or name the split of each in {CSV}"
        _refuse(
            beside, f"{folder} has train and other splits, and images beside them ({{}}): {cure}."
        )
        rows = rows.assign(split=[SPLIT_OF[part[0].casefold()] for part in parts])
    if "label" not in rows:
        depth = 1 if in_splits else 0  # of the folder that names the class
        loose = ["/".join(part) for part in parts if len(part) < depth + 2]
        cure = f"make one sub-folder per class, or a {CSV} with a column 'label'"
        _refuse(loose, f"{folder} has images in no class sub-folder ({{}}): {cure}.")
        rows.insert(1, "label", [part[depth] for part in parts])
    return rows


def _in_splits(parts: list[list[str]]) -> bool:
    """Whether the folders at the top are splits and not classes: train beside another, or alone."""
    tops = {part[0].casefold() for part in parts if len(part) > 1}
    splits = {SPLIT_OF[top] for top in tops if top in SPLIT_OF}
    alone = tops == {"train"} and all(len(part) > 2 for part in parts)
    return alone or ("train" in splits and len(splits) > 1)


def _from_csv(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The csv's rows, checked, in the order of their files, and a note where rows are repeated."""
    rows = _cells(path)
    rows["file"] = [posixpath.normpath(file.strip().replace("\\", "/")) for file in rows["file"]]
    outside = [file for file in rows["file"] if file.startswith(("..", "/")) or file[1:2] == ":"]
    _refuse(outside, f"{CSV} names files outside the folder ({{}}): move them into it.")
    missing = [file for file in rows["file"] if not (path.parent / file).is_file()]
    cure = "correct the csv or add the images"
    _refuse(missing, f"{CSV} names files that are not there ({{}}): {cure}.")
    if "split" in rows:
        rows["split"] = _splits(rows["split"])
    rows = _by_place(rows, path.parent.name)
    for name in rows.columns.drop("file"):
        if name == "label" or rows[name].nunique() <= MOST_GROUPS:
            _check_spelling(name, rows[name])
    rows = rows.sort_values("file", key=lambda files: files.map(PurePosixPath), kind="stable")
    once = rows.drop_duplicates(ignore_index=True)
    _check_once(once)
    repeated = len(rows) - len(once)
    return once, [f"Listed twice, used once: {repeated}."] if repeated else []


def _cells(path: Path) -> pd.DataFrame:
    """All cells of the csv as strings, none of them empty; a column `file` is there."""
    try:
        rows = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True
        )
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"{CSV} is not UTF-8 (byte {byte:#x}): save it as UTF-8.") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(
            f"{CSV} cannot be read ({first_line(error)}): write a header and one line per image."
        ) from error
    rows = rows.fillna("")
    first = pd.read_csv(path, header=None, nrows=1, dtype=str, encoding="utf-8-sig")
    named = first.iloc[0].dropna()  # as written: of a second x `pd.read_csv` makes x.1
    header = ",".join(named)
    nameless = [name for name in named if not name.strip()]
    if nameless or len(named) < len(first.columns):
        raise ValueError(
            f"{CSV} has a column without a name, its first line is {header!r}: name it, or leave "
            "it out with its commas."
        )
    rows.columns = [_our_name(name.strip()) for name in rows.columns]
    if not named.str.strip().map(_our_name).is_unique or not rows.columns.is_unique:
        raise ValueError(f"{CSV} has a column twice, its first line is {header!r}: name each once.")
    if "file" not in rows:
        raise ValueError(
            f"{CSV} has no column 'file', its first line is {header!r}: start with "
            "file,label,group."
        )
    if not isinstance(rows.index, pd.RangeIndex):
        raise ValueError(f"{CSV} has lines with more cells than its header: name every column.")
    for name in rows:
        empty = rows.index[rows[name].str.strip() == ""]
        if len(empty):
            at = f"row {empty[0] + 1}" if name == "file" else rows["file"][empty[0]]
            raise ValueError(f"{CSV} has no {name!r} for {at}: fill the cell or leave the row out.")
    if rows.empty:
        raise ValueError(f"{CSV} has a header and no rows: write one line per image.")
    return rows


def _our_name(column: str) -> str:
    return column.casefold() if column.casefold() in KNOWN else column


def _splits(values: pd.Series) -> list[str]:
    """The csv's splits by our names."""
    wrong = sorted({value for value in values if value.strip().casefold() not in SPLIT_OF})
    _refuse(wrong, f"{CSV} has {{}} in column 'split': expected {', '.join(SPLITS)}.")
    return [SPLIT_OF[value.strip().casefold()] for value in values]


def _refuse(wrong: list[str], sentence: str) -> None:
    """Raises ValueError with the first of what is wrong, if anything is."""
    if wrong:
        raise ValueError(sentence.format(some(wrong)))


def _check_once(rows: pd.DataFrame) -> None:
    """Raises ValueError for a file with two different rows."""
    twice = rows[rows.duplicated("file", keep=False)]
    if twice.empty:
        return
    file = twice["file"].iloc[0]
    cells = twice[twice["file"] == file].drop(columns="file").to_numpy()
    told = " and as ".join(", ".join(row) for row in cells)
    raise ValueError(f"{CSV} lists {file} twice, as {told}: keep the right row.")


def _check_spelling(name: str, values: pd.Series) -> None:
    """Refuses values that differ only by case, spaces, accents or how a number is written."""
    seen: dict[str, str] = {}
    for value in values.unique():
        word = " ".join(unicodedata.normalize("NFC", value).split()).casefold()
        plain = str(Fraction(word)) if _is_number(word) else word
        other = seen.setdefault(plain, value)
        if other != value:
            raise ValueError(
                f"{CSV} writes {name!r} as {other!r} and as {value!r}: spell it one way."
            )


def _check_splits(folder: Path, rows: pd.DataFrame) -> None:
    """There must be something to learn from, and no class that training never sees."""
    if "split" not in rows:
        return
    train = rows[rows["split"] == "train"]
    if train.empty:
        raise ValueError(
            f"{folder.name} has no image of split 'train': there is nothing to learn from."
        )
    for split in SPLITS[1:]:
        there = set(rows["label"][rows["split"] == split])
        strange = sorted(there - set(train["label"]))
        told = f"{folder.name} has {split} images of {{}}, and no training image"
        _refuse(strange, f"{told}: add some or remove the class.")


def _check_classes(folder: Path, rows: pd.DataFrame) -> None:
    counts = rows["label"].value_counts()
    if not (folder / CSV).exists():
        counts = counts.reindex(sorted(_class_folders(folder, rows)), fill_value=0)
    if len(counts) < 2:
        raise ValueError(
            f"{folder.name} has one class, {counts.index[0]!r}: a network needs at least two to "
            "tell apart."
        )
    if counts.min() < SMALLEST_CLASS:
        raise ValueError(
            f"{folder.name} has {counts.min()} image(s) of class {counts.idxmin()!r}, at least "
            f"{SMALLEST_CLASS} are needed: add images or leave the class out."
        )


def _class_folders(folder: Path, rows: pd.DataFrame) -> set[str]:
    """The classes, those without an image too."""
    tops = [folder]
    if "split" in rows:
        tops = [path for path in folder.iterdir() if path.name.casefold() in SPLIT_OF]
    inside = [path for top in tops for path in top.iterdir()]
    return {path.name for path in inside if path.is_dir() and _is_seen(path.name)}


def order(value: str) -> tuple[float, str]:
    """Numbers by size, before words by letter."""
    return (float(value), value) if _is_number(value) else (float("inf"), value)


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


def some(names: Iterable[str]) -> str:
    """The first three of some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
