"""One ticket of your images: checked, told, trained, shipped. What `fairlth ticket` does.

`plan` checks everything and trains nothing, `make` trains what is missing, `ship` leaves the files.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from fairlth import config, data, figures, methods, metrics, models
from fairlth.analysis import summaries
from fairlth.analysis.records import Record
from fairlth.config import METHOD_TABLE, PRESETS, Run, paths, workload
from fairlth.data.listing import MOST_GROUPS
from fairlth.images import Data
from fairlth.shipping import card as cards
from fairlth.shipping import export
from fairlth.shipping import ticket as tickets
from fairlth.shipping.card import Card
from fairlth.shipping.remove import remove
from fairlth.workflow import cost, experiments, yours
from fairlth.workflow.status import duration

ENDINGS = (tickets.ENDING, ".json", ".md", ".onnx", ".png")  # of the files that are left
NETWORK = "network"  # the condition on a card that tells your network from others of its name


@dataclass(frozen=True)
class Wish:
    """What is asked for, each value as the command has it.

    `weights`, `trained` and `keep` are those of `models.add`, of a network of yours.
    """

    images: str
    group_by: str | None = None
    target: str | None = None
    network: str = "convnet"
    density: float = 0.1
    method: str = "ballot"
    preset: str = "small"
    seed: int = 0
    side: int | None = None
    epochs: int | None = None
    weights: str | None = None
    trained: bool = False
    keep: Sequence[str] = ()
    image: str = "image"
    out: Path | None = None


@dataclass(frozen=True)
class Plan:
    """A ticket that can be made: its run, the dense net to compare with, images, where it goes.

    `done` are the records that are there already.
    """

    run: Run
    dense: Run
    data: Data
    out: Path
    done: dict[Run, Record] = field(repr=False)

    def file(self, ending: str) -> Path:
        """Where one of the files goes."""
        return self.out / (self.run.slug() + ending)


class Shipped(NamedTuple):
    """The files that were left, and why there is no ONNX file, "" where there is one."""

    files: list[Path]
    fault: str


def plan(wish: Wish) -> Plan:
    """Checks all that is asked for; reads images and trains nothing.

    Raises:
        ValueError: in one sentence, what cannot be.
        OSError: the files could not be written.
        ModuleNotFoundError: what writes ONNX files is not installed.
    """
    import onnx  # noqa: F401, is it installed?
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    config.check_preset(wish.preset)
    yours.check_side(wish.side)
    yours.check_epochs(wish.preset, wish.epochs)
    if wish.method == "dense":
        raise ValueError("method='dense' is refused: it prunes nothing, and is compared anyway.")
    network, build = yours.network(wish.network)
    if build is None:
        yours.check_no_options(wish.network, wish.weights, wish.trained, wish.keep)
    most = PRESETS[wish.preset].image_size
    dataset = yours.images(wish.images, wish.side, most, wish.target, wish.image)
    run = Run(
        dataset=dataset,
        model=network,
        method=wish.method,
        density=wish.density,
        seed=wish.seed,
        preset=yours.scale(wish.preset, dataset, wish.side, wish.epochs),
        target=wish.target,
        group_by=wish.group_by,
    )
    data.check(run)
    methods.check(run)
    if build is None:
        models.check(run.model)
    loaded = data.load(run)
    if build is not None:
        sizes = (loaded.in_shape, len(loaded.classes))
        yours.add(network, build, *sizes, wish.weights, wish.trained, wish.keep)
    methods.check_data(run, loaded)
    fresh = models.build(network, loaded.in_shape, len(loaded.classes), torch.Generator())
    models.check_fits(network, fresh, loaded.in_shape, len(loaded.classes), dataset)
    return _placed(run, loaded, wish.out)


def _placed(run: Run, loaded: Data, out: Path | None) -> Plan:
    """The plan with its folder, and with the records that are there."""
    dense = workload.dense_of(run)
    content = (data.fingerprint(run.dataset), models.fingerprint(run.model))
    name = "-".join([run.dataset, *filter(None, content)])  # other images leave other files
    own = paths.RUNS / run.preset / "shipped" / name
    folder = own if out is None else out.expanduser().absolute()
    records = {one: experiments.usable(one, paths.RUNS) for one in (dense, run)}
    done = {one: record for one, record in records.items() if record is not None}
    if run in done and not _has_ticket(run):
        del done[run]
    made = Plan(run, dense, loaded, folder, done)
    _check_free(made)
    paths.check_writable(made.file(".json"))
    return made


def _has_ticket(run: Run) -> bool:
    """Whether the run's ticket is there and whole."""
    try:
        tickets.load(config.ticket_path(run, paths.RUNS), run)
    except ValueError as error:
        warnings.warn(f"{error} It is made anew now.", stacklevel=2)
        return False
    return True


def _check_free(made: Plan) -> None:
    """Raises ValueError where files of something else, or of another network, are in the way."""
    there = [made.file(ending) for ending in ENDINGS if made.file(ending).exists()]
    if not there:
        return
    try:
        card = tickets.read_card(made.file(tickets.ENDING))
    except ValueError:
        card = None
    if card is None or not _is_of(card, made):
        raise ValueError(
            f"{there[0]} is there and is not of this ticket: move it away or give another --out."
        )


def _is_of(card: Card, made: Plan) -> bool:
    """Whether a card that was left is of the same run, images and network."""
    network = card.conditions.get(NETWORK, "")
    return (
        card.run == made.run.model_dump()
        and card.data_sha256 == cards.fingerprint(made.data)
        and network == models.fingerprint(made.run.model)
    )


def _card_of(card: Card, made: Plan) -> Card:
    """The card that is left: with what tells your network from others of its name."""
    network = models.fingerprint(made.run.model)
    if not network:
        return card
    return card.model_copy(update={"conditions": card.conditions | {NETWORK: network}})


def found(made: Plan) -> str:
    """What there is: images, classes, groups, sizes, the network and its weights."""
    run = made.run
    channels, side, _ = made.data.in_shape
    settings = run.settings
    splits = (made.data.train, made.data.val, made.data.test)
    n_bytes = sum(split.x.nbytes for split in splits)
    network = models.build(run.model, made.data.in_shape, len(made.data.classes), torch.Generator())
    weights = {name: weight.numel() for name, weight in models.prunable(network).items()}
    total = sum(weights.values())
    lines = [
        yours.found(run.dataset),
        f"read as {side} x {side} pixels in {channels} channel(s), {n_bytes / 1e6:.1f} MB: preset "
        f"{run.preset} has at most {settings.image_size} (--side N asks for another size)",
        _images(made).to_string(),
        f"network {run.model}: {total:,} weights to prune in {len(weights)} layers, of which "
        f"{run.method} keeps {_promise(run, total)}",
        f"a training: {settings.schedule.epochs} epochs of {_steps(made)} steps "
        "(--epochs N asks for others)",
    ]
    return "\n".join(lines)


def _prunes_units(run: Run) -> bool:
    return METHOD_TABLE[run.method].structure == "units"


def _promise(run: Run, total: int) -> str:
    """How many of the weights the run's method keeps, and of whole units, what becomes of them."""
    kept = f"{config.share_of(run.density, total):,}"
    if not _prunes_units(run):
        return kept
    if run.settings.count_flops:
        kept = f"{run.density:g} of the FLOPs"
    return f"at most {kept}, in whole units; the ONNX file is the network without the others"


def _images(made: Plan) -> pd.DataFrame:
    """Images per split: of all, of each class and group; of many classes or groups the fewest."""
    splits = {"train": made.data.train, "val": made.data.val, "test": made.data.test}
    rows = {"images": {name: len(split) for name, split in splits.items()}}
    columns = {made.run.label: ("y", made.data.classes)}
    if made.run.group_by is not None:
        columns[made.run.group_by] = ("group", made.data.groups)
    for column, (labels, names) in columns.items():
        counts = {
            split: torch.bincount(getattr(images, labels), minlength=len(names)).tolist()
            for split, images in splits.items()
        }
        if len(names) > MOST_GROUPS:
            rows[f"each of {len(names)} {column}: fewest"] = {
                split: min(own) for split, own in counts.items()
            }
            continue
        for number, name in enumerate(names):
            rows[f"{column} {name}"] = {split: own[number] for split, own in counts.items()}
    return pd.DataFrame(rows).T


def _steps(made: Plan) -> int:
    return max(1, len(made.data.train) // made.run.settings.schedule.batch_size)


def time_needed(made: Plan) -> str:
    """How long the trainings that are missing take, by steps that are timed now.

    A network that was given as trained is the dense net without a training.
    """
    missing = [one for one in (made.dense, made.run) if one not in made.done]
    there = [_called(one) for one in made.done]
    told = f"there already and used: {', '.join(there)}\n" if there else ""
    trained = [made.run.model] if models.given_as_trained(made.run.model) else []
    work = workload.work([made.dense, made.run], trained)
    trainings = sum(work[one] for one in missing)
    if trainings == 0:
        return f"{told}nothing is left to train"
    torch.set_num_threads(paths.THREADS)
    step = cost.seconds_on(made.run, made.data)
    n_steps = trainings * made.run.settings.schedule.epochs * _steps(made)
    time = duration(max(1.0, n_steps * step))
    return (
        f"{told}about {time} on {cost.device_name()}: {n_steps:.0f} steps of "
        f"{step:.3f} s; predictions and scores come on top (FAIRLTH_THREADS sets the threads)"
    )


def _called(run: Run) -> str:
    return "the dense net" if run.method == "dense" else f"{run.method} at density {run.density:g}"


def make(made: Plan, say: Callable[[str], None]) -> list[Record]:
    """The records of the dense net and the ticket; what is missing is trained, with progress.

    Raises:
        FloatingPointError: a loss became infinite or nan.
    """
    records = []
    for one in (made.dense, made.run):
        record = made.done.get(one)
        if record is None:
            say(f"training {_called(one)}")
            record = experiments.run(one, paths.RUNS)
        records.append(record)
    return records


def numbers(made: Plan, records: list[Record]) -> str:
    """Accuracy, CWV and what fares worst, of the dense net and the ticket on test images."""
    rows = {_called(Run(**record.run)): _row(record) for record in records}
    n = int(records[0].split("test").total.sum())
    over = made.run.group_by or "classes"
    note = f"on {n} test images, one training each, 95 % Wilson intervals; CWV over {over}"
    return f"{pd.DataFrame(rows).T.to_string()}\n{note}"


def _row(record: Record) -> dict[str, str]:
    counts = record.split("test")
    measures = summaries.measures(*counts.by_group(), ("cwv", "cwv_floor"))
    accuracy = metrics.share_interval(counts.correct.sum(), counts.total.sum()).times(100)
    row = {
        "accuracy %": f"{accuracy:.1f}",
        "CWV x1e4": f"{1e4 * measures['cwv']:.1f}",
        "by chance": f"{1e4 * measures['cwv_floor']:.1f}",
        "worst class": _worst(record.classes, counts.correct.sum(1), counts.total.sum(1)),
    }
    if record.group_by != "class":
        row[f"worst {record.group_by}"] = _worst(record.groups, *counts.by_group())
    return row


def _worst(names: list[str], correct: np.ndarray, total: np.ndarray) -> str:
    """The name and accuracy of the class or group that fares worst, with its number of images."""
    worst = int(np.nanargmin(metrics.group_accuracy(correct, total)))
    return f"{names[worst]} {correct[worst] / total[worst]:.1%} of {total[worst]}"


def ship(made: Plan, records: list[Record]) -> Shipped:
    """Leaves the ticket, its card as JSON and Markdown, a picture and the ONNX file.

    A dead ticket gets no ONNX file. That of a ticket of whole units is the network without the
    units that were removed.

    Raises:
        OSError: a file cannot be written.
    """
    source = config.ticket_path(made.run, paths.RUNS)
    ticket = tickets.load(source, made.run)
    card = _card_of(ticket.card, made)
    contents = {
        tickets.ENDING: source.read_bytes(),
        ".json": cards.card_bytes(card),
        ".md": cards.markdown(card).encode(),
        ".png": picture(records),
    }
    fault = ""
    try:
        network = ticket.model
        if _prunes_units(made.run) and not card.dead:
            network = remove(network, ticket.mask, card.in_shape)
        contents[".onnx"] = export.onnx(network, card.in_shape, card)
    except ValueError as error:
        fault = f"no ONNX file: {error}"
        made.file(".onnx").unlink(missing_ok=True)
    for ending, content in contents.items():
        paths.write_atomically(made.file(ending), content)
    return Shipped([made.file(ending) for ending in contents], fault)


def picture(records: list[Record]) -> bytes:
    """A PNG: accuracy of dense net and ticket per class, and per group where these differ."""
    first = records[0]
    panels = {"class": (first.classes, 1)}  # the axis of the counts that is summed over
    if first.group_by != "class":
        panels[first.group_by] = (first.groups, 0)
    widths = [max(4.0, min(24.0, 0.5 * len(names))) for names, _ in panels.values()]
    figure = Figure(figsize=(sum(widths), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for ax, (title, (names, axis)) in zip(axes, panels.items(), strict=True):
        for record, shift in zip(records, (-0.12, 0.12), strict=True):
            correct, total = record.split("test")
            counts = (correct.sum(axis), total.sum(axis))
            figures.group_accuracy(*counts, names, ax, record.run["method"], shift)
        run = records[-1].run
        figures.titled(ax, f"Accuracy by {title}", f"{run['dataset']}, {run['model']}, one seed")
    figures.legend_below(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
