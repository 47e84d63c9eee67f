"""The study's tables: each rule's CWV over that of a control at the same accuracy.

    python studies/study_tables.py [search_training]

Reads what `selection_study.py` kept in runs/study/. Each rule is shown as trained, and with its own
class biases shifted part of the way: accuracy in percent, CWV x 1e4, and the ratio of its CWV to
that of the control ("lth_plain" unless named) with shifted biases. The ratio is a geometric mean
over paired seeds with its 95 % t interval; below 1 is fairer than the control. "sign" is the share
of units whose signal has the same sign in both halves of its readings, mean over layers, levels and
seeds; one half is noise.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from fairlth.analysis import equal_accuracy, summaries
from fairlth.bias_shift import fair_shift
from fairlth.images import Split
from fairlth.training import count
from studies.selection_study import FOLDER

SHIFTS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
SHOWN = (0.0, 0.25, 0.5)


def points() -> pd.DataFrame:
    """A row per kept training and shift, in `equal_accuracy.at_equal_accuracy`'s columns."""
    files = sorted(FOLDER.glob("*.safetensors"))
    return pd.DataFrame([row for file in files for row in rows(file)])


def rows(file: Path) -> list[dict[str, Any]]:
    """A kept training at each shift."""
    task, density, seed, search, training = file.stem.split("_")
    parts = load_file(file)
    val = parts["val"].float()
    held = parts["held"].float()
    about = {
        "dataset": task,
        "target": "",
        "group_by": "",
        "model": "convnet",
        "density": float(density[1:]),
        "seed": int(seed[1:]),
        "method": f"{search}_{training}",
        "pressure": None,
        "cost": 0.0,
        "agreement": float(parts.get("agreement", torch.nan)),
    }
    n = val.shape[1]
    shift = fair_shift(val, Split(val, parts["val_y"], parts["val_y"], n, n))
    judged = Split(held, parts["held_y"], parts["held_y"], n, n)
    found = []
    for share in SHIFTS:
        counts = count(held + share * shift, judged).by_group()
        measured = summaries.measures(*counts, ("accuracy", "cwv"))
        found.append(about | {"shift": share} | measured)
    return found


def cell(row: Any) -> str:
    """Accuracy, CWV and the ratio to the control with its interval."""
    interval = "one seed"
    if row.n > 1:
        interval = f"{row.relative_low:.2f}–{row.relative_high:.2f}"
    return f"{100 * row.accuracy:.1f} / {1e4 * row.cwv:.0f} / {row.relative:.2f} ({interval})"


def main() -> None:
    """Prints a table per task and density."""
    control = sys.argv[1] if len(sys.argv) > 1 else "lth_plain"
    found = points()
    if found.empty:
        sys.exit(f"{FOLDER} has no training: make some by studies/selection_study.py.")
    if control not in set(found["method"]):
        known = ", ".join(sorted(set(found["method"])))
        sys.exit(f"{control!r} is no control here: choose from {known}.")
    signs = found.groupby(["dataset", "density", "method"])["agreement"].mean()
    compared = equal_accuracy.at_equal_accuracy(found, control)
    summary = equal_accuracy.relative_summary(compared)
    for (task, density), here in summary.groupby(["dataset", "density"]):
        print(f"\n### {task}, density {density:g}, against {control}\n")
        print(f"| rule | n | sign | {' | '.join(f'shift {share:g}' for share in SHOWN)} |")
        print("| --- " * (len(SHOWN) + 3) + "|")
        for method, own in here.groupby("method"):
            shown = own.set_index("shift").loc[list(SHOWN)]
            cells = [cell(row) for row in shown.itertuples()]
            sign = f"{signs[task, density, method]:.2f}".replace("nan", "–")
            print(f"| {method} | {shown['n'].iloc[0]} | {sign} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
