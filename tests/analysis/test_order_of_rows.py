"""Any order of a table's rows gives the same numbers: every public function of the wing is tried."""

import inspect

import pandas as pd
import pytest

from fairlth import config
from fairlth.analysis import (
    equal_accuracy,
    groups,
    paired_gains,
    premise,
    records,
    scope,
    summaries,
    two_halves,
)
from fairlth.config import paths

MODULES = (equal_accuracy, groups, paired_gains, premise, scope, summaries, two_halves)


MADE = {}  # what takes long, once per frame


def runs(frame):
    return once("runs", summaries.per_run, frame)


def points(frame):
    return once("points", equal_accuracy.shifted, frame)


def once(name, function, frame):
    if (name, id(frame)) not in MADE:
        MADE[name, id(frame)] = function(frame)
    return MADE[name, id(frame)].copy()


def paired(frame):
    return paired_gains.paired(runs(frame))


def by_setting(frame):
    heads = paired_gains.by_setting(paired(frame).query("rival == 'lth'"), "gain")
    return pd.DataFrame(
        [head | {"n": len(cells), "mean": values.mean()} for head, cells, values in heads]
    )


def premise_of(frame):
    return premise.over_dense(runs(frame))


def duels(frame):
    return equal_accuracy.duels(points(frame))


def gaps(frame):
    return groups.gap_summary(groups.gaps(frame))


def relative(frame):
    return equal_accuracy.relative_summary(equal_accuracy.at_equal_accuracy(points(frame)))


def log_ratios(frame):
    both = paired(frame)
    return both.assign(log=paired_gains.log_ratio(both["ours"], both["theirs"]))


def effects(frame):
    return two_halves.factorial(runs(frame))


CALLS = {  # function -> how it is called on a table; two calls where what it returns is no frame
    "per_run": runs,
    "measures": lambda frame: pd.DataFrame([summaries.measures(*_counts(frame))]),
    "summary": lambda frame: summaries.summary(runs(frame)),
    "means": lambda frame: pd.DataFrame([summaries.means(runs(frame), ("cwv",))]),
    "interval_of": lambda frame: pd.DataFrame(
        [summaries.interval_of(premise_of(frame).iloc[0].rename({"ratio": "mean"}))]
    ),
    "told": lambda frame: summaries.readable(summaries.summary(runs(frame))),
    "curves": lambda frame: summaries.curves(summaries.summary(runs(frame)), 0.05),
    "readable": lambda frame: summaries.readable(summaries.summary(runs(frame))),
    "costs": lambda frame: summaries.costs(runs(frame)),
    "key": lambda frame: scope.rows_of(frame, config.study("11_comparison", "small")),
    "task_of": lambda frame: scope.rows_of(frame, config.study("11_comparison", "small")),
    "rows_of": lambda frame: scope.rows_of(frame, config.study("11_comparison", "small")),
    "missing": lambda frame: pd.DataFrame(
        {"text": [scope.missing(frame, config.study("20_groups", "small"))]}
    ),
    "paired": paired,
    "log_ratio": log_ratios,
    "whole_seeds": lambda frame: paired_gains.whole_seeds(
        paired(frame).query("rival == 'lth'"), "gain"
    ).reset_index(),
    "by_setting": by_setting,
    "improvements": lambda frame: paired_gains.improvements(runs(frame)),
    "probability": lambda frame: paired_gains.probability(runs(frame)),
    "readable_gains": lambda frame: paired_gains.readable_gains(
        paired_gains.improvements(runs(frame))
    ),
    "named": lambda frame: paired_gains.named(premise_of(frame)),
    "price": lambda frame: paired_gains.price(runs(frame)),
    "claims": lambda frame: paired_gains.claims(runs(frame)),
    "verdict": lambda frame: pd.concat(
        [premise_of(frame), duels(frame), paired_gains.claims(runs(frame))]
    ),
    "beside_dense": lambda frame: premise.beside_dense(runs(frame)),
    "over_dense": premise_of,
    "geometric": premise_of,
    "readable_premise": lambda frame: premise.readable_premise(premise_of(frame)),
    "left_out": lambda frame: pd.DataFrame({"text": premise.left_out(premise_of(frame))}),
    "shifted": points,
    "at_equal_accuracy": lambda frame: equal_accuracy.at_equal_accuracy(points(frame)),
    "relative_summary": relative,
    "readable_relative": lambda frame: equal_accuracy.readable_relative(relative(frame)),
    "pairs": lambda frame: equal_accuracy.pairs(points(frame), "lth"),
    "duels": duels,
    "readable_duels": lambda frame: equal_accuracy.readable_duels(duels(frame)),
    "even_fight": lambda frame: pd.DataFrame({"text": [equal_accuracy.even_fight(duels(frame))]}),
    "remarks": lambda frame: pd.DataFrame({"text": [equal_accuracy.remarks(duels(frame))]}),
    "heat_cells": lambda frame: equal_accuracy.heat_cells(runs(frame), points(frame)),
    "factorial": effects,
    "part_of": effects,
    "readable_factorial": lambda frame: two_halves.readable_factorial(effects(frame)),
    "in_words": lambda frame: pd.DataFrame(
        {"text": [premise.in_words(premise_of(frame)), two_halves.in_words(effects(frame))]}
    ),
    "halves": lambda frame: two_halves.halves(runs(frame)),
    "by_group": groups.by_group,
    "gaps": groups.gaps,
    "gap_summary": gaps,
    "readable_gaps": lambda frame: groups.readable_gaps(gaps(frame)),
    "readable_groups": lambda frame: groups.readable_groups(frame, 0),
    "readable_smallest": lambda frame: groups.readable_smallest(groups.by_group(frame)),
}


def _counts(frame):
    cells = frame[
        (frame["split"] == "test") & (frame["method"] == "lth") & (frame["dataset"] == "cifar10")
    ]
    sums = cells.groupby("group")[["correct", "total"]].sum()
    return sums["correct"], sums["total"]


@pytest.fixture(scope="module")
def small():
    """Two seeds of a committed table, fewer methods, every task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "TABLES", paths.ROOT / "data" / "results")
        frame = records.load("small")
    methods = ("dense", "magnitude", "lth", "lth_rate", "ballot", "ballot_select", "ballot_refine")
    return frame[
        frame["seed"].lt(2) & frame["method"].isin(methods) & frame["density"].isin([1.0, 0.05])
    ]


def test_every_public_function_is_tried():
    public = {
        name
        for module in MODULES
        for name, found in inspect.getmembers(module, inspect.isfunction)
        if found.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public == set(CALLS)


def in_order(frame):
    """The rows by their text without numbers' last digits, the columns as they are."""
    keys = [
        frame[name].map(lambda value: f"{value:.9g}" if isinstance(value, float) else str(value))
        for name in frame
    ]
    order = pd.concat(keys, axis=1).agg("|".join, axis=1) if len(frame) else pd.Series(dtype=str)
    return frame.iloc[order.argsort()].reset_index(drop=True)


@pytest.fixture(scope="module")
def shuffled(small):
    return small.sample(frac=1, random_state=1)


@pytest.mark.parametrize("name", CALLS)
def test_a_function_does_not_depend_on_the_order_of_rows(name, small, shuffled):
    first, second = in_order(CALLS[name](small)), in_order(CALLS[name](shuffled))
    pd.testing.assert_frame_equal(first, second[list(first)], rtol=1e-9)
