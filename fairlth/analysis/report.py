"""What a table of results comes to: for a terminal, and as a page beside it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fairlth import config
from fairlth.analysis import (
    equal_accuracy,
    paired_gains,
    premise,
    records,
    scope,
    summaries,
    two_halves,
)
from fairlth.analysis.summaries import interval_of, told
from fairlth.analysis.tables import markdown
from fairlth.config import METHOD_TABLE, paths

ALL = "all tasks"
MEANING = {
    "smoke": "Preset smoke proves only that everything runs: a tiny network on tiny digits is no "
    "evidence for or against any claim."
}


@dataclass(frozen=True)
class Findings:
    """All that the overview and the page say of some tasks, over all densities and seeds.

    Attributes:
        runs: from `per_run`.
        premise: from `over_dense`.
        halves: from `two_halves.halves`.
        claims: the paper's claims and the halves.
        duels: from `equal_accuracy.duels`.
    """

    runs: pd.DataFrame
    premise: pd.DataFrame
    halves: pd.DataFrame
    claims: pd.DataFrame
    duels: pd.DataFrame

    def in_short(self) -> str:
        """Premise, even fight, claims and comparisons at equal accuracy, a line each, by rule."""
        lines = [premise.in_words(self.premise), equal_accuracy.even_fight(self.duels)]
        lines += [headline(self.claims, self.duels), two_halves.verdict(self.halves)]
        remark = equal_accuracy.remarks(self.duels)
        return "\n".join(line for line in [*lines, remark] if line)


def findings(table: pd.DataFrame, preset: str) -> tuple[Findings, Findings]:
    """What a table says of its preset: over all its tasks, and over those by class alone.

    Only the preset's own runs count: its tasks, densities, seeds and methods' own pressures.
    """
    runs, crossed = (
        summaries.per_run(scope.rows_of(table, config.study(notebook, preset)))
        for notebook in ("11_comparison", "10_motivation")
    )
    equal = scope.rows_of(table, config.study("15_equal_accuracy", preset))
    points = equal_accuracy.shifted(equal)
    by_class = [rows[rows["group_by"] == "class"] for rows in (runs, crossed, points)]
    return _findings(runs, crossed, points), _findings(*by_class)


def _findings(runs: pd.DataFrame, crossed: pd.DataFrame, points: pd.DataFrame) -> Findings:
    halves = two_halves.halves(crossed)
    claims = pd.concat([paired_gains.claims(runs), halves], ignore_index=True)
    duels = equal_accuracy.duels(points)
    return Findings(runs, premise.over_dense(runs), halves, claims, duels)


def claims_table(everything: Findings, by_class: Findings) -> pd.DataFrame:
    """The claims as people read them; by class alone beside it, where that is a subset."""
    return _beside(readable_claims(everything.claims), readable_claims(by_class.claims), everything)


def duels_table(everything: Findings, by_class: Findings) -> pd.DataFrame:
    """The comparison at equal accuracy over all tasks and densities, likewise."""
    shown = readable_overall(over_all(everything.duels)[0])
    return _beside(shown, readable_overall(over_all(by_class.duels)[0]), everything)


def readable_overall(rows: pd.DataFrame) -> pd.DataFrame:
    """Duels over all tasks and densities as people read them."""
    shown = equal_accuracy.readable_duels(rows).drop(columns=["task", "density"])
    shown.insert(2, "settings", [*rows["settings"]])
    return shown.rename(columns={equal_accuracy.RATIO: ALL})


def _beside(shown: pd.DataFrame, by_class: pd.DataFrame, everything: Findings) -> pd.DataFrame:
    """A table with columns for the subset by class, unless all tasks are by class."""
    if set(everything.runs["group_by"]) <= {"class"}:
        return shown
    first = shown.columns[0]
    names = {ALL: "by class only", "n": "n, by class", "verdict": "verdict, by class"}
    subset = by_class[[first, *names]].rename(columns=names)
    return shown.merge(subset, on=first, how="left", sort=False)


def text(everything: Findings, by_class: Findings, preset: str) -> str:
    """All of it as plain text, for a terminal."""
    each = equal_accuracy.readable_duels(over_all(everything.duels)[1])
    tables = {
        "CWV of pruned networks over the dense net's": premise.readable_premise(everything.premise),
        f"Claims at preset {preset}: CWV lower by": claims_table(everything, by_class),
        "Ballot's CWV divided by the rival's at equal accuracy": duels_table(everything, by_class),
        "The same by task and density": each,
    }
    parts = [in_short(everything, preset)]
    parts += [_titled(title, rows) for title, rows in tables.items()]
    return "\n\n".join(parts) + "\n"


def in_short(found: Findings, preset: str) -> str:
    """`Findings.in_short` after what the preset can show at all, where that is little."""
    lines = [MEANING.get(preset, ""), found.in_short()]
    return "\n".join(line for line in lines if line)


def _titled(title: str, frame: pd.DataFrame) -> str:
    return f"{title}\n{frame.to_string(index=False) if len(frame) else 'not run'}"


def headline(claims: pd.DataFrame, duels: pd.DataFrame) -> str:
    """A line for each claim of the paper, then one for each rival at equal accuracy."""
    judged = claims.loc[claims["paper"].notna(), "verdict"].value_counts(sort=False)
    lines = ["Claims of the paper: " + ", ".join(f"{n} {said}" for said, n in judged.items()) + "."]
    for rival, rows in duels.groupby("rival", sort=False):
        overall, each = over_all(rows)
        n = {said: int((each["verdict"] == said).sum()) for said in ("better", "open", "worse")}
        row = overall.iloc[0]
        lines.append(
            f"At equal accuracy Ballot's CWV is {interval_of(row, 'ratio'):.2f} times {rival}'s, "
            f"n = {row['n']} seeds: {row['verdict']}; better in {n['better']} of {len(each)} "
            f"settings, open in {n['open']}, worse in {n['worse']}."
        )
    return "\n".join(lines)


def over_all(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows over all tasks and densities, and rows of one each."""
    everything = rows["dataset"] == "all"
    return rows[everything], rows[~everything]


def readable_claims(rows: pd.DataFrame) -> pd.DataFrame:
    """Claims as people read them: percents with the ends of their intervals."""
    shown = rows[["claim"]].reset_index(drop=True)
    shown["paper"] = [f"{value:.1%}" if np.isfinite(value) else "–" for value in rows["paper"]]
    shown[ALL] = told(rows, "ours", ".1%")
    shown["settings"] = [*rows["settings"]]
    shown["n"] = [*rows["n"]]
    shown["verdict"] = [*rows["verdict"]]
    return shown


def page(preset: str) -> str:
    """What data/results/<preset>.csv says, as Markdown; ValueError where there is no such table."""
    table = records.load(preset)
    everything, by_class = findings(table, preset)
    each = over_all(everything.duels)[1]
    notebooks = ("11_comparison", "15_equal_accuracy")
    planned = dict.fromkeys(run for name in notebooks for run in config.study(name, preset))
    plain = table[table["pressure"].isna()]
    parts = [
        f"# Results at preset `{preset}`",
        f"Written by `python -m fairlth report {preset}` from [{preset}.csv]({preset}.csv). "
        "Terms and conditions are told in data/results/README.md.",
        conditions(table),
        scope.missing(table, planned),
        "## In short\n\n" + in_short(everything, preset).replace("\n", "  \n"),
        "## Pruning alone\n\nCWV over the dense net's of the same seed: geometric mean, 95 % t "
        "interval, n seeds. Above 1 is less fair. The weights of `lth_rate` and `magnitude` are "
        "trained longer than the dense net's: a ratio below 1 may come from that.",
        markdown(premise.readable_premise(everything.premise)),
        "## The paper's claims\n\nHow much lower Ballot's CWV is, paired by seed; 95 % t interval "
        f"over n seeds. {subset(everything.runs)}",
        markdown(claims_table(everything, by_class)),
        "## At equal accuracy\n\nThe CWV of Ballot (as trained) divided by that of each rival's "
        "curve of shifted class biases at the same accuracy: geometric mean, 95 % t interval, n "
        "seeds. Below 1 Ballot is fairer.",
        equal_accuracy.remarks(everything.duels),
        markdown(duels_table(everything, by_class)),
        markdown(equal_accuracy.readable_duels(each)),
        *tasks(summaries.summary(summaries.per_run(plain))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def subset(runs: pd.DataFrame) -> str:
    """One sentence on a named subset of the claims' tasks: those whose groups are the classes."""
    if set(runs["group_by"]) <= {"class"}:
        return "In all tasks the groups are the classes."
    tasks = runs.loc[runs["group_by"] == "class", config.TASK].drop_duplicates()
    names = "; ".join(sorted(config.task_name(row) for _, row in tasks.iterrows()))
    return f"*By class only*: the tasks whose groups are the classes ({names})."


def conditions(table: pd.DataFrame) -> str:
    """One paragraph on how the runs of a table were made."""
    runs = table.drop_duplicates([name for name in records.KEYS if name != "preset"])
    seeds = ", ".join(str(seed) for seed in sorted(runs["seed"].unique()))
    lines = [f"{len(runs)} runs, seeds {seeds}. Number of runs by\n"]
    for name in ("device", "precision", "torch", "commit"):
        counts = runs[name].astype(str).value_counts().sort_index()
        lines.append(f"* {name}: " + "; ".join(f"{told} ({n})" for told, n in counts.items()))
    return "\n".join(lines)


def tasks(summary: pd.DataFrame) -> Iterator[str]:
    """A section for each task and density: every method's means on test images, with intervals."""
    order = {name: place for place, name in enumerate(METHOD_TABLE)}  # others come last
    for keys, rows in summary.groupby(config.TASK):
        name = config.task_name(dict(zip(config.TASK, keys, strict=True)))
        for density in sorted(set(rows["density"]) - {1.0}, reverse=True):
            own = rows[rows["density"].isin([density, 1.0])]
            own = own.sort_values("method", key=lambda names: names.map(order), kind="stable")
            floors = own[["cwv_floor", "mcd_floor"]].mean()
            yield f"## {name}, density {density:g}"
            yield (
                f"{own['images'].max():,} test images; mean ± half the 95 % t interval over n "
                "seeds. By chance alone (mean over methods): "
                f"CWV x1e4 {1e4 * floors['cwv_floor']:.1f}, MCD {100 * floors['mcd_floor']:.1f} "
                "points."
            )
            shown = summaries.readable(own)
            yield markdown(
                shown.drop(columns=[*config.TASK, "density", "CWV chance", "MCD chance"])
            )


def write(preset: str) -> Path:
    """Writes data/results/<preset>.md beside its table."""
    path = paths.TABLES / f"{preset}.md"
    paths.write_atomically(path, page(preset).encode())
    return path
