"""Comparison at equal accuracy: a method's CWV against a rival's whole curve of shifted class biases."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fairlth import config, metrics
from fairlth.gains import readable_gains
from fairlth.results import SHIFTS, per_run

RIVALS = ("lth", "lth_rate", "constrained", "fairgrape")  # whose curves of shifted biases Ballot is held against


def shifted(frame: pd.DataFrame) -> pd.DataFrame:
    """`per_run` on the test split as trained (`shift` 0) and with the class biases shifted by each of SHIFTS."""
    splits = {"test": 0.0} | {f"test+{share:g}": share for share in SHIFTS}
    return pd.concat([per_run(frame, split).assign(shift=share) for split, share in splits.items()], ignore_index=True)


def at_equal_accuracy(points: pd.DataFrame, control: str = "lth") -> pd.DataFrame:
    """Every point's CWV over that of a control's curve at the same accuracy, in a column `relative`; below 1 is fairer.

    The curve is that of the control with the same task, density and seed, along the shift of its class biases: straight lines
    in log CWV; beyond its ends the end counts. Points without a curve are left out.

    Args:
        points: from `shifted`.
        control: a method.
    """
    pair, found = [*config.TASK, "density", "seed"], []
    own = points[(points["method"] == control) & points["pressure"].isna()]
    curves = {keys: curve.sort_values("accuracy") for keys, curve in own.groupby(pair)}
    for keys, here in points.groupby(pair, sort=False):
        if (curve := curves.get(keys)) is not None:
            at = np.interp(here["accuracy"], curve["accuracy"], np.log(curve["cwv"]))
            found.append(here.assign(relative=here["cwv"] / np.exp(at)))
    return pd.concat(found, ignore_index=True) if found else points.iloc[:0].assign(relative=[])


def relative_summary(points: pd.DataFrame) -> pd.DataFrame:
    """Geometric means over seeds of `relative`, with 95 % t intervals (of the logarithm) and n, and the mean cost.

    Args:
        points: from `at_equal_accuracy`.
    """
    found, by = [], [*config.TASK, "method", "density", "pressure", "shift"]
    for keys, group in points.groupby(by, dropna=False, sort=False):
        interval = metrics.mean_interval(np.log(group["relative"]))
        row = dict(zip(by, keys, strict=True)) | {"n": len(group), "cost": float(group["cost"].mean())}
        row |= {"accuracy": float(group["accuracy"].mean()), "cwv": float(group["cwv"].mean())}
        ends = {"relative": interval.mean, "relative_low": interval.low, "relative_high": interval.high}
        found.append(row | {name: float(np.exp(value)) for name, value in ends.items()})
    return pd.DataFrame(found)


def readable_relative(rows: pd.DataFrame) -> pd.DataFrame:
    """A `relative_summary` as people read it."""
    ends = [f"{low:.2f} to {high:.2f}" for low, high in zip(rows["relative_low"], rows["relative_high"], strict=True)]
    tasks = [config.task_name(row) for _, row in rows.iterrows()]
    shown = rows[["method", "density", "shift"]].assign(
        task=tasks,
        accuracy=(100 * rows["accuracy"]).round(1),
        cwv=(1e4 * rows["cwv"]).round(1),
        relative=rows["relative"].round(2),
    )
    shown = shown.assign(interval=ends, n=rows["n"], cost=rows["cost"].round(2)).reset_index(drop=True)
    return shown.rename(
        columns={"accuracy": "accuracy %", "cwv": "CWV x1e4", "relative": "CWV at equal accuracy", "interval": "95 % interval"}
    )


def duels(points: pd.DataFrame, rivals: Iterable[str] = RIVALS, ours: str = "ballot") -> pd.DataFrame:
    """`ours` as trained against each rival's curve of shifted biases at the same accuracy; one row per rival, task and density.

    Columns of `improvements` (`mean` is 1 less the geometric mean of the ratio of CWVs, fractions) and a verdict: "better"
    where the interval is above 0, "worse" where it is below, else "open".

    Args:
        points: from `shifted`.
        rivals: methods.
    """
    mine, found = points[(points["method"] == ours) & points["pressure"].isna() & (points["shift"] == 0)], []
    for rival in rivals:
        both = at_equal_accuracy(pd.concat([mine, points[points["method"] == rival]]), rival)
        for _, row in relative_summary(both[both["method"] == ours]).iterrows():
            ends = {
                "mean": 1 - row["relative"],
                "low": 1 - row["relative_high"],
                "high": 1 - row["relative_low"],
                "n": row["n"],
            }
            verdict = "better" if ends["low"] > 0 else "worse" if ends["high"] < 0 else "open"
            found.append(row[[*config.TASK, "density"]].to_dict() | {"rival": rival} | ends | {"verdict": verdict})
    return pd.DataFrame(found, columns=[*config.TASK, "density", "rival", "mean", "low", "high", "n", "verdict"])


def readable_duels(rows: pd.DataFrame) -> pd.DataFrame:
    """Duels as people read them."""
    return (
        readable_gains(rows)
        .rename(columns={"CWV lower by": "CWV at equal accuracy lower by"})
        .assign(verdict=[*rows["verdict"]])
    )
