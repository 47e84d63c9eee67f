"""Data sets as splits: seeded, stratified, on the device."""

import warnings
from bisect import bisect_left

import numpy as np
import torch
from torch import Tensor

from fairlth import config, metrics
from fairlth.config import Run, paths
from fairlth.data.catalogue import SMALLEST_CLASS, Source, Tables, column_named
from fairlth.data.decode import decoded, local_files, source_named
from fairlth.images import Data, Split

TEST_SEED = 0  # the test split of a source without one is the same for every run


def load(run: Run) -> Data:
    """Loads what a run needs: seeded, stratified splits on the run's device.

    The test split is the source's own; where there is none it is drawn from train by a seed that
    all runs share. The validation split and the subset of training images are drawn by the run's
    seed. A column is found in any case (Race for race).

    Raises:
        ValueError: an unknown data set or column, a label that is missing or hidden, a damaged or
            empty file, a class too small to split, a class or group without training images.
    """
    source = source_of(run)
    tables = decoded(run.dataset, side_of(run), run.settings.downloads)
    target = _column(run, tables, "target", run.label)
    group_by = _column(run, tables, "group_by", run.group_column)
    classes = tables.names[target]
    groups = tables.names[group_by]
    parts = {}
    for name, table in tables.splits.items():
        y = table.columns[target]
        group = table.columns[group_by]
        parts[name] = Split(table.x, y, group, len(classes), len(groups))
    _check_classes(run.dataset, parts["train"], classes)
    train, val, test = _three(run, parts, source)
    for part, split in (("training", train), ("validation", val)):
        _check_groups(run.dataset, part, target, split.y, classes)
        _check_groups(run.dataset, part, group_by, split.group, groups)
    _warn_of_empty_groups(run.dataset, test, groups)
    on_gpu = torch.cuda.is_available()
    in_process = run.settings.in_process  # trainings of a second lose time on a GPU
    device = torch.device("cuda" if on_gpu and not in_process else "cpu")
    return Data(train.to(device), val.to(device), test.to(device), classes, groups, source.mirror)


def source_of(run: Run) -> Source:
    """The run's row of SOURCES, see `decode.source_named`."""
    return source_named(run.dataset)


def side_of(run: Run) -> int:
    """Pixels per side of the run's images; warns where your data set wants more."""
    source = source_of(run)
    most = run.settings.image_size
    if source.own and source.side > most:
        warnings.warn(
            f"{run.dataset} wants side={source.side}, and preset {run.preset!r} has "
            f"image_size={most}: its images are {most} pixels per side; choose or add a preset "
            "with a larger image_size.",
            stacklevel=1,
        )
    return min(source.side, most)


def check(run: Run) -> None:
    """Raises ValueError in one sentence if the run's data set is unknown or not to be had here."""
    source = source_of(run)
    for argument in ("target", "group_by"):
        if getattr(run, argument) == "":
            raise ValueError(f"{argument}='' is refused: name a column, or leave it out.")
    side_of(run)
    if source.embedded or source.folder is not None or run.settings.downloads:
        return
    if not local_files(run.dataset):
        raise ValueError(
            f"{run.dataset} is not in {paths.DATA / run.dataset}/train-*.parquet, and preset "
            f"{run.preset!r} downloads nothing: place the file, set FAIRLTH_DATA or choose another "
            "preset."
        )


def _column(run: Run, tables: Tables, argument: str, wanted: str) -> str:
    """The label column that is meant; ValueError if there is none or it cannot be used."""
    column = column_named(wanted, [*tables.names, *tables.unusable])
    given = getattr(run, argument)
    told = f"{argument}={given!r} is refused: " if given is not None else ""
    if column is None:
        choices = ", ".join(sorted(tables.names))
        raise ValueError(f"{told}{run.dataset} has no column {wanted!r}: choose one of {choices}.")
    if column in tables.unusable:
        raise ValueError(f"{told}{run.dataset}: column {column!r} {tables.unusable[column]}.")
    return column


def _three(run: Run, parts: dict[str, Split], source: Source) -> tuple[Split, Split, Split]:
    """(train, val, test), drawing from train what the source does not bring."""
    preset = run.settings
    train = parts["train"]
    if "test" not in parts:
        n_test = config.share_of(source.test_fraction, len(train))
        train, parts["test"] = _draw(run.dataset, train, n_test, TEST_SEED)
    seed = config.seed_for(run.seed, "split")
    if "valid" not in parts:
        n_val = min(preset.n_val, len(train) // 5) if source.own else preset.n_val
        n_train = 1 if source.own else preset.n_train or 1
        _check_size(run, len(train), n_train, n_val)
        train, parts["valid"] = _draw(run.dataset, train, n_val, seed)
    train = long_tailed(train, source.long_tail, config.seed_for(run.seed, "long tail"))
    if preset.n_train is not None and preset.n_train < len(train):
        _, train = _draw(run.dataset, train, preset.n_train, seed)
    return train, parts["valid"], parts["test"]


def _draw(dataset: str, split: Split, n: int, seed: int) -> tuple[Split, Split]:
    """(the rest, `n` images) keeping the share of each (class, group) cell.

    Where a cell is too small for that, the share of each class.
    """
    from sklearn.model_selection import train_test_split

    fewer = min(n, len(split) - n)
    strata = split.cells
    smallest = torch.bincount(strata)[strata].min()
    if fewer < len(strata.unique()) or smallest < SMALLEST_CLASS:
        strata = split.y
    if fewer < len(strata.unique()):
        raise ValueError(
            f"{dataset}: {n} of {len(split)} images cannot hold every one of {split.n_classes} "
            "classes: add images."
        )
    rows = np.arange(len(split))
    rest, drawn = train_test_split(rows, test_size=n, stratify=strata, random_state=seed)
    return _take(split, rest), _take(split, drawn)


def long_tailed(split: Split, ratio: float, seed: int) -> Split:
    """The split with fewer images of each later class.

    Class c of C keeps n ratio^(-c / (C - 1)) of its images, at least 1, where n is the size of the
    largest class; a class that has fewer than its share keeps all. Validation and test images stay
    balanced. Source: Cui et al., 2019 ("Class-balanced loss based on effective number of samples").

    Args:
        split: training images.
        ratio: of the largest to the smallest class, at least 1; 1 keeps every image.
        seed: of the draw.
    """
    if ratio == 1:
        return split
    most = int(torch.bincount(split.y).max())
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(split), generator=generator)
    kept = []
    for label in range(split.n_classes):
        n = max(1, _tail(most, ratio, label, split.n_classes - 1))
        kept.append(order[split.y[order] == label][:n])
    return _take(split, torch.cat(kept).numpy())


def _tail(most: int, ratio: float, label: int, last: int) -> int:
    """floor(most ratio^(-label / last)): the largest n with n^last ratio^label <= most^last."""
    share = config.exact(ratio) ** label
    return bisect_left(range(most + 1), True, key=lambda n: n**last * share > most**last) - 1


def _take(split: Split, rows: np.ndarray) -> Split:
    return split.take(torch.from_numpy(np.sort(rows)))


def _check_groups(dataset: str, part: str, column: str, labels: Tensor, names: list[str]) -> None:
    """A group that training or validation never sees cannot be treated fairly."""
    counts = torch.bincount(labels, minlength=len(names))
    for name, n in zip(names, counts.tolist(), strict=True):
        if n == 0:
            raise ValueError(
                f"{dataset} has no {part} image of {name!r} in column {column!r}: add images of it "
                "or leave it out of the labels."
            )


def _warn_of_empty_groups(dataset: str, test: Split, groups: list[str]) -> None:
    """What has no test image cannot be compared: told before hours of training."""
    counts = torch.bincount(test.group, minlength=len(groups))
    if empty := metrics.empty_groups(counts, groups):
        told = f"{dataset}: no test image of {', '.join(empty)}, so gaps over groups will be nan."
        warnings.warn(told, stacklevel=3)


def _check_classes(dataset: str, train: Split, classes: list[str]) -> None:
    counts = torch.bincount(train.y)
    for code in torch.unique(train.y).tolist():
        if counts[code] < SMALLEST_CLASS:
            raise ValueError(
                f"{dataset}: class {classes[code]!r} has {int(counts[code])} image(s), "
                f"and training, validation and test need at least {SMALLEST_CLASS}: add images of "
                "it or leave the class out."
            )


def _check_size(run: Run, available: int, n_train: int, n_val: int) -> None:
    if n_train + n_val > available:
        raise ValueError(
            f"{run.dataset} has {available} images to train on and preset {run.preset!r} wants "
            f"{n_train + n_val}, n_train={n_train} and n_val={n_val}: choose a smaller preset."
        )
