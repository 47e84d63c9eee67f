"""The study's curves: accuracy and CWV along the shift of class biases, from study.md's tables.

    python studies/study_curves.py

Points are means over the seeds that the tables name, which differ between rules. What is compared
is in the tables: the ratio to the control at equal accuracy over paired seeds, with its interval.
"""

import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from fairlth import figures
from fairlth.config import paths

HERE = Path(__file__).resolve().parent
SHOWN = {  # rule -> colour, line, words
    "lth_plain": ("#0072B2", "-", "plain ticket"),
    "cont-protect.3_plain": ("#999999", ":", "whole levels, conflict protected"),
    "fine1-protect.1_plain": ("#555555", ":", "short levels, conflict protected"),
    "fine1-magnitude_plain": ("#5E3C99", "-", "short levels"),
    "fine1-demote.1_plain": ("#CC79A7", "--", "short levels, conflict demoted"),
    "fine1-share.5_plain": ("#009E73", "--", "short levels, weak classes' importance"),
    "fine1-magnitude_plain2": ("#E69F00", "-", "short levels, twice the epochs"),
    "fine1-magnitude_refine2-0.05": ("#F28E7C", "-", "short levels, refined"),
    "fine1-demote.1_refine2-0.05": ("#D55E00", "--", "both: Ballot"),
}


def tables() -> dict[str, dict[str, list[tuple[float, float]]]]:
    """By heading and rule, (CWV x 1e4, accuracy in percent) along the shift.

    Where a rule stands in several tables of a heading, the first counts: others have other seeds.
    Tables whose heading names seeds are left out.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    rules: dict[str, list[tuple[float, float]]] = {}
    for line in (HERE / "study.md").read_text().splitlines():
        if title := re.match(r"### (\S+, density [\d.]+), against", line):
            rules = found.setdefault(title[1], {})
        elif line.startswith("### "):
            rules = {}
        cells = re.findall(r"([\d.]+) / ([\d.]+) / [\d.]+ \(", line)
        if line.startswith("|") and cells:
            rule = line.split("|")[1].strip()
            points = [(float(cwv), float(accuracy)) for accuracy, cwv in cells]
            rules.setdefault(rule, points)
    return found


def draw(rules: dict[str, list[tuple[float, float]]], ax: Axes) -> Axes:
    """The curves of SHOWN, as trained at the right end."""
    for rule, (colour, line, words) in SHOWN.items():
        if rule in rules:
            cwv, accuracy = zip(*rules[rule], strict=True)
            ax.plot(cwv, accuracy, line, marker="o", markersize=3, color=colour, label=words)
    ax.set(xlim=(0, None), xlabel=figures.SCALES["cwv"][1], ylabel=figures.SCALES["accuracy"][1])
    return ax


def main() -> None:
    """Writes study.png beside the tables."""
    found = tables()
    n_rows = math.ceil(len(found) / 2)
    figure, axes = plt.subplots(n_rows, 2, figsize=(10.4, 3.4 * n_rows), squeeze=False)
    for (title, rules), ax in zip(found.items(), axes.flat, strict=False):
        draw(rules, ax).set_title(title)
    for ax in axes.flat[len(found) :]:
        ax.set_axis_off()
    figures.legend_below(figure, ncols=4)
    figure.savefig(HERE / "study.png", metadata={"Software": None})
    print(f"wrote {(HERE / 'study.png').relative_to(paths.ROOT)}")


if __name__ == "__main__":
    main()
