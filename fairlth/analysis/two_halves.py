"""Selection crossed with training: what each half of Ballot adds to what it changes."""

from typing import Any

import numpy as np
import pandas as pd

from fairlth import metrics
from fairlth.analysis.paired_gains import named, whole_seeds
from fairlth.analysis.schema import check_one_preset
from fairlth.analysis.summaries import SETTING, interval_of, told

FACTORS = {  # conflict selects, training is refined -> method
    "00": "lth_rate",
    "10": "ballot_select",
    "01": "ballot_refine",
    "11": "ballot",
}
EFFECT_COLUMNS = [*SETTING, "effect", *metrics.Interval._fields, "share", "share_low", "share_high"]


def factorial(runs: pd.DataFrame) -> pd.DataFrame:
    """Selection crossed with training, 2 x 2: their effects on the logarithm of the CWV.

    All is paired by task, density and seed. With y_st the logarithm for selection s (1: by
    conflict) and training t (1: refined) of one seed's four tickets (FACTORS),

        selection   = (y_10 - y_00 + y_11 - y_01) / 2
        training    = (y_01 - y_00 + y_11 - y_10) / 2
        interaction = (y_11 - y_01 - y_10 + y_00) / 2
        both        = y_11 - y_00 = selection + training

    so that the two main effects add up to what both switches change together.

    Returns one row per task, density and effect, and per effect over all of them (a seed's mean,
    over seeds that lack none): mean and 95 % t interval over seeds, n; below 0 is fairer, 0 no
    effect. `share`, `share_low` and `share_high` are what part of `both` an effect is, see
    `part_of`. A ticket with a CWV of exactly 0 has no logarithm: its seed is left out of its row
    and of the rows over all, and n does not count it. No rows where no seed has all four tickets.

    Raises:
        ValueError: runs are of several presets.
    """
    check_one_preset(runs)
    own = runs[runs["pressure"].isna() & runs["method"].isin(FACTORS.values())]
    cells = own.pivot(index=[*SETTING, "seed"], columns="method", values="cwv")  # noqa: PD010
    run = cells.reindex(columns=[*FACTORS.values()]).dropna()
    if run.empty:
        return pd.DataFrame(columns=EFFECT_COLUMNS)
    logs = np.log(run.where(run > 0))
    effects = _effects(*(logs[method] for method in FACTORS.values()))
    whole = {name: whole_seeds(effects.reset_index(), name) for name in effects}
    found = []
    for keys, one in effects.groupby(SETTING):
        head = dict(zip(SETTING, keys, strict=True))
        found += [head | row for row in _effect_rows(one.dropna())]
    found += [{"dataset": "all"} | row for row in _effect_rows(pd.DataFrame(whole))]
    return pd.DataFrame(found)


def _effects(
    plain: pd.Series, selected: pd.Series, refined: pd.Series, both: pd.Series
) -> pd.DataFrame:
    """The four effects of `factorial`, a row per task, density and seed."""
    effects = {
        "selection": (selected - plain + both - refined) / 2,
        "training": (refined - plain + both - selected) / 2,
        "interaction": (both - refined - selected + plain) / 2,
        "both": both - plain,
    }
    return pd.DataFrame(effects)


def _effect_rows(effects: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per effect with its mean, interval and share, from a column of values each."""
    found = []
    for name, values in effects.items():
        share = part_of(values, effects["both"])
        ends = {"share": share.mean, "share_low": share.low, "share_high": share.high}
        found.append({"effect": name} | metrics.mean_interval(values)._asdict() | ends)
    return found


def part_of(part: Any, whole: Any) -> metrics.Interval:
    """Mean of `part` over mean of `whole`, both (seeds,), with Fieller's 95 % interval.

    1 is all of it. The interval holds the shares r for which the mean of part - r whole may be 0,
    by Student's t interval. nan where the whole's own interval holds 0, since then there is nothing
    of which a share could be had.

    Source: Fieller, 1954 ("Some problems in interval estimation").
    """
    from scipy import stats

    part = np.asarray(part, float)
    whole = np.asarray(whole, float)
    n = len(whole)
    nothing = metrics.Interval(np.nan, np.nan, np.nan, n)
    if n < 2:
        return nothing
    squared_t = stats.t.ppf(0.975, n - 1) ** 2
    (v_part, v_both), (_, v_whole) = np.cov(part, whole) * squared_t / n
    a = whole.mean() ** 2 - v_whole
    b = part.mean() * whole.mean() - v_both
    c = part.mean() ** 2 - v_part
    if a <= 0:
        return nothing
    root = np.sqrt(max(b**2 - a * c, 0.0))
    share = part.mean() / whole.mean()
    return metrics.Interval(share, float((b - root) / a), float((b + root) / a), n)


def readable_factorial(rows: pd.DataFrame) -> pd.DataFrame:
    """Effects on log CWV, as a factor of CWV, and as a share of what both halves change."""
    factor = np.exp(rows[["mean", "low", "high"]]).assign(n=rows["n"])
    shown = named(rows)
    shown["effect"] = [*rows["effect"]]
    shown["log CWV"] = told(rows, "mean", "+.2f")
    shown["CWV times"] = told(factor, "mean", ".2f")
    shown["share of both"] = told(rows, "share", ".0%")
    shown["n"] = [*rows["n"]]
    return shown


def in_words(rows: pd.DataFrame) -> str:
    """A line per main effect over all tasks and densities, by rule, from `factorial`."""
    if rows.empty:
        four = ", ".join(FACTORS.values())
        return f"Selection and training cannot be compared: no seed has runs of all of {four}."
    overall = rows[rows["dataset"] == "all"].set_index("effect")
    lines = []
    for name in ("selection", "training"):
        row = overall.loc[name]
        change = interval_of(row)
        share = interval_of(row, "share")
        part = "no share can be told" if np.isnan(share.mean) else f"{share:.0%} of the whole"
        lines.append(f"{name} {_changed(change)}: {change:+.2f} on its log, {part}")
    return "\n".join(lines)


def _changed(change: metrics.Interval) -> str:
    if change.high < 0:
        return "lowers the CWV"
    return "raises the CWV" if change.low > 0 else "is not shown to change the CWV"


def halves(runs: pd.DataFrame) -> pd.DataFrame:
    """What each half of Ballot takes off the CWV, over all tasks and densities, as `claims` has it.

    The paper claims that unfairness comes from both, without a number. A half is "shown" where the
    interval is above 0.
    """
    words = {"selection": "conflict in the selection", "training": "refined training"}
    rows = factorial(runs)
    overall = rows[rows["dataset"] == "all"].set_index("effect")
    settings = int(((rows["dataset"] != "all") & (rows["effect"] == "both")).sum())
    found = []
    for effect, name in words.items():
        row: dict[str, Any] = {"claim": f"CWV lower by {name}", "n": 0, "verdict": "not run"}
        row |= dict.fromkeys(("paper", "ours", "low", "high"), np.nan) | {"settings": 0}
        if not rows.empty:
            log = overall.loc[effect]
            row |= {"ours": 1 - np.exp(log["mean"]), "n": int(log["n"]), "settings": settings}
            row |= {"low": 1 - np.exp(log["high"]), "high": 1 - np.exp(log["low"])}
            row["verdict"] = "shown" if row["low"] > 0 else "not shown"
        found.append(row)
    columns = ["claim", "paper", "ours", "low", "high", "n", "settings", "verdict"]
    return pd.DataFrame(found, columns=columns)


def verdict(rows: pd.DataFrame) -> str:
    """One line on the paper's claim that both halves matter, from `halves`."""
    shown = [
        name.removeprefix("CWV lower by ") for name in rows.loc[rows["verdict"] == "shown", "claim"]
    ]
    said = "not reproduced, neither was shown"
    if (rows["verdict"] == "not run").all():
        said = "not run"
    elif len(shown) == 1:
        said = f"partly, shown for {shown[0]} alone"
    elif shown:
        said = "reproduced"
    return f"Claim that unfairness comes from both the selection and the training: {said}."
