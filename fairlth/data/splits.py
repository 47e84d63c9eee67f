"""Data sets as splits: seeded, stratified, on the device."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fairlth import config
from fairlth.config import Run
from fairlth.data import folder
from fairlth.data.catalogue import SMALLEST_CLASS, SOURCES, Source, Tables
from fairlth.data.decode import decoded, local_files
from fairlth.images import Data, Split

TEST_SEED = 0  # the test split of a source without one is the same for every run


def load(run: Run) -> Data:
    """Loads what a run needs: seeded, stratified splits on the run's device.

    The test split is the source's own; where there is none it is drawn from train by a seed that all runs share. The
    validation split and the subset of training images are drawn by the run's seed.

    Raises:
        ValueError: an unknown data set or column, a damaged or empty file, a class too small to split.
    """
    source, preset = source_of(run), run.settings
    tables = decoded(run.dataset, min(source.side, preset.image_size), preset.downloads)
    target, group_by = run.target or source.target, run.group_by or run.target or source.target
    parts = {name: _split(run.dataset, tables, name, target, group_by) for name in tables.splits}
    train, val, test = _three(run, parts, source)
    for name, split in (("training", train), ("validation", val)):
        _check_groups(run.dataset, name, split.group, tables.names[group_by])
        _check_groups(run.dataset, name, split.y, tables.names[target])
    on_gpu = torch.cuda.is_available() and not preset.in_process  # trainings of a second lose time there
    device = torch.device("cuda" if on_gpu else "cpu")
    train, val, test = (split.to(device) for split in (train, val, test))
    return Data(train, val, test, tables.names[target], tables.names[group_by], source.mirror)


def source_of(run: Run) -> Source:
    """The run's row of SOURCES, which a folder in `$FAIRLTH_DATA` gets now; ValueError names the choices."""
    folder.find(run.dataset)
    if run.dataset not in SOURCES:
        raise ValueError(
            f"dataset={run.dataset!r} is unknown: choose one of {', '.join(SOURCES)}, or add a folder of images by "
            "data.add_folder."
        )
    return SOURCES[run.dataset]


def group_name(run: Run) -> str:
    """What fairness is over, for tables: the attribute's name, or "class"."""
    return run.group_by or "class"


def check(run: Run) -> None:
    """Raises ValueError in one sentence if the run's data set is unknown or not to be had here."""
    source = source_of(run)
    if not source.embedded and not local_files(run.dataset) and not run.settings.downloads:
        raise ValueError(
            f"{run.dataset} is not in {config.DATA / run.dataset}/train-*.parquet, and preset {run.preset!r} downloads "
            "nothing: place the file, set FAIRLTH_DATA or choose another preset."
        )


def _split(dataset: str, tables: Tables, name: str, target: str, group_by: str) -> Split:
    table = tables.splits[name]
    for column in (target, group_by):
        if column not in table.columns:
            raise ValueError(f"{dataset} has no column {column!r}: choose one of {', '.join(sorted(table.columns))}.")
    n_classes, n_groups = len(tables.names[target]), len(tables.names[group_by])
    return Split(table.x, table.columns[target], table.columns[group_by], n_classes, n_groups)


def _three(run: Run, parts: dict[str, Split], source: Source) -> tuple[Split, Split, Split]:
    """(train, val, test), drawing from train what the source does not bring."""
    preset, train = run.settings, parts["train"]
    _check_classes(run.dataset, train)
    if "test" not in parts:
        train, parts["test"] = _draw(run.dataset, train, int(len(train) * source.test_fraction), TEST_SEED)
    seed = config.seed_for(run.seed, "split")
    if "valid" not in parts:
        n_val = min(preset.n_val, len(train) // 5) if source.own else preset.n_val
        _check_size(run, len(train), n_val + (1 if source.own else preset.n_train or 1))
        train, parts["valid"] = _draw(run.dataset, train, n_val, seed)
    train = long_tailed(train, source.long_tail, config.seed_for(run.seed, "long tail"))
    if preset.n_train is not None and preset.n_train < len(train):
        train = _draw(run.dataset, train, preset.n_train, seed)[1]
    return train, parts["valid"], parts["test"]


def _draw(dataset: str, split: Split, n: int, seed: int) -> tuple[Split, Split]:
    """(the rest, `n` images) keeping the share of each (class, group) cell, or of each class where a cell is too small."""
    from sklearn.model_selection import train_test_split

    cells = split.y * split.n_groups + split.group
    if min(n, len(split) - n) < len(cells.unique()) or torch.bincount(cells)[cells].min() < SMALLEST_CLASS:
        cells = split.y
    if min(n, len(split) - n) < len(cells.unique()):
        raise ValueError(
            f"{dataset}: {n} of {len(split)} images cannot hold every one of {split.n_classes} classes: add images."
        )
    try:
        rest, drawn = train_test_split(np.arange(len(split)), test_size=n, stratify=cells, random_state=seed)
    except ValueError as error:
        least = int(torch.bincount(split.y).argmin())
        raise ValueError(f"{dataset}: class number {least} has too few images to be split ({error}): add images.") from error
    return _take(split, rest), _take(split, drawn)


def long_tailed(split: Split, ratio: float, seed: int) -> Split:
    """The split with fewer images of each later class: class c keeps n ratio^(-c / (C - 1)) of its images, at least 1.

    Source: Cui et al., 2019 ("Class-balanced loss based on effective number of samples"); n is the size of the largest class,
    and a class that has fewer than its share keeps all. Validation and test images stay balanced.

    Args:
        split: training images.
        ratio: of the largest to the smallest class, at least 1; 1 keeps every image.
        seed: of the draw.
    """
    if ratio == 1:
        return split
    most, generator = int(torch.bincount(split.y).max()), torch.Generator().manual_seed(seed)
    order, kept = torch.randperm(len(split), generator=generator), []
    for label in range(split.n_classes):
        n = max(1, int(most * ratio ** (-label / (split.n_classes - 1))))
        kept.append(order[split.y[order] == label][:n])
    return _take(split, torch.cat(kept).numpy())


def _take(split: Split, index: np.ndarray) -> Split:
    rows = torch.from_numpy(np.sort(index))
    return replace(split, x=split.x[rows], y=split.y[rows], group=split.group[rows])


def _check_groups(dataset: str, part: str, labels: Tensor, names: list[str]) -> None:
    """A group that training or validation never sees cannot be treated fairly."""
    for name, n in zip(names, torch.bincount(labels, minlength=len(names)).tolist(), strict=True):
        if n == 0:
            raise ValueError(f"{dataset} has no {part} image of {name!r}: add images of it or leave it out of the labels.")


def _check_classes(dataset: str, train: Split) -> None:
    counts = torch.bincount(train.y)
    for code in torch.unique(train.y).tolist():
        if counts[code] < SMALLEST_CLASS:
            raise ValueError(
                f"{dataset}: class number {code} has {int(counts[code])} image(s), and training, validation and test need at "
                f"least {SMALLEST_CLASS}: add images of it or leave the class out."
            )


def _check_size(run: Run, available: int, wanted: int) -> None:
    if wanted > available:
        raise ValueError(
            f"{run.dataset} has {available} images to train on and preset {run.preset!r} wants {wanted} for training and "
            "validation: choose a smaller preset."
        )
