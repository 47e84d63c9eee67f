"""Tables of counts as metrics: one row per run, one row per setting, and what methods cost."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from fairlth import config, metrics
from fairlth.analysis.records import KEYS
from fairlth.metrics import Interval

SETTING = [*config.TASK, "density"]
AVERAGED = ("accuracy", "mean_accuracy", "worst_accuracy", "cwv", "mcd")
FLOORS = ("cwv_floor", "mcd_floor")
METRICS = (*AVERAGED, *FLOORS)
SPENT = ("cost", "spent", "seconds", "shared_seconds", "memory")


def per_run(
    frame: pd.DataFrame, split: str = "test", names: Iterable[str] = METRICS
) -> pd.DataFrame:
    """One row per run with its metrics on a split and what it cost.

    Accuracies, CWV and MCD are fractions, each gap beside its noise floor. `spent` is nan where the
    table has no such column.

    Args:
        frame: a table of results, its rows in any order.
        split: "val", "test", or "test+s" for class biases shifted by s.
        names: of the metrics; floors take the longest.
    """
    wanted = [*names]
    own = frame[frame["split"] == split]
    number = own.groupby(KEYS, dropna=False, sort=False).ngroup()
    heads = own[~number.duplicated()].reindex(columns=[*KEYS, *SPENT, "feasible"])
    heads["pressure"] = heads["pressure"].astype(float)
    counts = own.groupby([number, own["group"]])[["correct", "total"]].sum()  # groups by name
    found = []
    for _, groups in counts.groupby(level=0):
        row = measures(groups["correct"], groups["total"], wanted)
        found.append(row | {"images": int(groups["total"].sum())})
    measured = pd.DataFrame(found, columns=[*wanted, "images"])
    return pd.concat([heads.reset_index(drop=True), measured], axis=1)


def measures(correct: Any, total: Any, names: Iterable[str] = METRICS) -> dict[str, float]:
    """Metrics of one run, all or some, from its counts per group, both of shape (groups,)."""
    right = np.asarray(correct)
    images = np.asarray(total)
    return {name: getattr(metrics, name)(right, images) for name in names}


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: each metric's mean over seeds, the ends of its 95 % t interval, and n.

    Args:
        runs: from `per_run`.
    """
    by = [key for key in KEYS if key != "seed"]
    found = []
    for keys, group in runs.groupby(by, dropna=False, sort=False):
        row = dict(zip(by, keys, strict=True))
        row |= {"n": len(group), "images": int(group["images"].max())}
        row |= means(group, AVERAGED)
        row |= {name: float(group[name].mean()) for name in (*FLOORS, "cost", "spent")}
        found.append(row)
    return pd.DataFrame(found)


def means(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, float]:
    """Means and ends of the t intervals of some columns, as `name`, `name_low` and `name_high`."""
    found: dict[str, float] = {}
    for name in names:
        interval = metrics.mean_interval(rows[name])
        found |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def interval_of(row: Any, name: str = "mean") -> Interval:
    """The interval in a row: `name` with `name_low` and `name_high`, else with `low` and `high`."""
    low, high = ("low", "high") if f"{name}_low" not in row else (f"{name}_low", f"{name}_high")
    return Interval(row[name], row[low], row[high], row["n"])


def told(rows: pd.DataFrame, name: str, form: str, scale: float = 1.0) -> list[str]:
    """The intervals of a column as text, a row each; `form` as `Interval` prints itself."""
    return [format(interval_of(row, name).times(scale), form) for _, row in rows.iterrows()]


def curves(summary: pd.DataFrame, density: float) -> pd.DataFrame:
    """The rows of a summary at one density, in the order of each method's pressure.

    From these accuracy-fairness curves are drawn. A column `knob` holds the pressure, the method's
    own where a run names none; methods without one have a single point.
    """
    rows = summary[(summary["density"] == density) | (summary["method"] == "dense")]
    default = {name: knob.default for name, knob in config.KNOBS.items()}
    own = rows["method"].map(default).astype(float)
    rows = rows.assign(knob=rows["pressure"].astype(float).fillna(own))
    return rows.sort_values("knob", kind="stable")


def readable(rows: pd.DataFrame) -> pd.DataFrame:
    """A summary as people read it: mean ± half the interval; what chance alone shows beside gaps.

    Accuracy and MCD are in points, CWV is in units of 10^-4. `spent` is left out where no row has
    it.
    """
    shown = rows[[*config.TASK, "method", "density"]].reset_index(drop=True)
    shown["accuracy %"] = told(rows, "accuracy", "±.1f", 100)
    for name, title, scale in (("cwv", "CWV x1e4", 1e4), ("mcd", "MCD points", 100)):
        shown[title] = told(rows, name, "±.1f", scale)
        floors = rows[f"{name}_floor"] * scale
        shown[f"{title.split()[0]} chance"] = [f"{floor:.1f}" for floor in floors]
    shown["n"] = [*rows["n"]]
    shown["cost"] = [*rows["cost"].round(2)]
    if rows["spent"].notna().any():
        shown["spent"] = [*rows["spent"].round(2)]
    return shown


def costs(runs: pd.DataFrame) -> pd.DataFrame:
    """What each method cost, medians over all its runs.

    `cost` and `spent` are dense trainings, by epochs and with all passes counted; seconds include
    the shared trainings that a run read; memory is the peak. `overhead` is seconds over `spent`
    times the dense net's seconds, over `cost` times them where the table has no `spent`: near 1,
    the count explains the time.
    """
    timed = runs.assign(seconds=runs["seconds"] + runs["shared_seconds"])
    rows = timed.groupby("method", sort=False)[["cost", "spent", "seconds", "memory"]].median()
    counted = rows["spent"].fillna(rows["cost"])
    rows["overhead"] = rows["seconds"] / counted / rows["seconds"].get("dense", np.nan)
    rows = rows.dropna(axis=1, how="all").round(2).reset_index()
    return rows.rename(columns={"memory": "peak MiB"})
