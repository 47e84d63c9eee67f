"""What a table says of groups: accuracy by group, what pruning took from each, and the gaps of binary tasks."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from fairlth import config, metrics
from fairlth.metrics import Counts
from fairlth.results import KEYS, mean_text

GAPS = {  # of a binary task, see metrics -> what they are called
    "equal_opportunity": "equal opportunity",
    "equalized_odds": "equalised odds",
    "demographic_parity": "demographic parity",
}


def by_group(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """One row per setting and group: its images, its accuracy, and how much it `gained` on the dense net of the seed.

    Means over seeds with the ends of 95 % t intervals and n, fractions; `gained` is below 0 where pruning has cost accuracy,
    and nan where the dense net was not run. All seeds have the same test images: intervals are those of training anew.
    """
    by, own = [key for key in KEYS if key != "seed"], [*config.TASK, "seed", "group"]
    cells = frame[frame["split"] == split].groupby([*KEYS, "group"], dropna=False, sort=False)[["correct", "total"]].sum()
    rows = cells.reset_index().assign(accuracy=(cells["correct"] / cells["total"]).to_numpy())
    dense = rows.loc[rows["method"] == "dense", [*own, "accuracy"]].rename(columns={"accuracy": "dense"})
    rows, found = rows.merge(dense, on=own, how="left"), []
    rows["gained"] = rows["accuracy"] - rows["dense"]
    for keys, group in rows.groupby([*by, "group"], dropna=False, sort=False):
        row = dict(zip([*by, "group"], keys, strict=True)) | {"images": int(group["total"].iloc[0]), "n": len(group)}
        found.append(row | _ends(group, ("accuracy", "gained")))
    return pd.DataFrame(found)


def gaps(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """One row per run of a binary task with groups that are not its classes: the gaps of GAPS and what chance alone would show.

    Fractions; the second class is the positive one. `<gap>_floor` is the mean gap of a classifier with the run's true and false
    positive rates for all groups alike (one rate of positives for demographic parity), by simulation. 0 is fair.
    """
    found: list[dict[str, Any]] = []
    for keys, cells in frame[frame["split"] == split].groupby(KEYS, dropna=False, sort=False):
        if cells["group_by"].iloc[0] != "class" and cells["class"].nunique() == 2:
            found.append(dict(zip(KEYS, keys, strict=True)) | _gaps(*_matrices(cells)))
    return pd.DataFrame(found, columns=[*KEYS, *GAPS, *(f"{name}_floor" for name in GAPS)])


def gap_summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: mean over seeds, ends of the 95 % t interval, and mean floor of each gap; from `gaps`."""
    by, found = [key for key in KEYS if key != "seed"], []
    for keys, group in runs.groupby(by, dropna=False, sort=False):
        row = dict(zip(by, keys, strict=True)) | {"n": len(group)} | _ends(group, GAPS)
        found.append(row | {f"{name}_floor": float(group[f"{name}_floor"].mean()) for name in GAPS})
    return pd.DataFrame(
        found, columns=[*by, "n", *(f"{name}{end}" for name in GAPS for end in ("", "_low", "_high", "_floor"))]
    )


def readable_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """A `gap_summary` as people read it, in points, each gap beside chance."""
    shown = pd.DataFrame({"task": [config.task_name(row) for _, row in rows.iterrows()]})
    shown = shown.assign(method=[*rows["method"]], density=[*rows["density"]])
    for name, title in GAPS.items():
        shown[title] = [mean_text(row, name, 100) for _, row in rows.iterrows()]
        shown[f"chance {title.split()[-1]}"] = [*(100 * rows[f"{name}_floor"]).round(1)]
    return shown.assign(n=[*rows["n"]])


def _ends(group: pd.DataFrame, names: Iterable[str]) -> dict[str, float]:
    """Mean and ends of the t interval of some columns."""
    row: dict[str, float] = {}
    for name in names:
        interval = metrics.mean_interval(group[name])
        row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row


def _matrices(cells: pd.DataFrame) -> Counts:
    """The counts of one run's cells as arrays (classes, groups), in the order of the rows."""
    shape = cells["class"].nunique(), cells["group"].nunique()
    return Counts(*(cells[name].to_numpy().reshape(shape) for name in ("correct", "total")))


def _gaps(correct: np.ndarray, total: np.ndarray) -> dict[str, float]:
    chosen = (correct[1] + total[0] - correct[0], total.sum(0))
    rates = [(correct[label], total[label]) for label in (0, 1)]
    found = {name: getattr(metrics, f"{name}_gap")(correct, total) for name in GAPS}
    floors = zip(GAPS, ([rates[1]], rates, [chosen]), strict=True)
    return found | {f"{name}_floor": _gap_floor(parts) for name, parts in floors}


def _gap_floor(parts: list[tuple[np.ndarray, np.ndarray]], draws: int = 2000, seed: int = 0) -> float:
    """The mean over draws of the largest gap among some rates that are the same for all groups; (groups,) hits and images."""
    generator, found = np.random.default_rng(seed), []
    for hits, n in parts:
        rates = generator.binomial(n, hits.sum() / n.sum(), (draws, len(n))) / np.where(n > 0, n, np.nan)
        found.append(rates.max(1) - rates.min(1))
    return float(np.max(found, axis=0).mean())


def readable_groups(frame: pd.DataFrame, seed: int, split: str = "test") -> pd.DataFrame:
    """Each group's accuracy in one seed's runs with its 95 % Wilson interval, in percent; a row a group, a column a method."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    own = frame[(frame["split"] == split) & (frame["seed"] == seed)]
    cells = own.groupby([*config.TASK, "group", "method"], sort=False)[["correct", "total"]].sum().reset_index()
    for _, cell in cells.iterrows():
        share, key = metrics.share_interval(cell["correct"], cell["total"]), (config.task_name(cell), cell["group"])
        row = found.setdefault(key, {"task": key[0], "group": key[1], "images": share.n})
        row[cell["method"]] = f"{100 * share.mean:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
    return pd.DataFrame([*found.values()])


def readable_smallest(groups: pd.DataFrame) -> pd.DataFrame:
    """What the smallest group of each task gained on the dense net, in points with 95 % t intervals; from `by_group`."""
    smallest = groups["images"] == groups.groupby(config.TASK, sort=False)["images"].transform("min")
    rows = groups[smallest & (groups["method"] != "dense")]
    ends = [rows[name] * 100 for name in ("gained", "gained_low", "gained_high")]
    told = [f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" for mean, low, high in zip(*ends, strict=True)]
    shown = pd.DataFrame({"task": [config.task_name(row) for _, row in rows.iterrows()]})
    shown = shown.assign(smallest=[*rows["group"]], images=[*rows["images"]], method=[*rows["method"]])
    return shown.assign(**{"points gained on the dense net": told}, n=[*rows["n"]])
