"""The command `fairlth`, one sub-command per task. Bad input is one sentence and exit status 2.

fairlth plan paper
fairlth ticket path/to/folder --group-by tone --network resnet18 --density 0.1
fairlth execute notebooks/03_one_run.ipynb out.ipynb method=ballot density=0.05
"""

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fairlth import config
from fairlth.config import paths

PREPARED = r"\S+( \S+)? by \S+: train \d+, val \d+, test \d+ images\n"  # a line of `prepare`'s file

# Each sub-command imports what it needs: `status` answers in half a second, torch alone takes four.


def plan(arguments: argparse.Namespace) -> int:
    """Prints what a preset would take, with steps timed now or read from a file."""
    config.check_preset(arguments.preset)
    _say("loading torch")
    from fairlth.workflow import cost
    from fairlth.workflow import plan as planned

    if arguments.save and arguments.save.exists():
        cost.read_steps(arguments.save)  # raises where it is something else
    if arguments.steps:
        steps, device = cost.read_steps(arguments.steps)
    else:
        steps = cost.time_steps(arguments.preset)
        device = cost.device_name()
    if arguments.save:
        cost.write_steps(steps, arguments.save)
    _say("adding up")
    print(planned.text(arguments.preset, planned.table(arguments.preset, steps), device))
    return 0


def ticket(arguments: argparse.Namespace) -> int:
    """Makes a ticket of your images; exit status 1 where a loss became infinite or it is dead."""
    if arguments.preset is None:
        starts_trained = arguments.trained or arguments.weights == "keep"
        arguments.preset = "finetune" if starts_trained else "small"
    config.check_preset(arguments.preset)
    _say("loading torch")
    from fairlth.workflow import one_ticket

    asked = {name: value for name, value in vars(arguments).items() if name != "action"}
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        _say("reading the images")
        plan = one_ticket.plan(one_ticket.Wish(**asked))
        print(one_ticket.found(plan), flush=True)
        _say("timing a step")
        print(one_ticket.time_needed(plan), flush=True)
        try:
            records = one_ticket.make(plan, _say)
        except FloatingPointError as error:
            print(error, file=sys.stderr)
            return 1
        print(one_ticket.numbers(plan, records), flush=True)
        _say("writing the files")
        shipped = one_ticket.ship(plan, records)
    for path in shipped.files:
        print(path)
    if shipped.fault:
        print(shipped.fault, file=sys.stderr)
        return 1
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Prints how far a preset's runs are."""
    from fairlth.workflow.status import report

    print(report(arguments.preset))
    return 0


def prepare(arguments: argparse.Namespace) -> int:
    """Loads a data set once before a grid does, and writes a line per task on it to a file."""
    config.check_preset(arguments.preset)
    output = arguments.output
    _check_replaceable(output, f"({PREPARED})+")
    runs = config.grid(arguments.preset, ("dense",), seeds=(0,))
    wanted = [run for run in runs if run.dataset == arguments.dataset]
    if not wanted:
        there = ", ".join(dict.fromkeys(run.dataset for run in runs))
        raise ValueError(
            f"preset {arguments.preset!r} has no task on {arguments.dataset!r}: "
            f"choose one that it has ({there})."
        )
    _say(f"loading {arguments.dataset}")
    from fairlth import data

    lines = []
    # Networks do not matter here: tasks that differ in them alone are loaded once.
    for run in dict.fromkeys(run.model_copy(update={"model": wanted[0].model}) for run in wanted):
        data.check(run)
        loaded = data.load(run)
        target = "" if run.label == "label" else f" {run.label}"
        sizes = [f"{name} {len(getattr(loaded, name))}" for name in ("train", "val", "test")]
        by = run.group_by or "class"
        lines.append(f"{run.dataset}{target} by {by}: {', '.join(sizes)} images\n")
    paths.write_atomically(output, "".join(lines).encode())
    return 0


def execute(arguments: argparse.Namespace) -> int:
    """Executes a notebook; exit status 1 where a cell failed."""
    from fairlth.config import parameters
    from fairlth.workflow.execute import FAILURES, sentence
    from fairlth.workflow.execute import execute as run

    try:
        run(arguments.notebook, arguments.output, parameters.parse(arguments.parameters))
    except FAILURES as error:
        message = f"{arguments.notebook}: {sentence(error)} See {arguments.output}"
        print(message, file=sys.stderr)
        return 1
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Writes what data/results/<preset>.csv says as a Markdown page beside it."""
    config.check_preset(arguments.preset)
    _check_replaceable(paths.TABLES / f"{arguments.preset}.md", r"# Results at preset .*")
    _say("loading torch")
    from fairlth.analysis import report as page

    _say(f"summing up {arguments.preset}.csv, which takes up to a minute")
    print(f"== {page.write(arguments.preset)}")
    return 0


def gather(arguments: argparse.Namespace) -> int:
    """Merges the finished records of a preset into data/results/<preset>.csv.

    Records that are not whole or were made under other settings or with other data are left out, a
    sentence each.
    """
    preset = arguments.preset
    config.check_preset(preset)
    runs = config.every_run(preset)
    there = [run for run in runs if config.record_path(run, paths.RUNS).exists()]
    if not there:
        raise ValueError(
            f"{paths.RUNS / preset / 'records'} has no record of preset {preset!r}: "
            f"run `make reproduce PRESET={preset}` first."
        )
    _say("loading torch")
    from tqdm.auto import tqdm

    from fairlth.analysis import records
    from fairlth.workflow import experiments

    found = []
    for run in tqdm(there, desc="reading records", unit="record"):
        path = config.record_path(run, paths.RUNS)
        try:
            record = records.read(path, run)
        except ValueError as error:
            _say(f"left out: {error}")
            continue
        other = experiments.differing(record, run)
        if other == "settings":
            _say(f"left out: {path} was made under other settings of {preset!r}: run it again.")
        elif other == "data":
            _say(f"left out: {path} was made with other files of {run.dataset}: run it again.")
        else:
            found.append(record)
    if not found:
        raise ValueError(f"no record of preset {preset!r} can be used: make its runs again.")
    table = records.merge_table(records.table(found), preset)
    print(f"== {table}: merged {len(found)} of {len(runs)} runs")
    return 0


def where(arguments: argparse.Namespace) -> int:
    """Prints the folder of a preset's runs, which FAIRLTH_HOME decides."""
    config.check_preset(arguments.preset)
    print(paths.RUNS / arguments.preset)
    return 0


def _check_replaceable(path: Path, pattern: str) -> None:
    """Raises ValueError if a file is there and does not read as the package writes it."""
    if not path.exists():
        return
    written_by_us = path.is_file() and re.fullmatch(
        pattern, path.read_bytes().decode(errors="replace"), re.S
    )
    if not written_by_us:
        raise ValueError(
            f"{path} is there and is not what this command writes: "
            "move it away or give another path."
        )


def _say(doing: str) -> None:
    """What the command is at: loading torch alone takes seconds."""
    print(f"== {doing}", file=sys.stderr, flush=True)


def _warn(message: Warning | str, *place: Any, **named: Any) -> None:
    """Shows a warning as a line, without the place in the code that it came from."""
    _say(str(message))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fairlth", description="Fair lottery tickets.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _add(commands, plan, "what a preset would take; trains nothing")
    command.add_argument("preset")
    command.add_argument("--steps", type=Path, help="timed steps that --save has written elsewhere")
    command.add_argument("--save", type=Path, help="where to write the steps that are timed here")

    command = _add(commands, ticket, "one ticket of your images, with card, ONNX file and picture")
    _add_ticket_options(command)

    command = _add(commands, status, "how far the runs of a preset are")
    command.add_argument("preset")

    command = _add(commands, prepare, "load a data set once, before a grid does")
    command.add_argument("dataset")
    command.add_argument("preset")
    command.add_argument("output", type=Path, help="file for the numbers of images")

    command = _add(commands, execute, "execute a notebook with Papermill, strictly")
    command.add_argument("notebook", type=Path)
    command.add_argument("output", type=Path)
    command.add_argument("parameters", nargs="*", metavar="name=value")

    command = _add(commands, report, "what a preset's table says, as a Markdown page beside it")
    command.add_argument("preset")

    command = _add(commands, gather, "merge finished records of a preset into its table")
    command.add_argument("preset")

    command = _add(commands, where, "the folder of a preset's runs")
    command.add_argument("preset")
    return parser


def _add_ticket_options(command: argparse.ArgumentParser) -> None:
    """The options of `ticket`; their names are those of `one_ticket.Wish`."""
    command.add_argument(
        "images",
        metavar="FOLDER",
        help="class sub-folders, alone or in train/, val/ and test/, or with a groups.csv; "
        "or a data set of the package, or a repository of the Hugging Face hub (owner/name)",
    )
    command.add_argument("--group-by", help="column that fairness is over (default: the classes)")
    command.add_argument("--target", help="label column (default: label)")
    command.add_argument(
        "--network",
        default="convnet",
        help="a network of the package (default: convnet), or timm/NAME, a network of timm, or "
        "FILE.py:FUNCTION, your function of (in_shape, n_classes) that builds one",
    )
    command.add_argument(
        "--weights",
        choices=("keep", "draw"),
        help="of your network: keep starts from those it comes with, draw draws all anew",
    )
    command.add_argument(
        "--trained",
        action="store_true",
        help="your network as it comes is the dense net, which is not trained",
    )
    command.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="NAME",
        help="layers of your network that stay whole, such as head or 'stem.*'; may be repeated",
    )
    command.add_argument("--density", type=float, default=0.1, help="share of weights kept (0.1)")
    command.add_argument("--method", default="ballot", help="see the README (default: ballot)")
    command.add_argument(
        "--preset", help="scale of the training (small; of given weights finetune)"
    )
    command.add_argument("--epochs", type=int, help="of a training (default: the preset's)")
    command.add_argument("--side", type=int, help="pixels per side (default: at most the preset's)")
    command.add_argument("--seed", type=int, default=0, help="default: 0")
    command.add_argument("--image", default="image", help="image column of parquet files (image)")
    command.add_argument(
        "--out", type=Path, help="folder of the files (default: in the preset's runs)"
    )


def _add(
    commands: Any, action: Callable[[argparse.Namespace], int], about: str
) -> argparse.ArgumentParser:
    """A sub-command called as the function that does it."""
    command = commands.add_parser(action.__name__, help=about, description=about)
    command.set_defaults(action=action)
    return command


def main(words: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        0; 1 where a notebook's cell failed, a loss became infinite or a ticket is dead; 2 for bad
        input, whose sentence is on standard error; 130 where it was stopped by Ctrl-C.
    """
    arguments = _parser().parse_args(words)
    try:
        return arguments.action(arguments)
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 130  # as shells have it
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fairlth"):
            raise
        print(
            f"{error.name} is not installed: pip install 'fairlth[all]' brings it.", file=sys.stderr
        )
        return 2
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
