"""Comparison at equal accuracy: a method's CWV against a rival's whole curve of shifted class
biases.

Any method can lower CWV by giving up accuracy: a shift of the class biases of a finished ticket
trades one for the other, for nothing. So Ballot is compared with each rival where both have the
same accuracy.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fairlth import config
from fairlth.analysis.paired_gains import PAPER, by_setting, improvements, log_ratio, named
from fairlth.analysis.premise import geometric
from fairlth.analysis.schema import SHIFTS, check_one_preset
from fairlth.analysis.summaries import SETTING, interval_of, per_run, told

BUDGET = "lth_long"  # the plain ticket trained as long as Ballot's: an even fight
RIVALS = (BUDGET, "lth_rate", "lth", "constrained", "fairgrape")
PAIR = [*SETTING, "seed"]
COLUMNS = [
    *SETTING,
    "settings",
    "rival",
    *("ratio", "low", "high", "n", "zeros", "verdict", "spent", "rival_spent"),
]
RATIO = "CWV divided by the rival's"
RECIPE = (
    "What to do today: prune in short levels, make the last training long, and shift the class "
    "biases on validation images; use Ballot's feedback where it is shown to add to that."
)


def shifted(frame: pd.DataFrame) -> pd.DataFrame:
    """`per_run` on test images as trained (`shift` 0) and with biases shifted by each of SHIFTS.

    Accuracy and CWV alone.
    """
    names = ("accuracy", "cwv")
    splits = {"test": 0.0} | {f"test+{share:g}": share for share in SHIFTS}
    points = [per_run(frame, split, names).assign(shift=share) for split, share in splits.items()]
    return pd.concat([rows for rows in points if len(rows)] or points[:1], ignore_index=True)


def at_equal_accuracy(points: pd.DataFrame, control: str = "lth") -> pd.DataFrame:
    """Every point's CWV over that of a control's curve at the same accuracy, in a column
    `relative`.

    Below 1 is fairer. The curve is that of the control with the same task, density and seed, along
    the shift of its class biases: straight lines in log CWV; beyond its ends the end counts. Where
    two of its points have one accuracy, the fairer counts. `relative` is nan where a CWV of exactly
    0 leaves no ratio. Points without a curve are left out.

    Args:
        points: from `shifted`, in any order.
        control: a method.

    Raises:
        ValueError: points are of several presets.
    """
    check_one_preset(points)
    own = points[(points["method"] == control) & points["pressure"].isna()]
    curves = {keys: curve.groupby("accuracy")["cwv"].min() for keys, curve in own.groupby(PAIR)}
    found = []
    for keys, here in points.groupby(PAIR, sort=False):
        if keys in curves:
            theirs = pd.Series(_along(curves[keys], here["accuracy"]), index=here.index)
            found.append(here.assign(relative=np.exp(log_ratio(here["cwv"], theirs))))
    return pd.concat(found, ignore_index=True) if found else points.iloc[:0].assign(relative=[])


def _along(curve: pd.Series, accuracy: pd.Series) -> np.ndarray:
    """The CWV of a curve at some accuracies; 0 between a point whose CWV is 0 and the next."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(curve.to_numpy())
        at = np.interp(accuracy, curve.index, logs)
    return np.nan_to_num(np.exp(at), nan=0.0)


def relative_summary(points: pd.DataFrame) -> pd.DataFrame:
    """Geometric means over seeds of `relative`, with 95 % t intervals of the logarithm and n.

    Beside them the means of accuracy, CWV, cost and spent, over the same seeds.

    Args:
        points: from `at_equal_accuracy`.
    """
    by = [*config.TASK, "method", "density", "pressure", "shift"]
    found = []
    for keys, group in points.groupby(by, dropna=False, sort=False):
        known = group[group["relative"].notna()]
        interval = geometric(np.log(known["relative"]))
        row = dict(zip(by, keys, strict=True)) | {"n": interval["n"]}
        averaged = [name for name in ("cost", "spent", "accuracy", "cwv") if name in known]
        row |= known[averaged].mean().to_dict()
        row |= {"relative": interval["ratio"]}
        row |= {"relative_low": interval["low"], "relative_high": interval["high"]}
        found.append(row)
    averages = ["n", "cost", "spent", "accuracy", "cwv"]
    relatives = ["relative", "relative_low", "relative_high"]
    return pd.DataFrame(found, columns=None if found else [*by, *averages, *relatives])


def readable_relative(rows: pd.DataFrame) -> pd.DataFrame:
    """A `relative_summary` as people read it."""
    shown = rows[[*config.TASK, "method", "density", "shift"]].reset_index(drop=True)
    shown["accuracy %"] = [*(100 * rows["accuracy"]).round(1)]
    shown["CWV x1e4"] = [*(1e4 * rows["cwv"]).round(1)]
    shown["CWV at equal accuracy"] = told(rows, "relative", ".2f")
    shown["n"] = [*rows["n"]]
    shown["cost"] = [*rows["cost"].round(2)]
    if "spent" in rows and rows["spent"].notna().any():
        shown["spent"] = [*rows["spent"].round(2)]
    return shown


def pairs(points: pd.DataFrame, rival: str) -> pd.DataFrame:
    """Ballot as trained against a rival's curve at the same accuracy, one row per pair of runs.

    `log` is the logarithm of the ratio of CWVs, nan where one is exactly 0; `spent` and
    `rival_spent` are what both took, in dense trainings.
    """
    own = points[points["pressure"].isna()]
    mine = own[(own["method"] == "ballot") & (own["shift"] == 0)]
    theirs = own[own["method"] == rival]
    both = at_equal_accuracy(pd.concat([mine, theirs]), rival).query("method == 'ballot'")
    spent = theirs.loc[theirs["shift"] == 0, [*PAIR, "spent"]]
    both = both.merge(spent.rename(columns={"spent": "rival_spent"}), on=PAIR, how="left")
    return both.assign(log=np.log(both["relative"].astype(float)))


def duels(points: pd.DataFrame, rivals: Iterable[str] = RIVALS) -> pd.DataFrame:
    """Ballot as trained against each rival's curve of shifted biases at the same accuracy.

    One row per rival over all tasks and densities, and one for each of them: `ratio`, the geometric
    mean of Ballot's CWV over the rival's (below 1 Ballot is fairer), with the ends of its 95 % t
    interval over seeds (over all, of seeds that lack no task or density), n, and what both spent.
    The verdict is "better" where the interval is below 1, "worse" where it is above, else "open".
    Pairs of which one CWV is 0 are left out and counted in `zeros`.

    Args:
        points: from `shifted`.
        rivals: methods; one without runs has no rows.
    """
    found = []
    for rival in rivals:
        both = pairs(points, rival)
        for row, cells, logs in by_setting(both, "log"):
            row |= {"rival": rival} | geometric(logs)
            row |= cells[["spent", "rival_spent"]].mean().to_dict()
            row |= {"zeros": int(cells["log"].isna().sum())}
            found.append(row | {"verdict": verdict(row["low"], row["high"])})
    return pd.DataFrame(found, columns=COLUMNS)


def verdict(low: float, high: float) -> str:
    """The rule of `duels` for an interval of the ratio of CWVs."""
    if high < 1:
        return "better"
    return "worse" if low > 1 else "open"


def readable_duels(rows: pd.DataFrame) -> pd.DataFrame:
    """Duels as people read them; what both spent is left out where no row has it."""
    shown = named(rows)
    shown.insert(0, "rival", [*rows["rival"]])
    shown[RATIO] = told(rows, "ratio", ".2f")
    shown["n"] = [*rows["n"]]
    shown["verdict"] = [*rows["verdict"]]
    if rows["spent"].notna().any():
        shown["spent"] = [*rows["spent"].round(2)]
        shown["rival spent"] = [*rows["rival_spent"].round(2)]
    return shown


def even_fight(rows: pd.DataFrame) -> str:
    """One sentence: is Ballot fairer at equal accuracy and epochs, by rule; else what to do today.

    Args:
        rows: from `duels`.
    """
    overall = rows[(rows["rival"] == BUDGET) & (rows["dataset"] == "all")]
    if overall.empty:
        lacking = f"not run, the table does not pair Ballot with {BUDGET}"
        return f"At equal accuracy and epochs: {lacking}. {RECIPE}"
    row = overall.iloc[0]
    words = {
        "better": "Ballot is fairer at equal accuracy and epochs",
        "worse": "Ballot is less fair at equal accuracy and epochs",
        "open": "Ballot is not shown to be fairer at equal accuracy and epochs",
    }
    times = f"its CWV is {interval_of(row, 'ratio'):.2f} times that of {BUDGET}"
    over = f"settings: {row['settings']}, seeds: {row['n']}"
    if np.isfinite([row["spent"], row["rival_spent"]]).all():
        spent = f"{row['spent']:.2f} by Ballot, {row['rival_spent']:.2f} by {BUDGET}"
        over += f", dense trainings spent: {spent}"
    said = f"{words[row['verdict']]}: {times} ({over})."
    return said if row["verdict"] == "better" else f"{said} {RECIPE}"


def remarks(rows: pd.DataFrame, rivals: Iterable[str] = RIVALS) -> str:
    """Sentences on what a table lacks for this comparison; "" where it lacks nothing.

    Args:
        rows: from `duels`.
        rivals: those that it was asked for.
    """
    found = []
    if absent := [rival for rival in rivals if rival not in set(rows["rival"])]:
        found.append(f"The table does not pair Ballot with {', '.join(absent)}.")
    if len(rows) and rows["spent"].isna().all():
        found.append("The table has no column `spent`, so what both took cannot be compared.")
    if zeros := int(rows.loc[rows["dataset"] != "all", "zeros"].sum()):
        found.append(f"{zeros} pairs without a ratio, since a CWV is exactly 0, are left out.")
    return " ".join(found)


def heat_cells(runs: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Ballot against each rival of the paper and, at equal accuracy, `lth_long`, by task and model.

    One row per data set and task, model and rival: a `value` over all densities (of seeds that lack
    none), with the ends of its 95 % t interval and n. Against the paper's rivals it is the mean
    gain of pairs, a fraction, against `lth_long` the ratio of CWVs at equal accuracy.

    Args:
        runs: from `per_run`.
        points: from `shifted`.
    """
    found = []
    for keys, own in runs.groupby(config.TASK, sort=False):
        task = dict(zip(config.TASK, keys, strict=True))
        here = points[np.logical_and.reduce([points[name] == task[name] for name in config.TASK])]
        gains = improvements(own[own["method"].isin([*PAPER, "ballot"])])
        even = duels(here, [BUDGET]).rename(columns={"ratio": "value"})
        both = pd.concat([gains.rename(columns={"mean": "value"}), even])
        name = config.task_name(task).removesuffix(f", {task['model']}")
        overall = both[both["dataset"] == "all"]
        found.append(overall.assign(task=name, model=task["model"]))
    columns = ["task", "model", "rival", "value", "low", "high", "n"]
    rows = pd.concat(found) if found else pd.DataFrame(columns=columns)
    return rows[columns].reset_index(drop=True)
