"""What a table says of groups: accuracy by group, what pruning took from each, binary tasks'
gaps.
"""

from typing import Any

import numpy as np
import pandas as pd

from fairlth import config, metrics
from fairlth.analysis.records import KEYS
from fairlth.analysis.summaries import means, told
from fairlth.metrics import Counts

GAPS = {  # of a binary task, see metrics -> what they are called
    "equal_opportunity": "equal opportunity",
    "equalized_odds": "equalised odds",
    "demographic_parity": "demographic parity",
}
POSITIVE = {"gender": "female"}  # target -> its positive class; else the last name of the two
DRAWS = 2000  # of what chance alone shows
BY = [key for key in KEYS if key != "seed"]


def by_group(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and group: its images, its accuracy, what it `gained` on the dense net.

    Means over seeds with the ends of 95 % t intervals and n, fractions; `gained` is paired by seed,
    below 0 where pruning has cost accuracy, and nan where the dense net was not run. All seeds have
    the same test images: intervals are those of training anew.
    """
    cell = [*KEYS, "group"]
    own = frame[frame["split"] == "test"].groupby(cell, dropna=False, sort=False)
    rows = own[["correct", "total"]].sum().reset_index()
    rows["accuracy"] = rows["correct"] / rows["total"]
    pair = [*config.TASK, "seed", "group"]
    dense = rows.loc[rows["method"] == "dense", [*pair, "accuracy"]]
    rows = rows.merge(dense.rename(columns={"accuracy": "dense"}), on=pair, how="left")
    rows["gained"] = rows["accuracy"] - rows["dense"]
    found = []
    for keys, group in rows.groupby([*BY, "group"], dropna=False, sort=False):
        row = dict(zip([*BY, "group"], keys, strict=True))
        row |= {"images": int(group["total"].max()), "n": len(group)}
        found.append(row | means(group, ("accuracy", "gained")))
    return pd.DataFrame(found)


def gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run of a binary task whose groups are not its classes: its gaps, and chance.

    Fractions, 0 is fair. `positive` is the positive class: that of POSITIVE, else the last of the
    two names in alphabetical order. `<gap>_floor` is the mean gap of a classifier with the run's
    true and false positive rates for all groups alike (one rate of positives for demographic
    parity), by simulation.
    """
    found: list[dict[str, Any]] = []
    for keys, cells in frame[frame["split"] == "test"].groupby(KEYS, dropna=False, sort=False):
        row = dict(zip(KEYS, keys, strict=True))
        classes = sorted(set(cells["class"]))
        if row["group_by"] == "class" or len(classes) != 2:
            continue
        positive = POSITIVE.get(row["target"], classes[-1])
        counts = _matrices(cells, sorted(classes, key=positive.__eq__))
        found.append(row | {"positive": positive} | _gaps(*counts))
    floors = [f"{name}_floor" for name in GAPS]
    return pd.DataFrame(found, columns=[*KEYS, "positive", *GAPS, *floors])


def gap_summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: each gap's mean over seeds, the ends of its 95 % t interval, its floor.

    Args:
        runs: from `gaps`.
    """
    by = [*BY, "positive"]
    found = []
    for keys, group in runs.groupby(by, dropna=False, sort=False):
        row = dict(zip(by, keys, strict=True)) | {"n": len(group)} | means(group, GAPS)
        found.append(row | {f"{name}_floor": float(group[f"{name}_floor"].mean()) for name in GAPS})
    ends = [f"{name}{end}" for name in GAPS for end in ("", "_low", "_high", "_floor")]
    return pd.DataFrame(found, columns=[*by, "n", *ends])


def readable_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """A `gap_summary` as people read it, in points, each gap beside chance."""
    shown = rows[[*config.TASK, "method", "density", "positive"]].reset_index(drop=True)
    for name, title in GAPS.items():
        shown[title] = told(rows, name, "±.1f", 100)
        shown[f"chance {title.split()[-1]}"] = [*(100 * rows[f"{name}_floor"]).round(1)]
    shown["n"] = [*rows["n"]]
    return shown


def _matrices(cells: pd.DataFrame, classes: list[str]) -> Counts:
    """One run's counts as arrays (classes, groups), in the order of `classes` and of groups'
    names.
    """
    wide = cells.set_index(["class", "group"])[["correct", "total"]].unstack("group")  # noqa: PD010
    ordered = wide.loc[classes]
    return Counts(ordered["correct"].to_numpy(), ordered["total"].to_numpy())


def _gaps(correct: np.ndarray, total: np.ndarray) -> dict[str, float]:
    """The gaps of one run and their floors, from counts (2, groups), the positive class last."""
    found = {name: getattr(metrics, f"{name}_gap")(correct, total) for name in GAPS}
    chosen = (correct[1] + total[0] - correct[0], total.sum(0))
    false, true = [(correct[label], total[label]) for label in (0, 1)]
    parts = {
        "equal_opportunity": [true],
        "equalized_odds": [false, true],
        "demographic_parity": [chosen],
    }
    return found | {f"{name}_floor": _gap_floor(parts[name]) for name in GAPS}


def _gap_floor(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The mean over DRAWS of the largest gap among some rates that are the same for all groups.

    Each part is (groups,) hits and images.
    """
    generator = np.random.default_rng(0)
    found = []
    for hits, n in parts:
        drawn = generator.binomial(n, hits.sum() / n.sum(), (DRAWS, len(n)))
        rates = drawn / np.where(n > 0, n, np.nan)
        found.append(rates.max(1) - rates.min(1))
    return float(np.max(found, axis=0).mean())


def readable_groups(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each group's accuracy in one seed's runs with its 95 % Wilson interval, in percent.

    One row per task, density and group, one column per method; the dense net stands at each
    density of its task.
    """
    own = frame[(frame["split"] == "test") & (frame["seed"] == seed) & frame["pressure"].isna()]
    by = [*config.TASK, "group", "method", "density"]
    cells = own.groupby(by, sort=False)[["correct", "total"]].sum().reset_index()
    cells["task"] = [config.task_name(cell) for _, cell in cells.iterrows()]
    found: dict[tuple[str, float, str], dict[str, Any]] = {}
    for task, rows in cells.groupby("task", sort=False):
        densities = sorted(set(rows.loc[rows["method"] != "dense", "density"])) or [1.0]
        for density in densities[::-1]:
            here = rows[(rows["density"] == density) | (rows["method"] == "dense")]
            for _, cell in here.iterrows():
                share = metrics.share_interval(cell["correct"], cell["total"])
                row = {"task": task, "density": density, "group": cell["group"], "images": share.n}
                key = (str(task), density, cell["group"])
                found.setdefault(key, row)[cell["method"]] = f"{share.times(100):.1f}"
    return pd.DataFrame([*found.values()])


def readable_smallest(groups: pd.DataFrame) -> pd.DataFrame:
    """What each task's smallest group gained on the dense net, in points with 95 % t intervals.

    Args:
        groups: from `by_group`.
    """
    least = groups.groupby(config.TASK, sort=False)["images"].transform("min")
    rows = groups[(groups["images"] == least) & (groups["method"] != "dense")]
    shown = rows[[*config.TASK, "method", "density"]].reset_index(drop=True)
    shown["smallest group"] = [*rows["group"]]
    shown["images"] = [*rows["images"]]
    shown["points gained on the dense net"] = told(rows, "gained", "+.1f", 100)
    shown["n"] = [*rows["n"]]
    return shown
