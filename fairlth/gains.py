"""How much fairer one method is than others, paired by seed, and what that says of the paper's claims."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from fairlth import config, metrics

PAPER = {"magnitude": 0.3800, "lth": 0.3391, "safecompress": 0.1796, "fairscratch": 0.3582}  # arXiv 2407.02805, abstract
CONTROL = "lth_bias"


def paired(runs: pd.DataFrame, ours: str = "ballot", metric: str = "cwv") -> pd.DataFrame:
    """`ours` beside each other method, one row per rival, task, density and seed; `gain` is 1 - ours / theirs."""
    pair = [*config.TASK, "density", "seed"]
    runs = runs[runs["pressure"].isna()]  # each method at its own default
    mine = runs.loc[runs["method"] == ours, [*pair, metric]].rename(columns={metric: "ours"})
    theirs = runs.loc[~runs["method"].isin([ours, "dense"]), [*pair, "method", metric]]
    both = theirs.rename(columns={"method": "rival", metric: "theirs"}).merge(mine, on=pair)
    return both.assign(gain=1 - both["ours"] / both["theirs"])


def whole_seeds(both: pd.DataFrame) -> pd.Series:
    """Each seed's mean gain over tasks and densities, of one rival's rows of `paired`; seeds that lack some are left out."""
    seeds = both.groupby("seed")["gain"].agg(["mean", "count"])
    return seeds.loc[seeds["count"] == seeds["count"].max(), "mean"]


def improvements(runs: pd.DataFrame, ours: str = "ballot", metric: str = "cwv") -> pd.DataFrame:
    """How much lower `ours` is than each other method, paired by seed; one row per (task, density, rival) and one over all.

    A seed's improvement over all is the mean over its tasks and densities, see `whole_seeds`; the interval is over seeds.
    """
    found, setting = [], [*config.TASK, "density"]
    for rival, both in paired(runs, ours, metric).groupby("rival", sort=False):
        for keys, cells in both.groupby(setting):
            interval = metrics.mean_interval(cells["gain"])
            found.append(dict(zip(setting, keys, strict=True)) | {"rival": rival} | interval._asdict())
        found.append({"dataset": "all", "rival": rival} | metrics.mean_interval(whole_seeds(both))._asdict())
    return pd.DataFrame(found)


def probability(runs: pd.DataFrame, ours: str = "ballot", metric: str = "cwv") -> pd.DataFrame:
    """Probability of improvement over each rival: the share of pairs of runs (same task, density and seed) that `ours` wins.

    One row per rival: `won` of `pairs`; and the share of whole seeds won, those whose mean gain over tasks and densities is
    above 0, with its 95 % Wilson interval: pairs of one seed share its images and first weights, seeds share nothing.

    Source: Agarwal et al., 2021 ("Deep reinforcement learning at the edge of the statistical precipice"), here paired.
    1/2 means that neither is fairer, 1 that `ours` always is.
    """
    found = []
    for rival, both in paired(runs, ours, metric).groupby("rival", sort=False):
        seeds = whole_seeds(both)
        row = {"rival": rival, "won": int((both["gain"] > 0).sum()), "pairs": len(both)}
        found.append(row | metrics.share_interval(int((seeds > 0).sum()), len(seeds))._asdict())
    return pd.DataFrame(found, columns=["rival", "won", "pairs", "mean", "low", "high", "n"])


def readable_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """Improvements as people read them: percent with the ends of the interval."""
    task = gains["dataset"].where(gains["dataset"] == "all", [config.task_name(row) for _, row in gains.iterrows()])
    ends = [f"{low:.0%} to {high:.0%}" for low, high in zip(gains["low"], gains["high"], strict=True)]
    density = [f"{value:g}" if np.isfinite(value) else "all" for value in gains["density"].astype(float)]
    shown = gains[["rival"]].assign(
        task=task, density=density, lower=gains["mean"].map("{:.0%}".format), interval=ends, n=gains["n"]
    )
    return shown.rename(columns={"lower": "CWV lower by", "interval": "95 % interval"}).reset_index(drop=True)


def price(runs: pd.DataFrame, ours: str = "ballot", rivals: Iterable[str] = ("lth", "dense")) -> pd.DataFrame:
    """Accuracy of `ours` less a rival's, paired by task and seed: a row per rival and density with 95 % t interval, fractions.

    A seed's difference is the mean over its tasks, and seeds that lack some of them are left out. Ideally 0 or above.
    """
    pair, found = [*config.TASK, "seed"], []
    runs = runs[runs["pressure"].isna()]
    for rival in rivals:
        theirs = runs[runs["method"] == rival]
        for density, mine in runs[runs["method"] == ours].groupby("density"):
            same = theirs if rival == "dense" else theirs[theirs["density"] == density]
            both = mine.merge(same, on=pair, suffixes=("", "_theirs"))
            seeds = both.assign(gap=both["accuracy"] - both["accuracy_theirs"]).groupby("seed")["gap"].agg(["mean", "count"])
            gaps = seeds.loc[seeds["count"] == seeds["count"].max(), "mean"]
            found.append({"against": rival, "density": density} | metrics.mean_interval(gaps)._asdict())
    return pd.DataFrame(found)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The paper's headline claims beside ours: its number, our mean, interval, n, and a verdict by rule.

    "reproduced": the interval is above 0 and our mean at least the paper's; "partly": the interval is above 0; "not
    reproduced": it is not; "not run": the rival has no runs here. The last row is the control that the paper does not have,
    a plain ticket with its class biases shifted: "better" where the interval is above 0.
    """
    overall = improvements(runs)
    overall = overall[overall["dataset"] == "all"].set_index("rival") if len(overall) else overall
    found = []
    for rival, paper in (PAPER | {CONTROL: np.nan}).items():
        name = f"CWV lower than {rival}" + (" (control)" if rival == CONTROL else "")
        row = {"claim": name, "paper": paper, "ours": np.nan, "low": np.nan, "high": np.nan, "n": 0}
        if rival in overall.index:
            row |= {"ours": overall["mean"][rival]} | {end: overall[end][rival] for end in ("low", "high", "n")}
        found.append(row | {"verdict": verdict(row)})
    return pd.DataFrame(found)


def verdict(row: dict[str, Any]) -> str:
    """The rule of `claims` for one row."""
    if row["n"] == 0:
        return "not run"
    if np.isnan(row["paper"]):
        return "better" if row["low"] > 0 else "not better"
    if not row["low"] > 0:
        return "not reproduced"
    return "reproduced" if row["ours"] >= row["paper"] else "partly"
