"""Where each data set comes from, and what its columns mean."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fairlth import config
from fairlth.config import paths

AGES = {"age_band": ("age", (0, 18, 30, 45, 60))}
INK = (0.28, 0.33)  # shares of ink from which a digit is medium and thick
SMALLEST_CLASS = 5  # images, so that training, validation and test can each have one


@dataclass(frozen=True)
class Table:
    """One split as it came: `x` (n, channels, side, side) uint8, columns as codes (n,) int64."""

    x: Tensor
    columns: dict[str, Tensor]


@dataclass(frozen=True)
class Tables:
    """All splits of a source.

    `names` has the names behind the codes of each column; `unusable` says of each column that
    cannot be a label or a group why not.
    """

    splits: dict[str, Table]
    names: dict[str, list[str]]
    unusable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and how its columns read.

    Args:
        hub: repository on the Hugging Face hub; scikit-learn's function where `fetch` is given.
        licence: terms of use, in a few words.
        target: the default label column.
        image: the image column.
        configuration: of the hub repository.
        splits: our names of the splits (train, valid, test) to those on the hub.
        test_fraction: share of train that becomes the test split where there is none.
        side: pixels per side.
        grey: reads images as grey.
        mirror: a mirrored image means the same.
        aliases: column on the hub to our name of it.
        bands: name of a new column to (column of numbers, lower edges of the bands).
        fetch: makes the tables, for a source that is not parquet; takes the source and the side.
        embedded: comes with scikit-learn: nothing to download, nothing to cache.
        like: another data set, whose files these are.
        long_tail: training images of the largest class over those of the smallest, by leaving
            images out.
        folder: of image files, see `data.add_folder`.
        own: added by you: at most a fifth of its training images validates.
    """

    hub: str
    licence: str
    target: str = "label"
    image: str = "image"
    configuration: str | None = None
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    test_fraction: float = 0.2
    side: int = 32
    grey: bool = False
    mirror: bool = True
    aliases: dict[str, str] = field(default_factory=dict)
    bands: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    fetch: Callable[["Source", int], Tables] | None = None
    embedded: bool = False
    like: str | None = None
    long_tail: float = 1.0
    folder: Path | None = None
    own: bool = False


def add(name: str, source: Source) -> None:
    """Makes your data set known as `name`: `add("birds", Source("me/birds", licence="mine"))`.

    Its parquet files may be in `$FAIRLTH_DATA/<name>/` too. Adding the name again replaces it;
    records and shared trainings know what they were made from, so that nothing is mixed up.

    Args:
        name: for file names and tables: letters, digits, _ and -.
        source: the hub repository, its image column, its label column as `target`; for a folder see
            `data.add_folder`.

    Raises:
        ValueError: the name is refused or that of a data set that comes with the package, or the
            source has a value that cannot be.
    """
    check(name, source)
    SOURCES[name] = replace(source, own=True)
    config.USUAL_TARGETS[name] = source.target


def check(name: str, source: Source) -> None:
    """Raises ValueError if your data set cannot have this name or these values."""
    config.check_name(name)
    if not isinstance(source, Source):
        raise ValueError(f"source={source!r} is refused: expected a data.Source.")
    if name in SOURCES and not SOURCES[name].own:
        raise ValueError(
            f"{name!r} is a data set that comes with the package: choose another name."
        )
    if type(source.side) is not int or source.side < 1:
        expected = "a whole number of pixels, at least 1"
        raise ValueError(f"side={source.side!r} is refused: expected {expected}.")
    for name in ("grey", "mirror"):
        value = getattr(source, name)
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} is refused: expected True or False.")
    if not _is_number(source.test_fraction) or not 0 < source.test_fraction < 1:
        expected = "a share between 0 and 1"
        raise ValueError(f"test_fraction={source.test_fraction!r} is refused: expected {expected}.")
    if not _is_number(source.long_tail) or not 1 <= source.long_tail < math.inf:
        raise ValueError(f"long_tail={source.long_tail!r} is refused: expected at least 1.")
    if source.like is not None and source.like not in SOURCES:
        raise ValueError(f"like={source.like!r} is refused: choose one of {', '.join(SOURCES)}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def column_named(name: str, columns: list[str]) -> str | None:
    """The column of this name, or the only one that differs from it by case alone, if any."""
    if name in columns:
        return name
    alike = [column for column in columns if column.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind, without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].rstrip(".")


def _digits(source: Source, side: int) -> Tables:
    """1 797 scanned digits of 8 x 8 pixels, from scikit-learn, and columns for a binary task.

    `odd` is even or odd; `ink` is the mean of an image's pixels, white 0 and black 1, in three
    bands: thin below 0.28 (467 digits), medium (875), thick from 0.33 on (455).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.from_numpy((digits.images * 255 / 16).astype(np.uint8))[:, None]
    label = torch.from_numpy(digits.target.astype(np.int64))
    darkness = torch.from_numpy(digits.images).mean((1, 2)) / 16
    ink = torch.bucketize(darkness, torch.tensor(INK, dtype=torch.float64), right=True)
    names = {
        "label": [str(name) for name in digits.target_names],
        "odd": ["even", "odd"],
        "ink": ["thin", "medium", "thick"],
    }
    return Tables({"train": Table(x, {"label": label, "odd": label % 2, "ink": ink})}, names)


def _lfw(source: Source, side: int) -> Tables:
    """Labelled Faces in the Wild: people with at least 70 pictures, by scikit-learn."""
    from sklearn.datasets import fetch_lfw_people

    try:
        people = fetch_lfw_people(min_faces_per_person=70, color=True, resize=None, slice_=None)
    except OSError as error:
        raise ValueError(
            f"lfw is not in {paths.DATA}/lfw/train-*.parquet and scikit-learn could not fetch it "
            f"({first_line(error)}): place the file or connect to the network."
        ) from error
    x = torch.from_numpy(people.images.transpose(0, 3, 1, 2))
    x = torch.nn.functional.interpolate(x, (side, side), mode="area").mul(255).round().byte()
    table = Table(x, {"label": torch.from_numpy(people.target.astype(np.int64))})
    return Tables({"train": table}, {"label": [str(name) for name in people.target_names]})


SOURCES = {
    "digits": Source(
        "sklearn.datasets.load_digits",
        licence="CC BY 4.0 (UCI, comes with scikit-learn)",
        side=8,
        grey=True,
        mirror=False,
        test_fraction=0.25,
        fetch=_digits,
        embedded=True,
        splits={},
    ),
    "fashion_mnist": Source("zalando-datasets/fashion_mnist", licence="MIT", side=28, grey=True),
    "cifar10": Source("uoft-cs/cifar10", licence="none stated, research use", image="img"),
    "cifar10_lt": Source(
        "uoft-cs/cifar10",
        licence="none stated, research use",
        image="img",
        like="cifar10",
        long_tail=50.0,
    ),
    "cifar100": Source(
        "uoft-cs/cifar100", licence="none stated, research use", image="img", target="fine_label"
    ),
    "fer2013": Source(
        "AutumnQiu/fer2013",
        licence="none stated, research use",
        splits={"train": "train", "valid": "valid", "test": "test"},
        side=48,
        grey=True,
    ),
    "tiny_imagenet": Source(
        "zh-plus/tiny-imagenet",
        licence="ImageNet's terms, non-commercial research",
        side=64,
        splits={"train": "train", "test": "valid"},
    ),
    "celeba": Source(
        "flwrlabs/celeba",
        licence="non-commercial research",
        configuration="img_align+identity+attr",
        target="Smiling",
        side=64,
        splits={"train": "train", "valid": "valid", "test": "test"},
    ),
    "utkface": Source(
        "nu-delta/utkface",
        licence="non-commercial research",
        target="race",
        side=64,
        splits={"train": "train"},
        test_fraction=0.4,  # the smallest group has 1 638 faces, and the test split shows fairness
        aliases={"ethnicity": "race"},
        bands=AGES,
    ),
    "fairface": Source(
        "HuggingFaceM4/FairFace",
        licence="CC BY 4.0",
        configuration="0.25",
        target="race",
        side=64,
        splits={"train": "train", "test": "validation"},
    ),
    "lfw": Source(
        "sklearn.datasets.fetch_lfw_people",
        licence="none stated, research use",
        side=64,
        fetch=_lfw,
        splits={},
    ),
}
