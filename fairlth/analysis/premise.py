"""The paper's premise: is a pruned network less fair than the dense net it came from?"""

from typing import Any

import numpy as np
import pandas as pd

from fairlth import config, metrics
from fairlth.analysis.paired_gains import by_setting, log_ratio, named
from fairlth.analysis.schema import check_one_preset
from fairlth.analysis.summaries import SETTING, interval_of, told

PLAIN = ("lth", "lth_rate", "magnitude")  # pruned with no thought of fairness
COLUMNS = [*SETTING, "settings", "method", "ratio", "low", "high", "n", "zeros", "verdict"]


def beside_dense(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per pruned network, task, density and seed: its CWV beside the dense net's.

    `log` is the logarithm of their ratio, nan where one of the two is exactly 0.

    Raises:
        ValueError: runs are of several presets.
    """
    check_one_preset(runs)
    pair = [*config.TASK, "seed"]
    runs = runs[runs["pressure"].isna()]
    dense = runs.loc[runs["method"] == "dense", [*pair, "cwv"]].rename(columns={"cwv": "dense"})
    pruned = runs.loc[runs["method"].isin(PLAIN), [*pair, "method", "density", "cwv"]]
    both = pruned.rename(columns={"cwv": "pruned"}).merge(dense, on=pair)
    return both.assign(log=log_ratio(both["pruned"], both["dense"]))


def over_dense(runs: pd.DataFrame) -> pd.DataFrame:
    """A pruned network's CWV over the dense net's of its seed, and a verdict by rule.

    One row per method over all tasks and densities, and one for each of them: `ratio`, the
    geometric mean over seeds (over all, a seed's mean over its tasks and densities, of seeds that
    lack none), the ends of the 95 % t interval of its logarithm, and n. The verdict is "less fair"
    where the interval is above 1, "fairer" where it is below, else "not shown".

    A pair of which one CWV is exactly 0 has no ratio. It is left out and counted in `zeros`; over
    all, its seed is left out.
    """
    both = beside_dense(runs)
    found = []
    for method in [name for name in PLAIN if name in set(both["method"])]:
        own = both[both["method"] == method]
        for row, cells, logs in by_setting(own, "log"):
            row |= {"method": method, "zeros": int(cells["log"].isna().sum())} | geometric(logs)
            found.append(row | {"verdict": verdict(row)})
    return pd.DataFrame(found, columns=COLUMNS)


def geometric(logs: pd.Series) -> dict[str, Any]:
    """Geometric mean with its 95 % t interval, from logarithms: ratio, low, high and n."""
    interval = metrics.mean_interval(logs)
    ends = {"ratio": interval.mean, "low": interval.low, "high": interval.high}
    return {name: float(np.exp(value)) for name, value in ends.items()} | {"n": interval.n}


def verdict(row: dict[str, Any]) -> str:
    """The rule of `over_dense` for one row."""
    if row["n"] == 0:
        return "no ratio"
    if row["low"] > 1:
        return "less fair"
    return "fairer" if row["high"] < 1 else "not shown"


def readable_premise(rows: pd.DataFrame) -> pd.DataFrame:
    """`over_dense` as people read it."""
    shown = named(rows)
    shown["method"] = [*rows["method"]]
    shown["CWV over the dense net's"] = told(rows, "ratio", ".2f")
    shown["n"] = [*rows["n"]]
    shown["verdict"] = [*rows["verdict"]]
    return shown


def in_words(rows: pd.DataFrame) -> str:
    """A line per method: over all tasks and densities, then in how many; and what was left out."""
    if rows.empty:
        return "Pruning alone: not run, the table has no dense net or no plain ticket."
    lines = []
    for method, own in rows.groupby("method", sort=False):
        overall = own[own["dataset"] == "all"].iloc[0]
        each = own.loc[own["dataset"] != "all", "verdict"]
        interval = interval_of(overall, "ratio")
        lines.append(
            f"Pruning alone, {method}: CWV {interval:.2f} times the dense net's, "
            f"n = {overall['n']} seeds: {overall['verdict']}; less fair in "
            f"{(each == 'less fair').sum()} of {len(each)} settings, "
            f"fairer in {(each == 'fairer').sum()}."
        )
    return "\n".join([*lines, *left_out(rows)])


def left_out(rows: pd.DataFrame) -> list[str]:
    """A sentence on the pairs without a ratio, by method, task and density, if there are some."""
    zero = rows[(rows["zeros"] > 0) & (rows["dataset"] != "all")]
    if zero.empty:
        return []
    parts = [
        f"{row['zeros']} of {row['method']} on {config.task_name(row)} at {row['density']:g}"
        for _, row in zero.iterrows()
    ]
    return [f"Pairs without a ratio, since a CWV is exactly 0, are left out: {'; '.join(parts)}."]
