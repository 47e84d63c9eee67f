"""What a table of results comes to, in words and tables: for a terminal, and as a Markdown page beside the table.

    fairlth report small
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from fairlth import config, experiments, factors, results
from fairlth.equal import duels, readable_duels, shifted
from fairlth.gains import claims
from fairlth.methods import METHODS


def headline(judged: pd.DataFrame, held: pd.DataFrame) -> str:
    """What the claims and the duels come to, in a line each: the rivals of the paper, then each rival at equal accuracy."""
    found = judged.loc[judged["claim"].str.endswith("(control)").eq(False), "verdict"].value_counts(sort=False)
    lines = ["Claims of the paper: " + ", ".join(f"{n} {verdict}" for verdict, n in found.items()) + "."]
    for rival, rows in held.groupby("rival", sort=False):
        n = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in ("better", "open", "worse")}
        lines.append(
            f"At equal accuracy against {rival}: better in {n['better']} of {len(rows)} settings, "
            f"open in {n['open']}, worse in {n['worse']}."
        )
    return "\n".join(lines)


def readable_claims(rows: pd.DataFrame) -> pd.DataFrame:
    """The claims table as people read it: percents."""
    shown = rows.copy()
    for name in ("paper", "ours", "low", "high"):
        shown[name] = [f"{value:.1%}" if np.isfinite(value) else "-" for value in rows[name]]
    return shown


def claims_text(rows: pd.DataFrame, preset: str) -> str:
    """The claims table as plain text for a terminal."""
    shown = readable_claims(rows)
    title = f"Claims at preset {preset}: how much lower Ballot's CWV is than its rivals', 95 % interval over n seeds"
    return f"{meaning(preset)}{title}\n{shown.to_string(index=False)}\n"


def meaning(preset: str) -> str:
    """What results at a preset prove, as the first line of what is told of them; "" where they are evidence."""
    if preset != "smoke":
        return ""
    return "Preset smoke shows that everything runs. A tiny network on tiny digits: its verdicts are no evidence.\n\n"


def duels_text(rows: pd.DataFrame) -> str:
    """The duels as plain text for a terminal."""
    if rows.empty:
        return ""
    title = "Ballot as trained against rivals whose class biases are shifted to the same accuracy"
    return f"\n{title}\n{readable_duels(rows).to_string(index=False)}\n"


def page(preset: str) -> str:
    """What data/results/<preset>.csv says, as Markdown; ValueError where there is no such table."""
    table = results.load(preset)
    compared = experiments.of("11_comparison", preset, table)
    judged, held = claims(results.per_run(compared)), duels(shifted(compared))
    halves = factors.halves(results.per_run(experiments.of("10_motivation", preset, table)))
    parts = [
        f"# Results at preset `{preset}`\n\nWritten by `fairlth report {preset}` from [{preset}.csv]({preset}.csv).",
        conditions(table),
        "## In short\n\n" + headline(judged, held).replace("\n", "  \n") + "  \n" + factors.verdict(halves),
        "## The paper's claims\n\nHow much lower Ballot's CWV is, paired by seed; 95 % t interval over n seeds.",
        markdown(readable_claims(pd.concat([judged, halves]))),
        "## At equal accuracy\n\nBallot as trained against each rival's curve of shifted class biases, likewise.",
        markdown(readable_duels(held)),
        *tasks(results.summary(results.per_run(table[table["pressure"].isna()]))),
    ]
    return "\n\n".join(parts) + "\n"


def conditions(table: pd.DataFrame) -> str:
    """One paragraph on how the runs of a table were made."""
    runs = table.drop_duplicates([name for name in results.KEYS if name != "preset"])
    lines = [f"{len(runs)} runs, seeds {', '.join(str(seed) for seed in sorted(runs['seed'].unique()))}. Number of runs by"]
    for name in ("device", "precision", "torch", "commit"):
        counts = runs[name].astype(str).value_counts().sort_index()
        lines.append(f"* {name}: " + "; ".join(f"{told} ({n})" for told, n in counts.items()))
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def tasks(summary: pd.DataFrame) -> Iterator[str]:
    """A section for each task and density: every method's means on test images, each ± half its 95 % t interval."""
    for keys, rows in summary.groupby(config.TASK, sort=False):
        for density in sorted(set(rows["density"]) - {1.0}, reverse=True):
            shown = rows[rows["density"].isin([density, 1.0])]
            shown = shown.sort_values("method", key=lambda names: names.map([*METHODS].index), kind="stable")
            images, floors = int(shown["images"].iloc[0]), shown[["cwv_floor", "mcd_floor"]].median()
            yield f"## {config.task_name(dict(zip(config.TASK, keys, strict=True)))}, density {density:g}"
            yield (
                f"{images:,} test images; mean ± half the 95 % t interval over n seeds. By chance alone (median over methods): "
                f"CWV x1e4 {1e4 * floors['cwv_floor']:.1f}, MCD {100 * floors['mcd_floor']:.1f} points."
            )
            yield markdown(results.readable(shown)[["method", "cost", "accuracy %", "CWV x1e4", "MCD points", "n"]])


def markdown(frame: pd.DataFrame) -> str:
    """A table in Markdown, its cells as they are."""
    return frame.astype(str).to_markdown(index=False, disable_numparse=True)


def write(preset: str) -> Path:
    """Writes data/results/<preset>.md beside its table."""
    path = config.TABLES / f"{preset}.md"
    config.write_atomically(path, page(preset).encode())
    return path
