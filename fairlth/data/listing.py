"""Which images a folder holds and what they are called: its `groups.csv`, or its sub-folders as classes. Opens no image."""

import posixpath
from pathlib import Path

import numpy as np
import pandas as pd

from fairlth.data.catalogue import SMALLEST_CLASS, first_line

CSV = "groups.csv"
SPLITS = ("train", "valid", "test")


def listing(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The images of a folder (columns file, label, attributes, all strings), and notes on what is left out; opens none of them.

    Raises:
        ValueError: in one sentence, the first thing that is wrong with the folder or its csv.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give the path of a folder of images.")
    inside = _inside(folder)
    images = [file for file in inside if Path(file).suffix.lower() in _endings()]
    if not images:
        raise ValueError(f"{folder} holds no image: put images into it, one sub-folder a class, or a {CSV} beside them.")
    if (folder / CSV).exists():
        rows, notes = _from_csv(folder / CSV)
        left_out = sorted(set(images) - set(rows["file"]))
        notes += [f"Not in {CSV} and left out: {some(left_out)}."] if left_out else []
    else:
        rows, notes = _from_classes(folder, images), [f"No {CSV}, so the classes are the groups."]
        others = sorted(set(inside) - set(images))
        notes += [f"No images and left out: {some(others)}."] if others else []
    _check_classes(folder, rows["label"])
    return rows, notes


def _inside(folder: Path) -> list[str]:
    """All files but the csv and hidden ones, as paths inside the folder, in order."""
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    hidden = {file for file in files if any(part.startswith((".", "__")) for part in file.parts)}
    return [file.as_posix() for file in files if file not in hidden and file.name not in (CSV, "Thumbs.db")]


def _endings() -> set[str]:
    """Endings of the files that PIL opens."""
    from PIL import Image

    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _from_classes(folder: Path, images: list[str]) -> pd.DataFrame:
    loose = [file for file in images if "/" not in file]
    if loose:
        raise ValueError(f"{folder.name} has no {CSV} and images in no class sub-folder ({some(loose)}): add either.")
    return pd.DataFrame({"file": images, "label": [file.split("/")[0] for file in images]})


def _from_csv(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The csv's rows, checked, and a note where rows are repeated."""
    rows = _cells(path)
    rows["file"] = [posixpath.normpath(file.strip().replace("\\", "/")) for file in rows["file"]]
    if outside := [file for file in rows["file"] if file.startswith(("..", "/")) or file[1:2] == ":"]:
        raise ValueError(f"{CSV} names files outside the folder ({some(outside)}): move them into it.")
    if missing := [file for file in rows["file"] if not (path.parent / file).is_file()]:
        raise ValueError(f"{CSV} names files that are not there ({some(missing)}): correct the csv or add the images.")
    if "label" not in rows:
        rows.insert(1, "label", _sub_folders(rows))
    for name in rows.columns.drop("file"):
        _check_spelling(name, rows[name])
    _check_splits(rows)
    return _once(rows)


def _check_splits(rows: pd.DataFrame) -> None:
    if "split" not in rows:
        return
    if wrong := sorted(set(rows["split"]) - set(SPLITS)):
        raise ValueError(f"{CSV} has {some(wrong)} in column 'split': expected {', '.join(SPLITS)}.")
    if "train" not in set(rows["split"]):
        raise ValueError(f"{CSV} has no image of split 'train': there is nothing to learn from.")


def _once(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Each row once, and a note where some were repeated; ValueError for a file with two different rows."""
    once = rows.drop_duplicates(ignore_index=True)
    if len(conflict := once[once.duplicated("file", keep=False)]):
        file = conflict["file"].iloc[0]
        told = " and as ".join(", ".join(row) for row in conflict[conflict["file"] == file].drop(columns="file").to_numpy())
        raise ValueError(f"{CSV} lists {file} twice, as {told}: keep the right row.")
    return once, [f"Listed twice, used once: {len(rows) - len(once)}."] if len(once) < len(rows) else []


def _cells(path: Path) -> pd.DataFrame:
    """All cells of the csv as strings, none of them empty; a column `file` is there."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True).fillna("")
    except UnicodeDecodeError as error:
        raise ValueError(f"{CSV} is not UTF-8 (byte {error.object[error.start]:#x}): save it as UTF-8.") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{CSV} cannot be read ({first_line(error)}): write a header and one line an image.") from error
    rows.columns = rows.columns.str.strip()
    if "file" not in rows:
        header = ",".join(rows.columns)
        raise ValueError(f"{CSV} has no column 'file', its first line is {header!r}: start with file,label,group.")
    if not isinstance(rows.index, pd.RangeIndex):
        raise ValueError(f"{CSV} has lines with more cells than its header: give every column a name.")
    for name in rows:
        if len(empty := rows.index[rows[name].str.strip() == ""]):
            at = f"row {empty[0] + 1}" if name == "file" else rows["file"][empty[0]]
            raise ValueError(f"{CSV} has no {name!r} for {at}: fill the cell or leave the row out.")
    if rows.empty:
        raise ValueError(f"{CSV} has a header and no rows: write one line an image.")
    return rows


def _sub_folders(rows: pd.DataFrame) -> list[str]:
    loose = [file for file in rows["file"] if "/" not in file]
    if loose:
        raise ValueError(f"{CSV} has no column 'label' and files in no class sub-folder ({some(loose)}): add the column.")
    return [file.split("/")[0] for file in rows["file"]]


def _check_spelling(name: str, values: pd.Series) -> None:
    """Values that differ by case, white space or the writing of a number only are meant to be one."""
    seen: dict[str, str] = {}
    for value in values.unique():
        plain = " ".join(value.split()).casefold()
        plain = f"{float(plain):g}" if _is_number(plain) else plain
        if (other := seen.setdefault(plain, value)) != value:
            raise ValueError(f"{CSV} writes {name!r} as {other!r} and as {value!r}: spell it one way.")


def _check_classes(folder: Path, labels: pd.Series) -> None:
    counts = labels.value_counts()
    if not (folder / CSV).exists():
        classes = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
        counts = counts.reindex(sorted(classes), fill_value=0)
    if len(counts) < 2:
        raise ValueError(f"{folder.name} has one class, {counts.index[0]!r}: a network needs at least two to tell apart.")
    if counts.min() < SMALLEST_CLASS:
        raise ValueError(
            f"{folder.name} has {counts.min()} image(s) of class {counts.idxmin()!r}, at least {SMALLEST_CLASS} are needed: "
            "add images or leave the class out."
        )


def order(value: str) -> tuple[float, str]:
    """Numbers by size, before words by letter."""
    return (float(value), value) if _is_number(value) else (float("inf"), value)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def some(names: list[str]) -> str:
    """The first three of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
