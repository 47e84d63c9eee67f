"""The study's table: every rule's CWV over that of a plain ticket with shifted class biases at the same accuracy.

    python benchmarks/study_tables.py [density]

Reads what `selection_study.py` kept in runs/study/. Each rule is shown as trained and with its own class biases shifted part of
the way; ratios are geometric means over paired seeds with 95 % t intervals; below 1 is fairer than the control.
"""

import re
import sys

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from selection_study import FOLDER

from fairlth import metrics, results
from fairlth.data import Split
from fairlth.shift import fair_shift

NAME = re.compile(
    r"(?P<task>\w+?)_d(?P<density>[\d.]+)_s(?P<seed>\d+)_(?P<selection>[^_]+(?:_(?:unit|weight)[.\d]+)?(?:@\w+?)?)_(?P<training>.+)"
)
SHIFTS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)


def points() -> pd.DataFrame:
    """A row per kept training and shift, in the columns that `results.at_equal_accuracy` reads."""
    found = []
    for path in sorted(FOLDER.glob("*.safetensors")):
        about, parts = NAME.fullmatch(path.stem).groupdict(), load_file(path)
        head = {"dataset": about["task"], "target": "", "group_by": "", "model": "convnet", "density": float(about["density"])}
        head |= {
            "seed": int(about["seed"]),
            "method": f"{about['selection']} {about['training']}",
            "pressure": np.nan,
            "cost": 0.0,
        }
        val, tune = parts["val_logits"].float(), parts["tune_logits"].float()
        n = val.shape[1]
        shift = fair_shift(val, Split(val, parts["val_y"], parts["val_y"], n, n))
        for share in SHIFTS:
            predicted, y = (tune + share * shift).argmax(1), parts["tune_y"]
            right, total = torch.bincount(y[predicted == y], minlength=n).numpy(), y.bincount(minlength=n).numpy()
            found.append(head | {"shift": share, "accuracy": right.sum() / total.sum(), "cwv": metrics.cwv(right, total)})
    return pd.DataFrame(found)


def main() -> None:
    """Prints the table."""
    frame = points()
    if len(sys.argv) > 1:
        frame = frame[frame["density"] == float(sys.argv[1])]
    control = sys.argv[2] if len(sys.argv) > 2 else "lth plain"
    rows = results.relative_summary(results.at_equal_accuracy(frame, control))
    for (task, density), here in rows.groupby(["dataset", "density"]):
        print(f"\n{task}, density {density:g}; accuracy / CWV x 1e4 / relative (95 % interval) at shifts {SHIFTS}")
        for method, own in here.groupby("method"):
            cells = [
                f"{100 * r.accuracy:.1f}/{1e4 * r.cwv:.0f}/{r.relative:.2f}({r.relative_low:.2f}-{r.relative_high:.2f})"
                for r in own.sort_values("shift").itertuples()
            ]
            print(f"{method:28s} n={own['n'].iloc[0]} " + " ".join(cells))


if __name__ == "__main__":
    main()
