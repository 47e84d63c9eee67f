"""From a Run to its Record: the one place that sees the whole chain."""

import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fairlth import config, data, methods, models
from fairlth.analysis import audit, conditions, records, schema, scope
from fairlth.analysis.records import Record
from fairlth.bias_shift import fair_shift
from fairlth.config import METHOD_TABLE, Run, paths, workload
from fairlth.config.parameters import truth
from fairlth.images import Data
from fairlth.lottery import Ticket
from fairlth.masks import count_frozen, count_kept, prunable
from fairlth.methods.sharing import LEDGER
from fairlth.metrics import Counts
from fairlth.shipping import ticket as tickets
from fairlth.shipping.card import why_dead
from fairlth.shipping.ticket import Loaded
from fairlth.training import PASSES, count, logits


def check(run: Run) -> None:
    """Raises ValueError in one sentence for a name that is unknown or data that are not there;
    reads and trains nothing.
    """
    if not isinstance(run, Run):
        kind = type(run).__name__
        raise ValueError(f"run={run!r} is a {kind}: expected a Run, as config.Run makes it.")
    data.check(run)
    models.check(run.model)
    methods.check(run)


def run(run: Run, runs: Path | None = None) -> Record:
    """Trains one run, reads the test split once, and writes its ticket, then its record.

    Raises:
        ValueError: bad input, before any training.
        FloatingPointError: the loss became infinite or nan; nothing is written.
        OSError: the results cannot be written.
    """
    check(run)
    conditions.check_code()
    paths.check_writable(config.record_path(run, runs))
    set_up_torch()
    started = time.perf_counter()
    LEDGER.clear()
    files = data.content(run.dataset)
    loaded = data.load(run)
    methods.check_data(run, loaded)
    images = PASSES.images
    ticket = methods.make(run, loaded)
    images = PASSES.images - images + LEDGER.read_images()
    _check_ticket(run, ticket)
    record = record_of(run, loaded, ticket, started, images)
    if files:
        record.conditions["data"] = files
    dense = _dense_record(run, loaded, runs)
    tickets.write(ticket, record, loaded, config.ticket_path(run, runs), dense=dense)
    records.write(record, config.record_path(run, runs))
    return record


def _dense_record(run: Run, loaded: Data, runs: Path | None) -> Record | None:
    """The record of the seed's dense net, where it is there and tells of these test images."""
    dense = workload.dense_of(run)
    path = config.record_path(dense, runs)
    if dense == run or not path.exists():
        return None
    try:
        record = records.read(path, dense)
        audit.answers(record, loaded.test)
    except ValueError:
        return None
    return record if differing(record, dense) in ("", "code") else None


def set_up_torch() -> None:
    """Threads and, where it is asked for, operations that give the same bits each time; one that
    has no such form raises.
    """
    torch.set_num_threads(paths.THREADS)
    if paths.DETERMINISTIC:
        torch.use_deterministic_algorithms(True)


def run_or_load(grid: Iterable[Run] | Run, runs: Path | None = None) -> list[Record]:
    """The records of a grid, in its order; what is there already is read, not trained again.

    A single run is a grid of one.

    A record made under other settings of its preset is made anew, and with a warning one made with
    other files of its data set. One made by other code is made anew where the preset trains in the
    notebook's process, and else used with a warning, since it may have cost hours.
    """
    wanted = [grid] if isinstance(grid, Run) else list(grid)
    for one in wanted:
        check(one)
    found = []
    bar = tqdm(dict.fromkeys(wanted), unit="run", delay=1)
    for one in bar:
        bar.set_postfix_str(one.slug())
        found.append(usable(one, runs) or run(one, runs))
    return found


def ticket(one: Run, runs: Path | None = None) -> Loaded:
    """The trained ticket of a run with its card; the run is made where they are not there or, with
    a warning, damaged.
    """
    run_or_load([one], runs)
    path = config.ticket_path(one, runs)
    if path.exists() and tickets.card_path(path).exists():
        try:
            return tickets.load(path, one)
        except ValueError as error:
            warnings.warn(f"{error} It is made anew now.", stacklevel=2)
    run(one, runs)
    return tickets.load(path, one)


def table(notebook: str, preset: str, train: bool | str) -> pd.DataFrame:
    """The tidy table of an experiment notebook's runs, or of all of them for the overview.

    Args:
        notebook: a key of `config.STUDIES`, or "00_overview".
        preset: a key of `config.PRESETS`.
        train: trains what is missing; False reads data/results/<preset>.csv.

    Raises:
        ValueError: a parameter is not one of these, or there is no table to read.
    """
    train = truth("train", train)
    wanted = (
        config.every_run(preset) if notebook == "00_overview" else config.study(notebook, preset)
    )
    if train:
        kept, missing = _kept(wanted, preset)
        made = records.table(run_or_load(missing))
        frame = pd.concat([kept, made], ignore_index=True) if len(kept) else made
    else:
        frame = records.load(preset)
        frame = frame if notebook == "00_overview" else scope.rows_of(frame, wanted)
    if frame.empty:
        raise ValueError(f"data/results/{preset}.csv has no run of {notebook}: use train=True.")
    order = list(dict.fromkeys([*(run.method for run in wanted), *frame["method"]]))
    place = {method: number for number, method in enumerate(order)}
    return frame.sort_values("method", key=lambda methods: methods.map(place), kind="stable")


def _kept(wanted: list[Run], preset: str) -> tuple[pd.DataFrame, list[Run]]:
    """Rows of the preset's table for the wanted runs, and those of the runs that it lacks.

    A preset whose trainings take seconds keeps nothing: its notebooks make all of it anew.
    """
    done = in_table(preset)
    there = [run for run in wanted if scope.key(run) in done]
    missing = [run for run in wanted if scope.key(run) not in done]
    if not there:
        return pd.DataFrame(columns=records.COLUMNS), wanted
    return scope.rows_of(records.load(preset), there), missing


def in_table(preset: str) -> set[tuple[Any, ...]]:
    """The keys of the runs that the preset's table has, under today's settings; empty where
    trainings take seconds.

    Rows that say nothing of their settings count.
    """
    if config.PRESETS[preset].in_process or not records.table_path(preset).exists():
        return set()
    frame = records.load(preset).drop_duplicates(records.KEYS)
    told = dict(zip(records.run_keys(frame), frame["settings"], strict=True))
    planned = {scope.key(run): run for run in config.every_run(preset)}
    today = {
        one: records.settings_digest(_settings(run)) for one, run in planned.items() if one in told
    }
    return {
        one for one, digest in told.items() if pd.isna(digest) or today.get(one, digest) == digest
    }


def of(notebook: str, preset: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that an experiment notebook shows."""
    return scope.rows_of(frame, config.study(notebook, preset))


def missing(notebook: str, preset: str, frame: pd.DataFrame) -> str:
    """One sentence on the runs of a notebook that a table lacks; "" where it lacks none."""
    return scope.missing(frame, config.study(notebook, preset))


def usable(run: Run, runs: Path | None = None) -> Record | None:
    """The run's record where it is there and was made under today's settings with today's data."""
    path = config.record_path(run, runs)
    if not path.exists():
        return None
    try:
        record = records.read(path, run)
    except ValueError as error:
        warnings.warn(f"{error} It is made anew now.", stacklevel=3)
        return None
    other = differing(record, run)
    if other == "data":
        told = f"{run.slug()} was made with other files of {run.dataset}: it is made anew now."
        warnings.warn(told, stacklevel=3)
    if other == "code" and not run.settings.in_process:
        warnings.warn(
            f"{run.slug()} was made by other code (commit {record.conditions['commit']}).",
            stacklevel=3,
        )
        return record
    return None if other else record


def differing(record: Record, run: Run) -> str:
    """What a record of the run was made with that is not so today: "settings", "data" or "code".

    "" where nothing differs. Data are compared where the record and this machine know their files.
    """
    if record.settings != _settings(run):
        return "settings"
    if records.other_data(record.conditions, {"data": data.content(run.dataset)}):
        return "data"
    return "" if record.conditions["code"] == conditions.LOADED else "code"


def _settings(run: Run) -> dict[str, object]:
    """The preset as a record keeps it: without the lists of a grid, which decide no single run.

    With it what tells a data set and a model of your own from others of their name.
    """
    own = {"dataset": data.fingerprint(run.dataset), "model": models.fingerprint(run.model)}
    return run.settings.model_dump(mode="json", exclude=config.LISTS) | {
        name: value for name, value in own.items() if value
    }


def _check_ticket(run: Run, ticket: Ticket) -> None:
    """The promise of every method: exactly floor(density * N) weights, all others exactly 0.

    Where whole units are pruned: at most that many, and with one unit more it were more.
    """
    weights = prunable(ticket.model)
    if METHOD_TABLE[run.method].structure == "units":
        _check_units(run, ticket)
    else:
        expected = count_kept(run.density, weights)
        assert ticket.mask.n_kept == expected, (
            f"{run.method} keeps {ticket.mask.n_kept} weights, expected {expected}"
        )
    for name, mask in ticket.mask.items():
        assert not weights[name][~mask].any(), (
            f"{run.method} leaves pruned weights of {name} that are not 0"
        )


def _check_units(run: Run, ticket: Ticket) -> None:
    note = ticket.notes["units"]
    counted = ticket.mask.n_kept if note["of"] == "weights" else note["counted"]
    limit = note["limit"]
    one_more = note["one_more"]
    is_kept = counted <= limit and (one_more is None or one_more > limit)
    assert is_kept, (
        f"{run.method} keeps {counted} {note['of']}, one unit more {one_more}: expected as many "
        f"units as make at most {limit}"
    )


def record_of(run: Run, loaded: Data, ticket: Ticket, started: float, images: float) -> Record:
    """The record of a run's ticket.

    Args:
        run, loaded: the run and its data.
        ticket: what its method returned.
        started: the time on `time.perf_counter` when it began.
        images: that it passed, see `training.Passes`.
    """
    val = logits(ticket.model, loaded.val)
    test = logits(ticket.model, loaded.test)
    counts = _counts(loaded, val, test)
    said = audit.answers_of(test, loaded.test)
    layers = ticket.mask.layers()
    dead = why_dead(layers, val)
    notes = ticket.notes | ({"dead": dead} if dead else {})
    notes |= {"rescued": ticket.mask.rescued} if ticket.mask.rescued else {}
    frozen = count_frozen(ticket.model)
    notes |= {"frozen": frozen} if frozen else {}
    return Record(
        run=run.model_dump(),
        target=run.label,
        group_by=run.groups,
        classes=loaded.classes,
        groups=loaded.groups,
        counts={name: _lists(found) for name, found in counts.items()},
        layers=layers,
        cost=round(ticket.cost, 4),
        spent=round(images / dense_images(run, loaded), 4),
        feasible=ticket.feasible and not dead,  # None stays None
        predictions=records.pack_predictions(said.predicted, said.confidence),
        trace=ticket.trace,
        notes=notes,
        settings=_settings(run),
        conditions=conditions.conditions(
            loaded.train.x.device,
            run.settings.schedule,
            time.perf_counter() - started,
            LEDGER.read_seconds(),
        ),
    )


def dense_images(run: Run, loaded: Data) -> int:
    """Images that one dense training of the run goes through: its epochs of whole batches."""
    schedule = run.settings.schedule
    n, size = len(loaded.train), schedule.batch_size
    return schedule.epochs * (n // size * size if n >= size else n)


def _counts(loaded: Data, val: Tensor, test: Tensor) -> dict[str, Counts]:
    """Predictions on "val" and "test", and on "test+s" with s of the way to the fairest class bias
    shift on validation data.
    """
    shift = fair_shift(val, loaded.val)
    found = {"val": count(val, loaded.val), "test": count(test, loaded.test)}
    return found | {
        f"test+{share:g}": count(test + share * shift, loaded.test) for share in schema.SHIFTS
    }


def _lists(counts: Counts) -> dict[str, list[list[int]]]:
    return {"correct": counts.correct.tolist(), "total": counts.total.tolist()}
