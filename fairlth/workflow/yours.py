"""What the words of `fairlth ticket` name: your images, your network and its scale."""

import os
import re
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fairlth import data, models
from fairlth.config import PRESETS, Preset, Run, Schedule, paths, schema
from fairlth.data import SOURCES, Source
from fairlth.data.catalogue import first_line
from fairlth.data.listing import SPLIT_OF
from fairlth.models import Build
from fairlth.shipping.card import LARGEST_SIDE

TIMM = "timm/"  # stands before the name of one of its networks
HUB = re.compile(r"[\w.-]+/[\w.-]+")  # a repository: owner/name
OPTIONS = {  # of `models.add` in its sentences -> as they are typed
    'models.add weights="keep"': "--weights keep",
    'weights="keep"': "--weights keep",
    'weights="draw"': "--weights draw",
    "trained=True": "--trained",
}
LOOKED: dict[str, str] = {}  # what was found in folders, each read once by this process


def images(
    word: str, side: int | None, most: int, target: str | None = None, image: str = "image"
) -> str:
    """Makes the images that a word names known as a data set.

    The word is a data set of the package, else a folder of images, else the name of a folder in
    `$FAIRLTH_DATA`, of images or of parquet files, else a repository of the hub (owner/name).

    Args:
        word: as it was typed.
        side: pixels per side; None: `most`, or what a folder's images have where that is less.
        most: pixels per side that the preset has.
        target: the label column, of parquet files and the hub.
        image: the image column, of parquet files and the hub.

    Returns:
        The name of the data set.

    Raises:
        ValueError: the word names nothing, or the images cannot be used.
    """
    if word in SOURCES and not SOURCES[word].own:
        return word
    folder = Path(os.path.abspath(Path(word).expanduser()))
    if word and folder.is_dir():
        return _folder(folder, side, most)
    there = paths.DATA / word
    wanted = most if side is None else side
    named = schema.NAME.fullmatch(word) is not None
    if named and any(there.glob("*.parquet")):
        source = Source("parquet files of yours", licence="yours", image=image, side=wanted)
        return _columns(word, source, target)
    if named and there.is_dir():
        return _folder(there, side, most)
    if word in SOURCES:  # added by this process
        return word
    if HUB.fullmatch(word):
        splits = _splits_of(word)
        source = Source(word, licence="see its page", image=image, side=wanted, splits=splits)
        return _columns(_name_of(word.partition("/")[2]), source, target)
    raise ValueError(
        f"{word!r} is neither a folder nor a data set: give the path of a folder of images, a "
        f"repository of the Hugging Face hub (owner/name), or one of {', '.join(SOURCES)}."
    )


def found(name: str) -> str:
    """Where a data set comes from and, of a folder, what is in it, a line per column."""
    source = SOURCES[name]
    if source.folder is None:
        return f"{name}: {source.hub} ({source.licence})"
    inside = LOOKED.get(name) or data.look_through(source.folder)
    return f"{name}: the folder {source.folder}\n{inside}"


def _folder(folder: Path, side: int | None, most: int) -> str:
    """A folder of images, of the side that is asked for or that most of them have."""
    name = _name_of(folder.name)
    there = data.add_folder(name, folder, side=most if side is None else side)
    LOOKED[name] = str(there)
    own_side = int(np.median(there.sizes.min(1)))
    if side is None and own_side < most:
        data.add_source(name, replace(SOURCES[name], side=own_side))
    return name


def _columns(name: str, source: Source, target: str | None) -> str:
    """A data set whose label column is the target."""
    if target is not None:
        source = replace(source, target=target)
    data.add_source(name, source)
    return name


def _splits_of(repository: str) -> dict[str, str]:
    """Our names of a repository's splits to its own."""
    import datasets

    try:
        names = datasets.get_dataset_split_names(repository)
    except Exception as error:
        raise ValueError(
            f"{repository!r} is no folder here and not to be had from the hub "
            f"({first_line(error)}): correct the name or connect to the network."
        ) from error
    return {SPLIT_OF[name]: name for name in names if name in SPLIT_OF}


def _name_of(words: str) -> str:
    """A name that a data set or network of yours may have, as near to the words as can be."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", words).lstrip("_-")[:36] or "images"
    is_data = name in SOURCES and not SOURCES[name].own
    is_network = name in models.MODELS and name not in models.OWN
    return f"my_{name}" if is_data or is_network else name


def network(word: str) -> tuple[str, Any]:
    """A network by its name, or by a Python file of yours and the function in it that builds one.

    The file may import what lies beside it, also while it builds.

    Args:
        word: a key of `models.MODELS`; or `timm/NAME`, a network of timm, its weights drawn; or
            `net.py:function`, where `function` takes (channels, side, side) and the number of
            classes, see `models.add`.

    Returns:
        Its name, and what builds it: None for a model that comes with the package.

    Raises:
        ValueError: the file has no such function; timm is not installed or has no such network.
    """
    file, _, function = word.partition(":")
    if word.startswith(TIMM) and not file.endswith(".py"):
        own = word.removeprefix(TIMM)
        _check_timm_has(own)
        return _name_of(own), partial(_of_timm, own)
    if not file.endswith(".py"):
        return word, None
    path = Path(file).expanduser().absolute()
    try:
        with _importable(path.parent):
            build = runpy.run_path(str(path))[function]
    except Exception as error:
        reason = f"it has no {function!r}" if isinstance(error, KeyError) else first_line(error)
        raise ValueError(
            f"network={word!r} cannot be used ({reason}): give FILE.py:FUNCTION, a function of "
            "(in_shape, n_classes) that builds the network."
        ) from error
    if not isinstance(build, nn.Module):
        build = partial(_build_beside, path.parent, build)
    return _name_of(path.stem), build


def _check_timm_has(name: str) -> None:
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"network={TIMM + name!r} needs timm, which is not installed: "
            "pip install 'fairlth[timm]'."
        ) from error
    name, _, tag = name.partition(".")
    if tag:
        raise ValueError(
            f"network={f'{TIMM}{name}.{tag}'!r} names trained weights, which are not loaded: write "
            f"{TIMM}{name} to draw them, or give FILE.py:FUNCTION, a function that loads them."
        )
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3, cutoff=0)
        raise ValueError(
            f"network={TIMM + name!r} is refused, timm {timm.__version__} has no such network: "
            f"choose another, such as {', '.join(near)}."
        )


def _of_timm(name: str, in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """A network of timm for these images; those made for one size are told it."""
    import timm

    channels, *side = in_shape
    make = partial(timm.create_model, name, in_chans=channels, num_classes=n_classes)
    try:
        return make(img_size=tuple(side))
    except TypeError:  # any size will do
        return make()


def _build_beside(
    folder: Path, build: Build, in_shape: tuple[int, ...], n_classes: int
) -> nn.Module:
    """What a function of yours builds, which may import what lies in the folder of its file."""
    with _importable(folder):
        return build(in_shape, n_classes)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules of a folder can be imported inside, first of all, as in a script that lies there."""
    place = str(folder)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        if place in sys.path:  # your file may take it off, too
            sys.path.remove(place)


def check_no_options(word: str, weights: str | None, trained: bool, keep: Sequence[str]) -> None:
    """Raises ValueError where one of these is told of a network that is no file of yours."""
    told = [] if weights is None else [f"--weights {weights}"]
    if trained:
        told.append("--trained")
    told += [f"--keep {layers}" for layers in keep]
    if told:
        raise ValueError(
            f"{', '.join(told)} cannot be had with network={word!r}, which is no Python file of "
            "yours: leave it out, or give --network FILE.py:FUNCTION."
        )


def add(
    name: str,
    build: Any,
    in_shape: tuple[int, ...],
    n_classes: int,
    weights: str | None,
    trained: bool,
    keep: Sequence[str],
) -> None:
    """Makes your network known, see `models.add`, whose sentences get the words of the command.

    Raises:
        ValueError: the network cannot be used.
    """
    try:
        models.add(name, build, in_shape, n_classes, weights, trained, keep)
    except ValueError as error:
        sentence = str(error)
        for in_python, typed in OPTIONS.items():
            sentence = sentence.replace(in_python, typed)
        raise ValueError(sentence) from error


def known(word: str, like: Run, weights: str | None = None) -> str:
    """The name of the network that a word names, made known for the images of a run.

    Args:
        word: see `network`.
        like: a run on the images, of any network.
        weights: of a network that is no model of the package: "keep" or "draw", see `models.add`,
            or "trained": it is the dense net as it stands.

    Raises:
        ValueError: the network cannot be used.
    """
    if weights not in (None, "keep", "draw", "trained"):
        raise ValueError(f"weights={weights!r} is refused: expected keep, draw or trained.")
    name, build = network(word)
    if build is None and weights is not None:
        raise ValueError(
            f"weights={weights!r} cannot be had with model={word!r}, which comes with the package: "
            "leave it out, or name FILE.py:FUNCTION, a function that builds your network."
        )
    if build is not None:
        loaded = data.load(like)
        trained = weights == "trained"
        told = None if trained else weights
        models.add(name, build, loaded.in_shape, len(loaded.classes), told, trained)
    return name


def scale(preset: str, dataset: str, side: int | None, epochs: int | None) -> str:
    """The preset with another size of images or other epochs, known by a name that says so.

    Args:
        preset: a key of `config.PRESETS`, which stays as it is.
        dataset: a known one.
        side: pixels per side; None: the preset's and the data set's.
        epochs: of a training; None: the preset's.

    Returns:
        The preset's own name where nothing differs.

    Raises:
        ValueError: a value cannot be.
    """
    old = PRESETS[preset]
    values: dict[str, Any] = {field: getattr(old, field) for field in Preset.model_fields}
    name = preset
    if side is not None and side != min(SOURCES[dataset].side, old.image_size):
        if side > SOURCES[dataset].side:
            most = SOURCES[dataset].side
            raise ValueError(f"side={side} is refused: {dataset} has {most} pixels per side.")
        values["image_size"] = side
        name += f"-side{side}"
    if epochs is not None and epochs != old.at(dataset).schedule.epochs:
        values["schedule"] = Schedule(**old.schedule.model_dump() | {"epochs": epochs})
        values["epochs"] = {}
        name += f"-epochs{epochs}"
    if name == preset:
        return preset
    new = Preset(**values)
    if PRESETS.setdefault(name, new) != new:
        raise ValueError(f"preset {name!r} is one of yours: call it otherwise.")
    return name


def check_side(side: int | None) -> None:
    """Raises ValueError unless images can have so many pixels per side."""
    if side is not None and not 1 <= side <= LARGEST_SIDE:
        raise ValueError(f"side={side} is refused: expected 1 to {LARGEST_SIDE} pixels.")


def check_epochs(preset: str, epochs: int | None) -> None:
    """Raises ValueError unless a training of a preset can have so many epochs."""
    rewind = PRESETS[preset].rewind_epochs
    if epochs is not None and epochs <= rewind:
        raise ValueError(
            f"--epochs {epochs} is refused: expected at least {rewind + 1}, since weights of "
            f"preset {preset} go back to their state after {rewind} epoch(s)."
        )
