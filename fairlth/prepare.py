"""Loads a data set once before a grid does, so that it is fetched and decoded once and what is missing is said once.

python -m fairlth.prepare cifar10 small runs/small/data/cifar10.txt
"""

import argparse
import sys
from pathlib import Path

from fairlth import command, config, data
from fairlth.config import Run


def prepare(dataset: str, preset: str) -> list[str]:
    """Loads the data of every task of the preset on that data set; a line with its images for each.

    Raises:
        ValueError: the preset has no such task, or the data are not to be had or not what the task needs.
    """
    config.check_preset(preset)
    runs = [run for run in config.grid(preset, ("dense",), seeds=(0,)) if run.dataset == dataset]
    if not runs:
        raise ValueError(f"preset {preset!r} has no task on {dataset!r}: choose one that it has.")
    return [_line(run) for run in {run.model_copy(update={"model": runs[0].model}): None for run in runs}]


def _line(run: Run) -> str:
    data.check(run)
    loaded = data.load(run)
    sizes = ", ".join(f"{name} {len(getattr(loaded, name))}" for name in ("train", "val", "test"))
    return f"{run.dataset} {run.target or ''} by {run.group_by or 'class'}: {sizes} images".replace("  ", " ")


def note(output: Path, lines: list[str]) -> None:
    """Leaves what was found, which says that the data are there."""
    config.write_atomically(output, ("\n".join(lines) + "\n").encode())


def main() -> int:
    """The command line; 2 where the data are not to be had, with a sentence."""
    parser = argparse.ArgumentParser(description="Load a data set once, before a grid does.")
    parser.add_argument("dataset")
    parser.add_argument("preset")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    return command.ended(lambda: note(arguments.output, prepare(arguments.dataset, arguments.preset)))


if __name__ == "__main__":
    sys.exit(main())
