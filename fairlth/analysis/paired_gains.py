"""How much fairer a method is than others, paired by seed, and the paper's claims by it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from fairlth import config, metrics
from fairlth.analysis.schema import check_one_preset
from fairlth.analysis.summaries import SETTING, told

# arXiv 2407.02805, abstract
PAPER = {"magnitude": 0.3800, "lth": 0.3391, "safecompress": 0.1796, "fairscratch": 0.3582}
CONTROL = "lth_bias"


def paired(runs: pd.DataFrame) -> pd.DataFrame:
    """Ballot's CWV beside each other method's, one row per rival, task, density and seed.

    `gain` is 1 - ours / theirs; nan where theirs is 0, since then there is no such share.

    Raises:
        ValueError: runs are of several presets.
    """
    check_one_preset(runs)
    pair = [*SETTING, "seed"]
    runs = runs[runs["pressure"].isna()]  # each method at its own default
    mine = runs.loc[runs["method"] == "ballot", [*pair, "cwv"]].rename(columns={"cwv": "ours"})
    theirs = runs.loc[~runs["method"].isin(["ballot", "dense"]), [*pair, "method", "cwv"]]
    both = theirs.rename(columns={"method": "rival", "cwv": "theirs"}).merge(mine, on=pair)
    share = both["ours"] / both["theirs"].where(both["theirs"] > 0)
    return both.assign(gain=1 - share)


def log_ratio(ours: pd.Series, theirs: pd.Series) -> pd.Series:
    """The logarithm of a ratio; nan where one of the two is 0, since then there is no ratio."""
    known = (ours > 0) & (theirs > 0)
    return np.log(ours.where(known)) - np.log(theirs.where(known))


def whole_seeds(pairs: pd.DataFrame, value: str) -> pd.Series:
    """Each seed's mean of a column over tasks and densities, of the seeds that have all of them.

    All of them are the tasks and densities that any seed has. A seed that lacks one of them, or
    whose value there is nan, is left out, whichever it is.

    Args:
        pairs: one row per task, density and seed, in any order.
        value: a column.
    """
    cells = pairs.pivot(index="seed", columns=SETTING, values=value)  # noqa: PD010
    return cells.dropna().mean(axis=1)


def by_setting(
    pairs: pd.DataFrame, value: str
) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.Series]]:
    """All tasks and densities together, then each of them: a row's head, its pairs, its values.

    The head has the columns of `config.TASK` and `density`, and `settings`, how many of them there
    are; all together have "all" as their data set, and whole seeds' means as values.
    """
    settings = len(pairs[SETTING].drop_duplicates())
    if settings:
        yield {"dataset": "all", "settings": settings}, pairs, whole_seeds(pairs, value)
    for keys, cells in pairs.groupby(SETTING):
        head = dict(zip(SETTING, keys, strict=True)) | {"settings": 1}
        yield head, cells, cells[value].dropna()


def improvements(runs: pd.DataFrame) -> pd.DataFrame:
    """How much lower Ballot's CWV is than each other method's, paired by seed.

    One row per rival over all tasks and densities (`whole_seeds`), and one for each of them: mean,
    ends of the 95 % t interval over seeds, n.
    """
    columns = [*SETTING, "settings", "rival", "mean", "low", "high", "n"]
    found = []
    for rival, both in paired(runs).groupby("rival", sort=False):
        for row, _, gains in by_setting(both, "gain"):
            found.append(row | {"rival": rival} | metrics.mean_interval(gains)._asdict())
    return pd.DataFrame(found, columns=columns)


def probability(runs: pd.DataFrame) -> pd.DataFrame:
    """Probability of improvement over each rival: the share of pairs of runs that Ballot wins.

    One row per rival: `won` of `pairs` (same task, density and seed); and the share of whole seeds
    won, those whose mean gain over tasks and densities is above 0, with its 95 % Wilson interval:
    pairs of one seed share its images and first weights, seeds share nothing.

    Source: Agarwal et al., 2021 ("Deep reinforcement learning at the edge of the statistical
    precipice"), here paired. 1/2 means that neither is fairer, 1 that Ballot always is.
    """
    found = []
    for rival, both in paired(runs).groupby("rival", sort=False):
        seeds = whole_seeds(both, "gain")
        row = {"rival": rival, "won": int((both["gain"] > 0).sum()), "pairs": len(both)}
        found.append(row | metrics.share_interval(int((seeds > 0).sum()), len(seeds))._asdict())
    return pd.DataFrame(found, columns=["rival", "won", "pairs", "mean", "low", "high", "n"])


def readable_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """Improvements as people read them: percent with the ends of the interval."""
    shown = named(gains)
    shown["rival"] = [*gains["rival"]]
    shown["CWV lower by"] = told(gains, "mean", ".0%")
    shown["n"] = [*gains["n"]]
    return shown


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Task and density of rows as people read them, "all" where a row is over all of them."""
    tasks = [
        "all" if row["dataset"] == "all" else config.task_name(row) for _, row in rows.iterrows()
    ]
    density = [
        f"{value:g}" if np.isfinite(value) else "all" for value in rows["density"].astype(float)
    ]
    return pd.DataFrame({"task": tasks, "density": density})


def price(runs: pd.DataFrame) -> pd.DataFrame:
    """Ballot's accuracy less a rival's, paired by task and seed, fractions; ideally 0 or above.

    One row per density and rival, `lth` and the dense net, with its 95 % t interval. A seed's
    difference is the mean over its tasks, and seeds that lack some of them are left out.
    """
    pair = [*config.TASK, "seed"]
    runs = runs[runs["pressure"].isna()]
    found = []
    for rival in ("lth", "dense"):
        theirs = runs[runs["method"] == rival]
        for density, mine in runs[runs["method"] == "ballot"].groupby("density"):
            same = theirs if rival == "dense" else theirs[theirs["density"] == density]
            both = mine.merge(same[[*pair, "accuracy"]], on=pair, suffixes=("", "_theirs"))
            both["gap"] = both["accuracy"] - both["accuracy_theirs"]
            gaps = metrics.mean_interval(whole_seeds(both, "gap"))
            found.append({"against": rival, "density": density} | gaps._asdict())
    return pd.DataFrame(found, columns=["against", "density", "mean", "low", "high", "n"])


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The paper's headline claims beside ours: its number, our mean, interval, n, and a verdict.

    Ours are over all tasks, densities and seeds of `runs`; `settings` counts tasks and densities.
    The verdict follows a rule. "reproduced": the interval is above 0 and our mean at least the
    paper's; "partly": the interval is above 0; "not reproduced": it is not; "not run": the rival
    has no runs here. The last row is the control that the paper does not have, a plain ticket with
    its class biases shifted: "better" where the interval is above 0.
    """
    overall = improvements(runs).query("dataset == 'all'").set_index("rival")
    found = []
    for rival, paper in (PAPER | {CONTROL: np.nan}).items():
        control = " (control)" if rival == CONTROL else ""
        row = {"claim": f"CWV lower than {rival}{control}", "paper": paper}
        row |= {"ours": np.nan, "low": np.nan, "high": np.nan, "n": 0, "settings": 0}
        if rival in overall.index:
            own = overall.loc[rival]
            row |= {"ours": own["mean"], "low": own["low"], "high": own["high"]}
            row |= {"n": int(own["n"]), "settings": int(own["settings"])}
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
