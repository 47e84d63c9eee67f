"""Selection crossed with training: how much of what Ballot changes comes from which of its halves."""

from typing import Any

import numpy as np
import pandas as pd

from fairlth import config, metrics

FACTORS = {
    "00": "lth_rate",
    "10": "ballot_select",
    "01": "ballot_refine",
    "11": "ballot",
}  # conflict selects, training is refined


def factorial(runs: pd.DataFrame, metric: str = "cwv") -> pd.DataFrame:
    """Selection crossed with training, 2 x 2: their effects on the logarithm of a metric, paired by task, density and seed.

    With y_st the logarithm for selection s (1: by conflict) and training t (1: refined) of one seed's four tickets (FACTORS),

        selection   = (y_10 - y_00 + y_11 - y_01) / 2
        training    = (y_01 - y_00 + y_11 - y_10) / 2
        interaction = (y_11 - y_01 - y_10 + y_00) / 2
        both        = y_11 - y_00 = selection + training

    so that the two main effects add up to what both switches change together.

    Returns one row per task, density and effect, and per effect over all of them (a seed's mean, over seeds that lack none):
    mean and 95 % t interval over seeds, n; below 0 is fairer, 0 no effect. `share`, `share_low` and `share_high` are what part
    of `both` an effect is, see `part_of`.

    Raises:
        ValueError: a cell of the table has no runs.
    """
    setting = [*config.TASK, "density"]
    own = runs[runs["pressure"].isna() & runs["method"].isin(FACTORS.values()) & (runs[metric] > 0)]
    if missing := [method for method in FACTORS.values() if method not in set(own["method"])]:
        raise ValueError(f"the 2 x 2 table has no runs of {', '.join(missing)}: run 10_motivation first.")
    cells = own.set_index([*setting, "seed", "method"])[metric].unstack("method").dropna()  # noqa: PD010
    effects = _effects(*(np.log(cells[method]) for method in FACTORS.values()))
    found = [dict(zip(setting, keys, strict=True)) | row for keys, one in effects.groupby(setting) for row in _effect_rows(one)]
    settings = effects.groupby("seed").size()
    whole = effects.groupby("seed").mean()[settings == settings.max()]
    return pd.DataFrame(found + [{"dataset": "all"} | row for row in _effect_rows(whole)])


def _effects(plain: pd.Series, selected: pd.Series, refined: pd.Series, both: pd.Series) -> pd.DataFrame:
    """The four effects of `factorial`, a row per seed."""
    return pd.DataFrame(
        {
            "selection": (selected - plain + both - refined) / 2,
            "training": (refined - plain + both - selected) / 2,
            "interaction": (both - refined - selected + plain) / 2,
            "both": both - plain,
        }
    )


def _effect_rows(effects: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    for name, values in effects.items():
        share = part_of(values, effects["both"])
        ends = {"share": share.mean, "share_low": share.low, "share_high": share.high}
        found.append({"effect": name} | metrics.mean_interval(values)._asdict() | ends)
    return found


def part_of(part: Any, whole: Any) -> metrics.Interval:
    """Mean of `part` over mean of `whole`, both (seeds,), with Fieller's 95 % interval; 1 is all of it.

    The interval holds the shares r for which the mean of part - r whole may be 0, by Student's t interval. nan where the
    whole's own interval holds 0, since then there is nothing of which a share could be had.

    Source: Fieller, 1954 ("Some problems in interval estimation").
    """
    from scipy import stats

    part, whole, n = np.asarray(part, float), np.asarray(whole, float), len(whole)
    if n < 2:
        return metrics.Interval(np.nan, np.nan, np.nan, n)
    (v_part, v_both), (_, v_whole) = np.cov(part, whole) * stats.t.ppf(0.975, n - 1) ** 2 / n
    a, b, c = whole.mean() ** 2 - v_whole, part.mean() * whole.mean() - v_both, part.mean() ** 2 - v_part
    if a <= 0:
        return metrics.Interval(np.nan, np.nan, np.nan, n)
    root = np.sqrt(max(b**2 - a * c, 0.0))
    return metrics.Interval(part.mean() / whole.mean(), float((b - root) / a), float((b + root) / a), n)


def readable_factorial(rows: pd.DataFrame) -> pd.DataFrame:
    """Effects as people read them: on log CWV, as a factor of the CWV, and as a share of what both change together."""
    task = rows["dataset"].where(rows["dataset"] == "all", [config.task_name(row) for _, row in rows.iterrows()])
    factor = np.exp(rows[["mean", "low", "high"]])
    return pd.DataFrame(
        {
            "task": task,
            "density": [f"{value:g}" if np.isfinite(value) else "all" for value in rows["density"].astype(float)],
            "effect": rows["effect"],
            "log CWV": _ends(rows, "{:+.2f}", "mean", "low", "high"),
            "CWV times": _ends(factor, "{:.2f}", "mean", "low", "high"),
            "share of both": _ends(rows, "{:.0%}", "share", "share_low", "share_high"),
            "n": rows["n"],
        }
    )


def _ends(rows: pd.DataFrame, form: str, *names: str) -> list[str]:
    """Means with the ends of their intervals in brackets, a dash where there is none."""
    texts = ([form.format(row[name]) for name in names] for _, row in rows.iterrows())
    return ["–" if "nan" in mean else f"{mean} ({low} to {high})" for mean, low, high in texts]


def halves(runs: pd.DataFrame) -> pd.DataFrame:
    """What each half of Ballot takes off the CWV, over all tasks and densities, in the columns of `gains.claims`.

    The paper claims that unfairness comes from both, without a number. A half is "shown" where the interval is above 0.
    """
    found, words = [], {"selection": "conflict in the selection", "training": "refined training"}
    known = set(FACTORS.values()) <= set(runs["method"])
    rows = factorial(runs) if known else pd.DataFrame({"dataset": [], "effect": []})
    overall = rows[rows["dataset"] == "all"].set_index("effect")
    for effect, name in words.items():
        row: dict[str, Any] = {"claim": f"CWV lower by {name}", "n": 0}
        row |= dict.fromkeys(("paper", "ours", "low", "high"), np.nan)
        if known:
            log = overall.loc[effect]
            row |= {
                "ours": 1 - np.exp(log["mean"]),
                "low": 1 - np.exp(log["high"]),
                "high": 1 - np.exp(log["low"]),
                "n": log["n"],
            }
        found.append(row | {"verdict": "not run" if not known else "shown" if row["low"] > 0 else "not shown"})
    return pd.DataFrame(found, columns=["claim", "paper", "ours", "low", "high", "n", "verdict"])


def verdict(rows: pd.DataFrame) -> str:
    """One line on the paper's claim that both halves matter, from `halves`."""
    shown = [claim.removeprefix("CWV lower by ") for claim in rows.loc[rows["verdict"] == "shown", "claim"]]
    said = ("not reproduced, neither was shown", f"partly, shown for {' and '.join(shown)} alone", "reproduced")[len(shown)]
    said = "not run" if (rows["verdict"] == "not run").all() else said
    return f"Claim that unfairness comes from both the selection and the training: {said}."
