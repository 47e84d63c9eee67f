"""The study's tables: every rule's CWV over that of a control with shifted class biases at the same
accuracy.

    python benchmarks/study_tables.py [search_training]

Reads what `selection_study.py` kept in runs/study/. Each rule as trained, and with its own class
biases shifted part of
the way: accuracy in percent, CWV x 1e4, and the ratio to the control ("lth_plain" unless named),
    geometric mean over
paired seeds with 95 % t interval; below 1 is fairer than the control. "sign" is the share of units
whose signal has the same sign in both halves of its readings, mean over layers, levels and seeds;
one half is noise.
"""

import sys

import pandas as pd
import torch
from selection_study import FOLDER, read

from fairlth import metrics
from fairlth.analysis import equal_accuracy
from fairlth.bias_shift import fair_shift
from fairlth.images import Split

SHIFTS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
SHOWN = (0.0, 0.25, 0.5)


def points() -> pd.DataFrame:
    """A row per kept training and shift, in the columns that `equal_accuracy.at_equal_accuracy`
    reads.
    """
    found = []
    for file in sorted(FOLDER.glob("*.safetensors")):
        task, density, seed, search, training = file.stem.split("_")
        head = {
            "dataset": task,
            "target": "",
            "group_by": "",
            "model": "convnet",
            "density": float(density[1:]),
        }
        head |= {"seed": int(seed[1:]), "method": f"{search}_{training}", "pressure": None}
        parts = read(file)
        head |= {"cost": 0.0, "agreement": float(parts.get("agreement", torch.nan))}
        n, val, held, y = (
            parts["val"].shape[1],
            parts["val"].float(),
            parts["held"].float(),
            parts["held_y"],
        )
        shift = fair_shift(val, Split(val, parts["val_y"], parts["val_y"], n, n))
        for share in SHIFTS:
            right = torch.bincount(y[(held + share * shift).argmax(1) == y], minlength=n).numpy()
            total = torch.bincount(y, minlength=n).numpy()
            found.append(
                head
                | {
                    "shift": share,
                    "accuracy": metrics.accuracy(right, total),
                    "cwv": metrics.cwv(right, total),
                }
            )
    return pd.DataFrame(found)


def main() -> None:
    """Prints a table per task and density."""
    control = sys.argv[1] if len(sys.argv) > 1 else "lth_plain"
    found = points()
    signs = found.groupby(["dataset", "density", "method"])["agreement"].mean()
    rows = equal_accuracy.relative_summary(equal_accuracy.at_equal_accuracy(found, control))
    for (task, density), here in rows.groupby(["dataset", "density"]):
        print(f"\n### {task}, density {density:g}, against {control}\n")
        print(f"| rule | n | sign | {' | '.join(f'shift {share:g}' for share in SHOWN)} |")
        print("| --- " * (len(SHOWN) + 3) + "|")
        for method, own in here.groupby("method"):
            own = own.set_index("shift").loc[list(SHOWN)]
            ends = [
                f"{r.relative_low:.2f}–{r.relative_high:.2f}" if r.n > 1 else "one seed"
                for r in own.itertuples()
            ]
            cells = [
                f"{100 * r.accuracy:.1f} / {1e4 * r.cwv:.0f} / {r.relative:.2f} ({end})"
                for r, end in zip(own.itertuples(), ends, strict=True)
            ]
            sign = f"{signs[task, density, method]:.2f}".replace("nan", "–")
            print(f"| {method} | {own['n'].iloc[0]} | {sign} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
