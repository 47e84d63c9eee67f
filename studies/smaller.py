"""Smaller and faster: tickets of whole units beside unstructured ones, new small networks and int8.

    python studies/smaller.py make --part 0/2      trains what is missing; beside it --part 1/2
    python studies/smaller.py measure              all that is there, into smaller.csv and
                                                   smaller_duels.csv
    python studies/smaller.py show                 smaller.md and smaller.png from these

A unit ticket has at most a quarter or an eighth of the dense net's FLOPs, and layers that lose
units keep a multiple of 8. Every form is measured as the ONNX file that is shipped: on test images,
and by its time over the dense net's, one thread, in turn. Unstructured tickets are made smaller by
`compact`, as far as that goes.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from fairlth import config, data
from fairlth.analysis import audit, equal_accuracy, records, summaries
from fairlth.analysis.audit import Answers
from fairlth.analysis.conditions import processor
from fairlth.config import PRESETS, Run, Task, paths
from fairlth.images import Data
from fairlth.metrics import Interval, mean_interval
from fairlth.shipping import export
from fairlth.shipping import ticket as tickets
from fairlth.shipping.compact import compact
from fairlth.shipping.remove import remove
from fairlth.shipping.static_int8 import calibration_rows, static_int8
from fairlth.training import count
from studies import grid

TASKS = tuple(
    Task(dataset=dataset, model=model, target=target)
    for model in ("vgg11_small", "resnet20")
    for dataset, target in (("cifar10", None), ("utkface", "race"))
)
SHARES = (0.25, 0.125)  # of the dense net's FLOPs
UNITS = ("units_norm", "units_long", "units_ballot", "units_scratch")
UNSTRUCTURED = 0.02  # of the weights
MULTIPLE = 8  # of units that a layer keeps
CALIBRATED_ON = 200  # validation images
IMAGES = (1, 32)  # per call
INT8 = {"int8": False, "int8, balanced": True}  # whether its images are drawn by group
IN_INT8 = ("dense", "units_norm 0.25", f"lth_rate {UNSTRUCTURED}, compact")
HERE = Path(__file__).resolve().parent
TABLE = HERE / "smaller.csv"
DUELS = HERE / "smaller_duels.csv"
PAGE = HERE / "smaller.md"
PICTURE = HERE / "smaller.png"
MEASURED = ("accuracy", "cwv", "worst_accuracy", "forgotten")
PAIRS = (  # the first form minus the second
    ("units_norm 0.25", "units_scratch 0.25"),
    ("units_norm 0.125", "units_scratch 0.125"),
    ("units_long 0.25", "units_norm 0.25"),
    ("units_long 0.125", "units_norm 0.125"),
    ("units_ballot 0.25", "units_long 0.25"),
    ("units_ballot 0.125", "units_long 0.125"),
    ("units_norm 0.25", "dense"),
    (f"lth_rate {UNSTRUCTURED}, compact", "dense"),
    ("units_norm 0.25", f"lth_rate {UNSTRUCTURED}, compact, int8"),
    ("dense, int8", "dense"),
    ("dense, int8, balanced", "dense, int8"),
    ("units_norm 0.25, int8", "units_norm 0.25"),
    ("units_norm 0.25, int8, balanced", "units_norm 0.25, int8"),
)
COMPARED = """\

## In pairs, over all tasks

The first form minus the second one of the same seed, a mean over the tasks for each seed, with 95 %
t intervals over n = {n} seeds; CWV is a ratio, below 1 is fairer. *By task*: the lowest and the
highest mean of a task, since tasks may differ in sign; the intervals are over seeds, for these four
tasks. Bold: the interval does not include 0 (1 for the ratio), as two or three of 52 would not by
chance alone. Tickets train longer than the dense net, so a gain on `dense` may come from that.

"""
EVEN = """\

No unstructured ticket is as fast as one of units. The nearest in latency is its int8 form, so that
pair is in the table, too.

Any method can lower CWV by giving up accuracy, so `units_ballot` is also compared with each rival's
curve of shifted class biases, at the same accuracy, as in 15_equal_accuracy (the trained networks,
not their ONNX files). `spent` is in dense trainings, all passes counted. Its CWV is

"""
RIVALS = {"units_long": "lth_long", "units_norm": "lth_rate"}  # by the names that duels know
HEAD = """\
# Smaller and faster

Written by `smaller.py`. Means over seeds with 95 % t intervals, of the ONNX files that would be
shipped, on test images. *FLOPs* and *latency* are over the dense net's; a latency is a median of
rounds in turn, one thread, of the first seed's files. *Forgotten*: of the images that the dense net
of a seed has right, the share that all other seeds of the form have wrong; the dense row is what
training anew forgets. `units_scratch` is a new network of the same shape, trained as many epochs as
its ticket took in all. `int8` is static, calibrated on 200 validation images, as they are drawn or
(`balanced`) the same number from each group.
"""


def preset() -> str:
    """The name of the study's preset, which is made known."""
    own = {
        "tasks": TASKS,
        "densities": SHARES,
        "also": (),
        "count_flops": True,
        "round_units": MULTIPLE,
        "methods": ("dense", *UNITS, "lth_rate"),
    }
    PRESETS["units"] = PRESETS["breadth"].model_copy(update=own)
    return "units"


def runs_of(task: Task, seed: int) -> list[Run]:
    """All runs of a task and seed, those first that others share trainings with."""
    name = preset()
    runs = config.grid(name, ("dense", *UNITS), SHARES, (seed,), tasks=(task,))
    return runs + config.grid(name, ("lth_rate",), (UNSTRUCTURED,), (seed,), tasks=(task,))


def plan() -> list[Run]:
    """All runs, task by task."""
    seeds = PRESETS[preset()].seeds
    return [run for task in TASKS for seed in seeds for run in runs_of(task, seed)]


def measure() -> pd.DataFrame:
    """A row per task, form and seed; tasks of which a run is missing are left out."""
    rows = [_rows(own) for own in tqdm(whole_tasks(), unit="task")]
    return pd.DataFrame([row for own in rows for row in own])


def whole_tasks() -> list[list[Run]]:
    """The runs of each task that has all of its tickets."""
    found = []
    for task in TASKS:
        own = [run for run in plan() if (run.dataset, run.model) == (task.dataset, task.model)]
        if all(config.ticket_path(run).exists() for run in own):
            found.append(own)
    return found


def duels() -> pd.DataFrame:
    """Tickets of Ballot against plain ones with shifts, over all tasks, from the runs' records."""
    names = RIVALS | {"units_ballot": "ballot", "dense": "dense"}
    made = [run for own in whole_tasks() for run in own if run.method in names]
    table = records.table([records.read(config.record_path(run), run) for run in made])
    points = equal_accuracy.shifted(table.replace({"method": names}))
    found = equal_accuracy.duels(points)
    unit_names = {name: units for units, name in RIVALS.items()}
    return found[found["dataset"] == "all"].replace({"rival": unit_names})


def _rows(runs: list[Run]) -> list[dict[str, Any]]:
    """The rows of a task."""
    rows: list[dict[str, Any]] = []
    said: dict[str, dict[int, Answers]] = {}
    for seed in sorted({run.seed for run in runs}):
        own = [run for run in runs if run.seed == seed]
        loaded = data.load(own[0])
        files = forms(own, loaded)
        timed = latencies(files, loaded) if seed == min(run.seed for run in runs) else {}
        for form, (content, flops) in files.items():
            outputs = export.logits(export.session(content), loaded.test)
            said.setdefault(form, {})[seed] = audit.answers_of(outputs, loaded.test)
            row = {"dataset": own[0].dataset, "model": own[0].model, "form": form, "seed": seed}
            row |= {"flops": flops, "kB": len(content) / 1000}
            row["device"] = f"{processor()}, {paths.THREADS} thread(s)"
            row |= timed.get(form, {})
            rows.append(row | summaries.measures(*count(outputs, loaded.test).by_group()))
    dense = said["dense"]
    for one in rows:
        lost = audit.forgotten(dense, said[one["form"]], one["seed"])
        one["forgotten"] = lost.sum() / dense[one["seed"]].right.sum()
    return rows


def forms(runs: list[Run], loaded: Data) -> dict[str, tuple[bytes, float]]:
    """The ONNX files of a task and seed, each with its FLOPs over the dense net's."""
    shape = loaded.in_shape
    found: dict[str, tuple[bytes, float]] = {}
    whole = 0
    for run in runs:
        ticket = tickets.load(config.ticket_path(run), run)
        if run.method == "dense":
            name, network = "dense", ticket.model
            whole = export.flops(network, shape)
        elif run.method in UNITS:
            name = f"{run.method} {run.density:g}"
            network = remove(ticket.model, ticket.mask, shape)
        else:
            name = f"{run.method} {run.density:g}, compact"
            network = compact(ticket.model)
        content = export.onnx(network, shape, even_if_dead=True)
        found[name] = (content, export.flops(network, shape) / whole)
    generator = torch.Generator().manual_seed(runs[0].seed)
    for ending, balanced in INT8.items():
        rows = calibration_rows(loaded.val, CALIBRATED_ON, generator, balanced)
        for name in IN_INT8:
            content, share = found[name]
            found[f"{name}, {ending}"] = (static_int8(content, loaded.val.x[rows]), share)
    return found


def latencies(files: dict[str, tuple[bytes, float]], loaded: Data) -> dict[str, dict[str, float]]:
    """Median times over the dense net's, by form and number of images a call."""
    contents = {form: content for form, (content, _) in files.items()}
    found: dict[str, dict[str, float]] = {form: {} for form in files}
    for n in IMAGES:
        seconds = export.latency(contents, loaded.test.x[:n])
        for form, spent in seconds.items():
            ratio = np.median(np.divide(spent, seconds["dense"]))
            found[form][f"latency {n}"] = float(ratio)
    return found


def page(rows: pd.DataFrame, fights: pd.DataFrame) -> str:
    """The tables as Markdown."""
    text = f"{HEAD}\nMeasured on {', '.join(rows['device'].unique())}.\n\n![]({PICTURE.name})\n"
    shown = [compared(rows, *pair) for pair in PAIRS]
    text += COMPARED.format(n=rows["seed"].nunique())
    text += pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True) + "\n"
    text += EVEN
    for duel in fights.itertuples():
        interval = Interval(duel.ratio, duel.low, duel.high, duel.n)
        text += (
            f"* {interval:.2f} times that of `{duel.rival}`: {duel.verdict}; {duel.settings} "
            f"settings, n = {duel.n} seeds; spent {duel.spent:.2f} and {duel.rival_spent:.2f}\n"
        )
    for (dataset, model), own in rows.groupby(["dataset", "model"], sort=False):
        shown = [_shown(form, part) for form, part in own.groupby("form", sort=False)]
        table = pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True)
        text += f"\n## {dataset}, {model}, n = {own['seed'].nunique()} seeds\n\n{table}\n"
    return text


def compared(rows: pd.DataFrame, form: str, other: str) -> dict[str, str]:
    """A form minus another one of the same task and seed, averaged over tasks for each seed."""
    place = ["dataset", "model", "seed"]
    ours = rows[rows["form"] == form].set_index(place)
    theirs = rows[rows["form"] == other].set_index(place)
    gained = ours[list(MEASURED)].sub(theirs[list(MEASURED)]) * 100
    ratios = np.log(ours["cwv"] / theirs["cwv"])
    over_seeds = {name: mean_interval(gained[name].groupby("seed").mean()) for name in gained}
    cwv = mean_interval(ratios.groupby("seed").mean())
    ratio = Interval(np.exp(cwv.mean), np.exp(cwv.low), np.exp(cwv.high), cwv.n)
    accuracies = gained["accuracy"].groupby(["dataset", "model"]).mean().round(1) + 0  # no -0.0
    tasks = np.exp(ratios.groupby(["dataset", "model"]).mean())
    return {
        "form": form,
        "minus": other,
        "accuracy, points": _marked(over_seeds["accuracy"], 0, ".1f"),
        "by task": f"{accuracies.min():.1f} to {accuracies.max():.1f}",
        "CWV, ratio": _marked(ratio, 1, ".2f"),
        "ratio by task": f"{tasks.min():.2f} to {tasks.max():.2f}",
        "worst, points": _marked(over_seeds["worst_accuracy"], 0, ".1f"),
        "forgotten, points": _marked(over_seeds["forgotten"], 0, ".1f"),
    }


def _marked(interval: Interval, none: float, form: str) -> str:
    """An interval's text, bold where it leaves out `none`, as it is printed."""
    told = format(interval, form)
    low = float(format(interval.low, form))
    high = float(format(interval.high, form))
    return told if low <= none <= high else f"**{told}**"


def _shown(form: str, rows: pd.DataFrame) -> dict[str, str]:
    """A form's row as people read it."""
    scales = {"accuracy": 100, "cwv": 1e4, "worst_accuracy": 100, "forgotten": 100}
    titles = dict(zip(MEASURED, ("accuracy %", "CWV x1e4", "worst %", "forgotten %"), strict=True))
    row = {"form": form, "FLOPs": f"{rows['flops'].mean():.3f}", "kB": f"{rows['kB'].mean():.0f}"}
    for n in IMAGES:
        row[f"latency {n}"] = f"{rows[f'latency {n}'].dropna().iloc[0]:.2f}"
    for name in MEASURED:
        interval = mean_interval(rows[name]).times(scales[name])
        row[titles[name]] = f"{interval:±.1f}"
    return row


def picture(rows: pd.DataFrame) -> None:
    """Latency against accuracy and CWV, a column per task; filled 32 images a call, hollow one."""
    cells = [*rows.groupby(["dataset", "model"], sort=False)]
    figure, axes = plt.subplots(2, len(cells), figsize=(3.4 * len(cells), 6), squeeze=False)
    colours = {"dense": "#000000", "lth_rate": "#0072B2", "units_norm": "#D55E00"}
    colours |= {"units_long": "#E69F00", "units_ballot": "#CC79A7", "units_scratch": "#009E73"}
    for column, ((dataset, model), own) in enumerate(cells):
        for ax, name, scale in zip(axes[:, column], ("accuracy", "cwv"), (100, 1e4), strict=True):
            for form, part in own.groupby("form", sort=False):
                interval = mean_interval(part[name]).times(scale)
                colour = colours[form.split(",")[0].split(" ")[0]]
                style = {"color": colour, "marker": "s" if "int8" in form else "o", "capsize": 2}
                for n in IMAGES:
                    at = part[f"latency {n}"].dropna().iloc[0]
                    face = colour if n == max(IMAGES) else "none"
                    half = [[interval.mean - interval.low], [interval.high - interval.mean]]
                    ax.errorbar(at, interval.mean, half, mfc=face, lw=0.8, **style)
            ax.set_xlabel("latency over the dense net's")
        axes[0, column].set_title(f"{dataset}, {model}")
    axes[0, 0].set_ylabel("accuracy (%)")
    axes[1, 0].set_ylabel("CWV x 10^4 (0 is fair)")
    handles = [plt.Line2D([], [], color=colour, marker="o", ls="") for colour in colours.values()]
    handles.append(plt.Line2D([], [], color="#777777", marker="s", ls=""))
    names = [*colours, "int8"]
    title = "filled: 32 images a call, hollow: one; bars are 95 % intervals over seeds"
    figure.legend(handles, names, loc="lower center", ncols=len(names), title=title)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(PICTURE, dpi=110)


def make(runs: Iterable[Run]) -> list[Run]:
    """Makes the runs whose records are not there; returns those that failed."""
    return grid.make(grid.missing(runs))


def main() -> int:
    """Does what the first argument says; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("make", "measure", "show"))
    parser.add_argument("--part", type=grid.part_of, default=grid.Part(0, 1), help="such as 0/2")
    arguments = parser.parse_args()
    torch.set_num_threads(paths.THREADS)
    if arguments.what == "make":
        return 1 if make(grid.share(plan(), arguments.part)) else 0
    if arguments.what == "measure":
        rows = measure()
        if rows.empty:
            parser.error("no task has all of its tickets: call this with `make` first.")
        fights = duels()
        paths.write_atomically(TABLE, rows.round(6).to_csv(index=False).encode())
        paths.write_atomically(DUELS, fights.round(6).to_csv(index=False).encode())
    for table in (TABLE, DUELS):
        if not table.exists():
            parser.error(f"{table.name} is not there: call this with `measure` first.")
    rows = pd.read_csv(TABLE)
    paths.write_atomically(PAGE, page(rows, pd.read_csv(DUELS)).encode())
    picture(rows)
    print(PAGE.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
