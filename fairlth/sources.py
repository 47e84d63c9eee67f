"""Where each data set comes from, and how it becomes uint8 tensors: decoded once, then cached."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fairlth import config, progress

Rows = Iterable[dict[str, Any]]
AGES = {"age_band": ("age", (0, 18, 30, 45, 60))}
INK = (0.28, 0.33)  # shares of ink from which a digit is medium and thick
SMALLEST_CLASS = 5  # images, so that training, validation and test can each have one


@dataclass(frozen=True)
class Table:
    """One split as it came: `x` (n, channels, side, side) uint8, each label column as codes (n,) int64."""

    x: Tensor
    columns: dict[str, Tensor]


@dataclass(frozen=True)
class Tables:
    """All splits of a source, with the names behind the codes of each column."""

    splits: dict[str, Table]
    names: dict[str, list[str]]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and how its columns read."""

    hub: str  # repository on the Hugging Face hub; scikit-learn's function where `fetch` is given
    licence: str
    target: str = "label"  # the default label column
    image: str = "image"
    configuration: str | None = None  # of the hub repository
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})  # ours -> theirs
    test_fraction: float = 0.2  # of train, where there is no test split
    side: int = 32  # pixels
    grey: bool = False
    mirror: bool = True  # a mirrored image is as likely as the image
    aliases: dict[str, str] = field(default_factory=dict)  # column on the hub -> our name
    bands: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)  # name -> (column, lower edges)
    fetch: Callable[["Source", int], Tables] | None = None  # for sources that are not parquet
    embedded: bool = False  # comes with scikit-learn: nothing to download, nothing to cache
    like: str | None = None  # another data set, whose files these are
    long_tail: float = 1.0  # training images of the largest class over those of the smallest, by leaving images out
    folder: Path | None = None  # of image files, see folders.add
    own: bool = False  # added by you: of its training images a fifth at most validates, however many the preset wants


def add(name: str, source: Source) -> None:
    """Makes a data set of your own known as `name`: `add("birds", Source("me/birds", licence="mine", image="photo"))`.

    Its files may lie in `$FAIRLTH_DATA/<name>/` too. Adding the name again replaces it; records and shared trainings know what
    they were made from, so that nothing is mixed up.

    Args:
        name: for file names and tables: letters, digits, _ and -.
        source: the hub repository, its image column, its label column as `target`; for a folder see `folders.add`.

    Raises:
        ValueError: the name is no such name or that of a data set that comes with the package.
    """
    check_free(name)
    SOURCES[name] = replace(source, own=True)


def check_free(name: str) -> None:
    """Raises ValueError if a data set of your own cannot have this name."""
    config.check_name(name)
    if name in SOURCES and not SOURCES[name].own:
        raise ValueError(f"{name!r} is a data set that comes with the package: choose another name.")


def fingerprint(name: str) -> str:
    """Changes with the content of a data set of your own or the way it is read; "" for the others, which have one content.

    Decoded images and records know it, so that both are made anew after a change; copying or moving the files is none.
    """
    source = SOURCES[name]
    if not source.own:
        return ""
    files = local_files(name)
    inside = source.folder or config.DATA / name
    names = tuple(Path(path).relative_to(inside).as_posix() for paths in files.values() for path in paths)
    return _content(repr(replace(source, fetch=None, folder=None)), inside, names, _fingerprint(source, files))


@cache
def _content(how: str, inside: Path, names: tuple[str, ...], stamp: str) -> str:
    """Of what is in the files; `stamp` says when to read them again."""
    digest = hashlib.sha256(how.encode())
    for name in names:
        digest.update(repr((name, hashlib.sha256((inside / name).read_bytes()).hexdigest())).encode())
    return digest.hexdigest()[:12]


def decoded(name: str, side: int, downloads: bool) -> Tables:
    """All splits of a data set, images `side` pixels a side, from the cache or decoded now and cached.

    Local parquet under `$FAIRLTH_DATA/<name>/` wins over the hub.

    Raises:
        ValueError: no data, a damaged or empty file, a column that is not there; one sentence names it.
    """
    name = SOURCES[name].like or name
    source, files = SOURCES[name], local_files(name)
    if source.embedded and source.fetch is not None:
        return source.fetch(source, side)
    stamp = fingerprint(name) or _fingerprint(source, files)
    cache_file = config.CACHE / f"{name}-{side}-{stamp}.safetensors"
    if cache_file.exists():
        return _load(cache_file)
    if not files and not downloads:
        raise ValueError(f"{name} is not in {config.DATA / name}/train-*.parquet and this preset downloads nothing: place it.")
    if source.fetch is not None and (source.folder is not None or not files):
        tables = source.fetch(source, side)
    else:
        tables = _decode(name, _open(name, files) if files else _download(name), side)
    _save(cache_file, tables)
    return tables


def local_files(name: str) -> dict[str, list[str]]:
    """Local parquet files by split; a folder without train files is an error, no folder at all is not.

    Where the set has no validation split of its own and there is no test file, the valid file is the test split. Of a folder of
    images all files, in one list.
    """
    if (images := SOURCES[name].folder) is not None:
        return {"all": sorted(str(path) for path in images.rglob("*") if path.is_file())}
    folder = config.DATA / (SOURCES[name].like or name)
    found = {split: sorted(folder.glob(f"{split}-*.parquet")) for split in ("train", "valid", "test")}
    if not found["test"] and "valid" not in SOURCES[name].splits:
        found["test"] = found.pop("valid")
    if folder.is_dir() and not found["train"]:
        raise ValueError(f"{folder} holds no train-*.parquet: place the file there, or remove the folder to use the hub.")
    return {split: [str(path) for path in paths] for split, paths in found.items() if paths}


def _open(name: str, files: dict[str, list[str]]) -> dict[str, Rows]:
    """Streams over local parquet files, each tried once."""
    import datasets

    splits = {}
    for split, paths in files.items():
        try:
            splits[split] = datasets.load_dataset("parquet", data_files=paths, split="train", streaming=True)
            next(iter(splits[split]))
        except StopIteration:
            raise ValueError(f"{paths[0]} has no rows: replace the {split} file of {name}.") from None
        except Exception as error:
            raise ValueError(f"{paths[0]} is not a whole parquet file ({first_line(error)}): replace it.") from error
    return splits


def _download(name: str) -> dict[str, Rows]:
    import datasets

    source = SOURCES[name]
    progress.say(f"{name}: downloading {source.hub} from the hub")
    try:
        return {
            ours: datasets.load_dataset(source.hub, source.configuration, split=theirs)
            for ours, theirs in source.splits.items()
        }
    except Exception as error:
        raise ValueError(
            f"{name} is neither in {config.DATA / name}/train-*.parquet nor to be had from the hub as {source.hub} "
            f"({first_line(error)}): place the files or connect to the network."
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind, without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].rstrip(".")


def _decode(name: str, splits: dict[str, Rows], side: int) -> Tables:
    """Images to uint8 tensors, label columns to codes that mean the same in every split."""
    source = SOURCES[name]
    features = dict(next(iter(splits.values())).features)  # type: ignore[attr-defined]
    if source.image not in features:
        raise ValueError(f"{name} has no image column {source.image!r} in its files, they have {', '.join(features)}.")
    images, raw = {}, {}
    for split, rows in splits.items():
        images[split], raw[split] = _read(f"{name} {split}", rows, source, side)
    columns, names = _columns(raw, features, source)
    return Tables({split: Table(images[split], columns[split]) for split in splits}, names)


def _read(label: str, rows: Rows, source: Source, side: int) -> tuple[Tensor, dict[str, list[Any]]]:
    """One split's images (n, channels, side, side) and its other columns as lists."""
    from datasets import Image

    pixels: list[np.ndarray] = []
    columns: dict[str, list[Any]] = {}
    try:
        for row in rows.cast_column(source.image, Image()):  # type: ignore[attr-defined]
            pixels.append(pixels_of(row.pop(source.image), source, side))
            for column, value in row.items():
                columns.setdefault(column, []).append(value)
            if len(pixels) % 2000 == 0:
                progress.say(f"{label}: {len(pixels)} images decoded")
    except Exception as error:
        raise ValueError(
            f"{label}: image number {len(pixels)} cannot be read ({first_line(error)}): replace the file."
        ) from error
    return torch.from_numpy(np.stack(pixels)), columns


def pixels_of(image: Any, source: Source, side: int) -> np.ndarray:
    """(channels, side, side) uint8; what is not square is cropped at its centre, what is larger is averaged down."""
    from PIL.Image import Resampling
    from PIL.ImageOps import fit

    image = image.convert("L" if source.grey else "RGB")
    if image.size != (side, side):
        image = fit(image, (side, side), Resampling.BOX)
    pixels = np.asarray(image)
    return pixels[None] if source.grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _columns(
    raw: dict[str, dict[str, list[Any]]], features: dict[str, Any], source: Source
) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[str]]]:
    """Label columns as codes, by split, and the names of the codes; numbers also in bands where the source has some."""
    columns: dict[str, dict[str, Tensor]] = {split: {} for split in raw}
    names: dict[str, list[str]] = {}
    for column in _label_columns(raw):
        ours = source.aliases.get(column, column)
        names[ours] = getattr(features[column], "names", None) or _values(rows[column] for rows in raw.values())
        for split, rows in raw.items():
            columns[split][ours] = _codes(rows[column], names[ours], coded=hasattr(features[column], "names"))
    for band, (column, edges) in source.bands.items():
        if column not in names:
            continue
        names[band] = [f"{low}-{high - 1}" for low, high in pairwise(edges)] + [f"{edges[-1]}+"]
        for split, rows in raw.items():
            columns[split][band] = torch.bucketize(torch.tensor(rows[column]), torch.tensor(edges[1:]), right=True)
    return columns, names


def _label_columns(raw: dict[str, dict[str, list[Any]]]) -> list[str]:
    """Columns that every split has and whose values are plain; ValueError names one with holes."""
    found = []
    for column in next(iter(raw.values())):
        values = [value for rows in raw.values() for value in rows.get(column, [[]])]
        if any(value is None for value in values):
            raise ValueError(f"column {column!r} has rows without a value: fill them or leave the column out of the files.")
        if all(isinstance(value, str | int | float) for value in values):
            found.append(column)
    return found


def _values(columns: Iterable[list[Any]]) -> list[str]:
    """All values of a column over its splits, in order."""
    return [str(value) for value in sorted({value for column in columns for value in column})]


def _codes(values: list[Any], names: list[str], coded: bool) -> Tensor:
    """The position of each value in `names`; `coded` values are positions already."""
    code = {name: number for number, name in enumerate(names)}
    return torch.tensor(values if coded else [code[str(value)] for value in values])


def _fingerprint(source: Source, files: dict[str, list[str]]) -> str:
    """Changes when a local file or the way it is read does, so that it is decoded anew."""
    stats = [(path, Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for paths in files.values() for path in paths]
    return hashlib.sha256(repr((source.image, source.grey, source.aliases, source.bands, stats)).encode()).hexdigest()[:12]


def _save(path: Path, tables: Tables) -> None:
    tensors = {f"{split}/{name}": column for split, table in tables.splits.items() for name, column in table.columns.items()}
    tensors |= {f"{split}/": table.x for split, table in tables.splits.items()}
    config.write_atomically(path, save(tensors, {"names": json.dumps(tables.names)}))


def _load(path: Path) -> Tables:
    with safe_open(path, "pt") as file:
        names = json.loads(file.metadata()["names"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
    splits = {}
    for split in {key.split("/")[0] for key in tensors}:
        columns = {key.removeprefix(f"{split}/"): value for key, value in tensors.items() if key.startswith(f"{split}/")}
        splits[split] = Table(columns.pop(""), columns)
    return Tables(splits, names)


def _digits(source: Source, side: int) -> Tables:
    """1 797 scanned digits of 8 x 8 pixels that come with scikit-learn, and two more columns for a binary task with groups.

    `odd` is even or odd; `ink` is the mean of an image's pixels, white 0 and black 1, in three bands: thin below 0.28 (467
    digits), medium (875), thick from 0.33 on (455).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.from_numpy((digits.images * 255 / 16).astype(np.uint8))[:, None]
    label = torch.from_numpy(digits.target.astype(np.int64))
    ink = torch.bucketize(torch.from_numpy(digits.images).mean((1, 2)) / 16, torch.tensor(INK, dtype=torch.float64), right=True)
    names = {"label": [str(name) for name in digits.target_names], "odd": ["even", "odd"], "ink": ["thin", "medium", "thick"]}
    return Tables({"train": Table(x, {"label": label, "odd": label % 2, "ink": ink})}, names)


def _lfw(source: Source, side: int) -> Tables:
    """Labelled Faces in the Wild, the people with at least 70 pictures, fetched and checked by scikit-learn."""
    from sklearn.datasets import fetch_lfw_people

    try:
        people = fetch_lfw_people(min_faces_per_person=70, color=True, resize=None, slice_=None)
    except OSError as error:
        raise ValueError(
            f"lfw is not in {config.DATA}/lfw/train-*.parquet and scikit-learn could not fetch it ({first_line(error)}): "
            "place the file or connect to the network."
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
    "cifar10_lt": Source("uoft-cs/cifar10", licence="none stated, research use", image="img", like="cifar10", long_tail=50.0),
    "cifar100": Source("uoft-cs/cifar100", licence="none stated, research use", image="img", target="fine_label"),
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
        test_fraction=0.4,  # the smallest group has 1 638 faces in all, and fairness is read off the test split
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
    "lfw": Source("sklearn.datasets.fetch_lfw_people", licence="none stated, research use", side=64, fetch=_lfw, splits={}),
}
