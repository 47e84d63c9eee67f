"""A folder of images of your own: what is in it, whether it can be used, and how it becomes a data set.

Either its sub-folders are the classes, or a file `groups.csv` in it lists the images. Its columns: `file`, a path inside the
folder; `label`, which may be missing where the files lie in class sub-folders; any number of attributes such as race or age
band; and, where you have splits of your own, `split` (train, valid or test).
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fairlth import config, progress
from fairlth.data import catalogue
from fairlth.data.catalogue import SMALLEST_CLASS, SOURCES, Source, Table, Tables, first_line
from fairlth.data.decode import pixels_of
from fairlth.data.listing import SPLITS, listing, order, some

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_GROUPS = 20  # a column with more values is told in one number


@dataclass(frozen=True)
class Found:
    """What is in a folder: `rows` (file, label, attributes), width and height of each image (n, 2), what is worth a word."""

    rows: pd.DataFrame
    sizes: np.ndarray
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """A line on the images, one a column with images per class and group, one a note."""
        low, high = self.sizes.min(0), self.sizes.max(0)
        size = f"{low[0]} x {low[1]}" + ("" if (low == high).all() else f" to {high[0]} x {high[1]}")
        columns = [_column(self.rows, name) for name in self.rows.columns.drop("file")]
        return "\n".join([f"{len(self.rows)} images of {size} pixels", *columns, *self.notes])


def add(name: str, folder: str | Path, side: int = 32, grey: bool = False, mirror: bool = False) -> Found:
    """Looks through a folder and makes it known as `name`, so that `Run(dataset=name)` reads it; returns what it found.

    Adding a name again replaces it. Records keep the name and never the place.

    Args:
        name: for file names and tables: letters, digits, _ and -.
        folder: a relative path counts from the project's root.
        side: pixels a side that images are cropped and averaged to (or enlarged), at most the preset's.
        grey: reads images as grey.
        mirror: whether a mirrored image means the same, so that training may mirror (faces yes, letters no).

    Raises:
        ValueError: the name is taken, or the folder cannot be used; one sentence says why, see `look`.
    """
    catalogue.check_free(name)
    path = config.ROOT / Path(folder).expanduser()
    found = look(path)
    catalogue.add(name, replace(FOLDER, folder=path, side=side, grey=grey, mirror=mirror))
    return found


def find(name: str) -> None:
    """Makes the folder `$FAIRLTH_DATA/<name>/` known by its name, where there is one; so other processes need no `add`."""
    if name not in SOURCES and config.NAME.fullmatch(name) and (config.DATA / name).is_dir():
        catalogue.add(name, replace(FOLDER, folder=config.DATA / name))


def look(folder: Path) -> Found:
    """Reads every file of a folder once and says what is in it.

    Raises:
        ValueError: no usable list of images (see `listing`), files that are no whole images, the same image with two labels.
    """
    rows, notes = listing(folder)
    sizes, faults = [], []
    for number, file in enumerate(rows["file"], 1):
        try:
            sizes.append(read(folder / file).size)
        except ValueError as error:
            faults.append(f"{file} {error}")
        if number % 2000 == 0:
            progress.say(f"{folder.name}: {number} of {len(rows)} images looked at")
    if faults:
        raise ValueError(f"{folder.name}: {some(faults)}: replace or remove what cannot be read.")
    return Found(rows, np.array(sizes), (*notes, *_copies(folder, rows), *_small_groups(rows)))


def read(path: Path) -> "Image":
    """One image, turned as its camera says.

    Raises:
        ValueError: "is empty", "is not an image", ... the path apart, which the caller knows.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if path.stat().st_size == 0:
        raise ValueError("is empty (zero bytes)")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise ValueError("is not an image") from None
    except Exception as error:
        raise ValueError(f"cannot be read ({first_line(error)})") from error
    if upright.mode.startswith(("I", "F")):
        raise ValueError(f"has more than 8 bits a pixel (mode {upright.mode})")
    return upright


def decode(source: Source, side: int) -> Tables:
    """The images of a source's folder as uint8 tensors, its columns as codes; one split unless the csv names several."""
    assert source.folder is not None
    rows, _ = listing(source.folder)
    pixels = []
    for file in rows["file"]:
        try:
            pixels.append(pixels_of(read(source.folder / file), source, side))
        except ValueError as error:
            raise ValueError(f"{source.folder.name}: {file} {error}: replace or remove it.") from error
    x, split = torch.from_numpy(np.stack(pixels)), rows.get("split", pd.Series("train", rows.index))
    columns = rows.drop(columns=["file", "split"], errors="ignore")
    names = {name: sorted(set(columns[name]), key=order) for name in columns}
    codes = {name: pd.Categorical(columns[name], values).codes.astype(np.int64) for name, values in names.items()}
    parts = {part: np.flatnonzero(split == part) for part in SPLITS}
    return Tables({part: _part(x, codes, own) for part, own in parts.items() if len(own)}, names)


def _part(x: Tensor, codes: dict[str, np.ndarray], own: np.ndarray) -> Table:
    return Table(x[torch.from_numpy(own)], {name: torch.from_numpy(code[own]) for name, code in codes.items()})


def _copies(folder: Path, rows: pd.DataFrame) -> list[str]:
    """A note on byte-identical images; ValueError where they have different labels."""
    sizes = pd.Series([(folder / file).stat().st_size for file in rows["file"]])
    alike = rows[sizes.duplicated(keep=False).to_numpy()]
    digests = [hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in alike["file"]]
    pairs = []
    for _, same in alike.groupby(digests):
        file, label = same[["file", "label"]].iloc[0]
        for other, its_label in same[["file", "label"]].iloc[1:].to_numpy():
            if its_label != label:
                raise ValueError(
                    f"{folder.name}: {file} and {other} are the same image, labelled {label!r} and {its_label!r}: keep one."
                )
            pairs.append(f"{other} = {file}")
    return [f"The same image twice, which may be learned from and tested on: {some(pairs)}."] if pairs else []


def _small_groups(rows: pd.DataFrame) -> list[str]:
    notes = []
    for name in rows.columns.drop(["file", "label", "split"], errors="ignore"):
        counts = rows[name].value_counts()
        if len(counts) <= MOST_GROUPS and counts.min() < SMALLEST_CLASS:
            notes.append(f"Too few images of {name} {counts.idxmin()!r} to learn from or to judge by: {counts.min()}.")
    return notes


def _column(rows: pd.DataFrame, name: str) -> str:
    """Images per value; for an attribute also the rarest pairing with a class."""
    counts = rows[name].value_counts().sort_index(key=lambda values: values.map(order))
    if len(counts) > MOST_GROUPS:
        return f"{name}: {len(counts)} values"
    line = f"{name}: " + ", ".join(f"{value} {n}" for value, n in counts.items())
    if name in ("label", "split"):
        return line
    cells = pd.crosstab(rows["label"], rows[name])
    i, j = divmod(int(cells.to_numpy().argmin()), cells.shape[1])
    return line + f"; fewest in a class: {cells.iloc[i, j]} ({cells.index[i]}, {cells.columns[j]})"


FOLDER = Source("a folder of your own", licence="yours", mirror=False, splits={}, fetch=decode)
