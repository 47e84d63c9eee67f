"""A folder of your images: what is in it, whether it can be used, and how it becomes a data set."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fairlth.config import paths, schema
from fairlth.data import catalogue
from fairlth.data.catalogue import SMALLEST_CLASS, SOURCES, Source, Table, Tables, first_line
from fairlth.data.listing import MOST_GROUPS, SPLITS, listing, order, some
from fairlth.data.pixels import check_depth, pixels_of, watched

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Source("a folder of yours", licence="yours", mirror=False, splits={})


@dataclass(frozen=True)
class Found:
    """What is in a folder.

    `rows` (file, label, attributes), `sizes` (n, 2) width and height of each image, `notes` on what
    is odd but usable.
    """

    rows: pd.DataFrame
    sizes: np.ndarray
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """A line on the images, one per column with images per class and group, one per note."""
        low = self.sizes.min(0)
        high = self.sizes.max(0)
        size = f"{low[0]} x {low[1]}"
        if (low != high).any():
            size += f" to {high[0]} x {high[1]}"
        columns = [_column(self.rows, name) for name in self.rows.columns.drop("file")]
        return "\n".join([f"{len(self.rows)} images of {size} pixels", *columns, *self.notes])


def add(
    name: str, folder: str | Path, side: int = 32, grey: bool = False, mirror: bool = False
) -> Found:
    """Looks through a folder and makes it known as `name`, so that `Run(dataset=name)` reads it.

    Adding a name again replaces it. Records keep the name and never the place.

    Args:
        name: for file names and tables: letters, digits, _ and -.
        folder: a relative path counts from the working directory; `~` is your home.
        side: pixels per side that images are cropped and averaged to (or enlarged), at most the
            preset's `image_size`.
        grey: reads images as grey.
        mirror: whether a mirrored image means the same, so that training may mirror (faces yes,
            letters no).

    Returns:
        What was found: print it.

    Raises:
        ValueError: the name is taken, an argument cannot be, or the folder cannot be used; one
            sentence says why, see `look`.
    """
    source = replace(FOLDER, folder=_place(folder), side=side, grey=grey, mirror=mirror)
    catalogue.check(name, source)
    found = look(folder)
    catalogue.add(name, source)
    return found


def find(name: str) -> None:
    """Makes the folder `$FAIRLTH_DATA/<name>/` known by its name, where there is one.

    So other processes need no `add`.
    """
    place = paths.DATA / name
    if name in SOURCES or not schema.NAME.fullmatch(name) or not place.is_dir():
        return
    if any(place.glob("*.parquet")):
        raise ValueError(
            f"{place} has parquet files, and nothing says which columns are image and label: name "
            f"them by data.add_source({name!r}, Source(...))."
        )
    catalogue.add(name, replace(FOLDER, folder=place))


def look(folder: str | Path) -> Found:
    """Reads every file of a folder once and says what is in it.

    Raises:
        ValueError: no usable list of images (see `listing`), files that are no whole images, the
            same image with two labels.
    """
    place = _place(folder)
    rows, notes = listing(place)
    sizes = []
    faults = []
    for file in watched(rows["file"], f"{place.name} read"):
        try:
            sizes.append(read(place / file).size)
        except ValueError as error:
            faults.append(f"{file} {error}")
    if faults:
        raise ValueError(f"{place.name}: {some(faults)}: replace or remove what cannot be read.")
    notes = [*notes, *_copies(place, rows), *_small_groups(rows)]
    return Found(rows, np.array(sizes), tuple(notes))


def read(path: Path) -> "Image":
    """One image, turned as its camera says.

    Raises:
        ValueError: "is empty", "is not an image", ...: the caller knows the path.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if path.exists() and path.stat().st_size == 0:
        raise ValueError("is empty (zero bytes)")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise ValueError("is not an image") from None
    except Exception as error:
        raise ValueError(f"cannot be read ({first_line(error)})") from error
    check_depth(upright)
    return upright


def decode(source: Source, side: int) -> Tables:
    """The images of a source's folder as uint8 tensors, its columns as codes."""
    assert source.folder is not None
    rows, _ = listing(source.folder)
    columns = rows.drop(columns=["file", "split"], errors="ignore")
    names = {name: sorted(set(columns[name]), key=order) for name in columns}
    codes = {
        name: pd.Categorical(columns[name], values).codes.astype(np.int64)
        for name, values in names.items()
    }
    split = rows.get("split", pd.Series("train", rows.index))
    tables = {}
    for part in SPLITS:  # each on its own, so that all images are in memory once and never twice
        own = np.flatnonzero(split == part)
        if len(own):
            x = _pixels(source, side, list(rows["file"].iloc[own]))
            labels = {name: torch.from_numpy(code[own]) for name, code in codes.items()}
            tables[part] = Table(x, labels)
    return Tables(tables, names)


def _pixels(source: Source, side: int, files: list[str]) -> Tensor:
    """The images of some files of a source's folder: (n, channels, side, side) uint8."""
    assert source.folder is not None
    x = np.empty((len(files), 1 if source.grey else 3, side, side), np.uint8)
    for number, file in enumerate(watched(files, f"{source.folder.name} decoded")):
        try:
            x[number] = pixels_of(read(source.folder / file), side, source.grey)
        except ValueError as error:
            raise ValueError(
                f"{source.folder.name}: {file} {error}: replace or remove it."
            ) from error
    return torch.from_numpy(x)


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
                    f"{folder.name}: {file} and {other} are the same image, labelled {label!r} and "
                    f"{its_label!r}: keep one."
                )
            pairs.append(f"{other} = {file}")
    told = "The same image twice, which may be learned from and tested on"
    return [f"{told}: {some(pairs)}."] if pairs else []


def _small_groups(rows: pd.DataFrame) -> list[str]:
    notes = []
    for name in rows.columns.drop(["file", "label", "split"], errors="ignore"):
        counts = rows[name].value_counts()
        if len(counts) <= MOST_GROUPS and counts.min() < SMALLEST_CLASS:
            group = f"{name} {counts.idxmin()!r}"
            notes.append(f"Too few images of {group} to learn from or to judge by: {counts.min()}.")
    return notes


def _column(rows: pd.DataFrame, name: str) -> str:
    """Images per value; for an attribute also the rarest pairing with a class."""
    counts = rows[name].value_counts().sort_index(key=lambda values: values.map(order))
    if len(counts) > MOST_GROUPS:
        return f"{name}: {len(counts)} values"
    if name == "split":
        counts = counts.reindex([split for split in SPLITS if split in counts.index])
    line = f"{name}: " + ", ".join(f"{value} {n}" for value, n in counts.items())
    if name in ("label", "split"):
        return line
    cells = pd.crosstab(rows["label"], rows[name])
    i, j = divmod(int(cells.to_numpy().argmin()), cells.shape[1])
    return line + f"; fewest in a class: {cells.iloc[i, j]} ({cells.index[i]}, {cells.columns[j]})"


def _place(folder: str | Path) -> Path:
    """The folder as an absolute path; a relative one counts from the working directory."""
    if not isinstance(folder, str | Path):
        raise ValueError(f"folder={folder!r} is refused: give the path of a folder of images.")
    return Path(folder).expanduser().absolute()
