"""Whom does a ticket forget? Test images that the dense net has right and tickets have wrong,
predictions that changed, and whether confidence can be trusted, by group.

All of it comes from the predictions of test images that records keep; nothing is predicted again.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from fairlth import config, metrics
from fairlth.analysis.records import Record
from fairlth.analysis.summaries import told
from fairlth.images import Split
from fairlth.metrics import Interval

BINS = 15  # of confidence, for its calibration error
NORMAL = 1.96  # standard errors to each end of a 95 % interval
EVERYONE = "all images"  # in the column `group`: all groups together
RATES = {  # column of `by_seed` -> what people read, in percent or points
    "forgotten": "forgotten %",
    "beyond_chance": "beyond seeds",
    "changed": "changed %",
    "changed_beyond": "changed beyond seeds",
    "ece": "ECE %",
    "ece_gained": "ECE minus dense",
    "brier": "Brier x100",
    "brier_gained": "Brier minus dense",
    "amplified": "bias amplified",
    "amplified_gained": "amplified minus dense",
}
ERRORS = tuple(
    f"{rate}_error" for rate in ("forgotten", "beyond_chance", "changed", "changed_beyond")
)
BY = [*config.TASK, "method", "density"]
Labels = NDArray[np.int64]
Shares = NDArray[np.float64]


class Answers(NamedTuple):
    """What one network says of n test images: a class (n,), its probability (n,), and the truth,
    their classes (n,) and groups (n,).
    """

    predicted: Labels
    confidence: Shares
    classes: Labels
    groups: Labels

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether the class is the true one."""
        return self.predicted == self.classes


def answers_of(outputs: Tensor, test: Split) -> Answers:
    """What outputs (n, classes) say of test images, the classes as `training.count` takes them.

    Softmax may round two outputs to one probability, and would then name another class.
    """
    predicted = outputs.argmax(1)
    confidence = outputs.softmax(1).gather(1, predicted[:, None])[:, 0].double()
    found = (predicted, confidence, test.y, test.group)
    return Answers(*(value.cpu().numpy() for value in found))


def answers(record: Record, test: Split) -> Answers:
    """A record's predictions beside the truth.

    Args:
        record: with predictions; older records have none.
        test: the test split of the record's task.

    Raises:
        ValueError: the record keeps no predictions, or they do not give its counts on these images,
            which then are not those that it was made with.
    """
    name = "/".join(str(record.run[part]) for part in ("dataset", "method", "density", "seed"))
    if not record.predictions:
        raise ValueError(f"the record of {name} keeps no predictions: move it away and run again.")
    predicted, confidence = record.predicted()
    found = Answers(predicted, confidence, test.y.cpu().numpy(), test.group.cpu().numpy())
    counted = record.split("test")
    if len(predicted) == len(found.classes):
        cells = test.cells.cpu().numpy()[found.right]
        correct = np.bincount(cells, minlength=test.n_cells).reshape(counted.correct.shape)
        if np.array_equal(correct, counted.correct):
            return found
    raise ValueError(
        f"the record of {name} was made with other test images than these: run it again."
    )


def forgotten(dense: Mapping[int, Answers], other: Mapping[int, Answers], seed: int) -> Any:
    """(n,) whether the dense net of a seed has an image right, and the networks of all other seeds
    have it wrong.

    With tickets as `other` these are images that pruning forgets, close to the compression
    identified exemplars of Hooker et al. (2019, arXiv 1911.05248; 2020, arXiv 2010.03058). With the
    dense nets themselves as `other` they are what training anew forgets: the null.
    """
    wrong = [~found.right for number, found in other.items() if number != seed]
    return dense[seed].right & np.logical_and.reduce(wrong)


def changed(dense: Mapping[int, Answers], other: Mapping[int, Answers], seed: int) -> Shares:
    """(n,) the share of other seeds' networks whose class is not that of a seed's dense net."""
    differs = [
        found.predicted != dense[seed].predicted
        for number, found in other.items()
        if number != seed
    ]
    return np.mean(differs, axis=0)


def calibration_error(right: Any, confidence: Any) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over BINS equal bins
    of confidence, weighted by their images; in [0, 1].

    Source: Guo et al., 2017, arXiv 1706.04599. nan without images. 0 means that confidence can be
    taken at its word. Few images make it larger than it is.
    """
    right = np.asarray(right, float)
    confidence = np.asarray(confidence, float)
    if not len(right):
        return float("nan")
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    distances = np.bincount(bins, confidence - right, BINS)
    return float(np.abs(distances).sum() / len(right))


def brier(right: Any, confidence: Any) -> float:
    """The Brier score of the predicted class: the mean of (confidence - right)^2, in [0, 1].

    Source: Brier, 1950, here of one event, "the prediction is right". nan without images. 0 means
    sure and right.
    """
    if not len(right):
        return float("nan")
    return float(np.mean((np.asarray(confidence, float) - np.asarray(right, float)) ** 2))


def amplification(found: Answers, n_classes: int, n_groups: int) -> float:
    """Bias amplification: how much more often than in truth a class is predicted for the groups
    that it goes with, a mean over classes, in [-1, 1].

    For each class c and group g with more than 1 / n_groups of the class's images, the share of g
    among images predicted as c less its share among images of c; summed over groups and divided by
    the number of classes. Source: Zhao et al., 2017, arXiv 1707.09457, with the truth of the same
    images in place of the training set's. Classes that are never predicted are left out. nan where
    groups are the classes, or no class is left. 0 means that predictions go with groups as labels
    do.
    """
    if n_groups == n_classes and np.array_equal(found.classes, found.groups):
        return float("nan")
    true = _group_shares(found.classes, found.groups, n_classes, n_groups)
    predicted = _group_shares(found.predicted, found.groups, n_classes, n_groups)
    said = np.bincount(found.predicted, minlength=n_classes) > 0
    if not said.any():
        return float("nan")
    goes_with = (true > 1 / n_groups) & said[:, None]
    return float((predicted - true)[goes_with].sum() / said.sum())


def of_groups(
    found: Answers, n_groups: int, dense: Answers | None = None
) -> dict[str, list[float]]:
    """What a card says of each group beside its accuracy, fractions; nan of a group without images.

    `ece` and `brier` are those of the network. Beside a dense net of the same images, `lost` is the
    share of the images that the dense net has right and the network wrong, and `changed` the share
    of all images of which they say different classes. One seed's images that are lost are not yet
    forgotten, see `forgotten`: training anew loses some, too.
    """
    parts = [found.groups == group for group in range(n_groups)]
    trust = [_trust(found, part) for part in parts]
    rates = {name: [own[name] for own in trust] for name in ("ece", "brier")}
    if dense is not None:
        lost = (dense.right & ~found.right).astype(float)
        right = dense.right.astype(float)
        differs = (dense.predicted != found.predicted).astype(float)
        rates["lost"] = [_ratio(lost[part], right[part]) for part in parts]
        rates["changed"] = [_ratio(differs[part], np.ones(part.sum())) for part in parts]
    return rates


def by_seed(
    dense: Mapping[int, Answers],
    tickets: Mapping[int, Answers],
    classes: list[str],
    groups: list[str],
    validated: Mapping[str, float],
) -> pd.DataFrame:
    """One row per seed and group, and one for all images: what a method's tickets changed.

    All columns but the counts are fractions. `forgotten` is the share of the images that the dense
    net of the seed has right, see `forgotten`; `beyond_chance` is that less the same with dense
    nets in place of tickets; `changed` and `changed_beyond` likewise of all images. `ece`,
    `brier` and, over all images, `amplified` are the ticket's of the seed, `_gained` less the dense
    net's. `<rate>_error` is the standard error of a rate's mean over seeds from the number of
    images, in each row of a group.

    Args:
        dense, tickets: seed -> answers; the same seeds, two or more.
        classes, groups: their names.
        validated: group -> accuracy of the dense nets on validation images, see `validated`.

    Raises:
        ValueError: fewer than two seeds, other seeds, or other test images.
    """
    _check_pairs(dense, tickets)
    truth = dense[min(dense)].groups
    parts = {name: truth == number for number, name in enumerate(groups)}
    parts[EVERYONE] = np.ones(len(truth), bool)
    seeds = sorted(dense)
    right = np.array([dense[seed].right for seed in seeds], float)
    everything = np.ones_like(right)
    lost = np.array([forgotten(dense, tickets, seed) for seed in seeds], float)
    lost_anew = np.array([forgotten(dense, dense, seed) for seed in seeds], float)
    moved = np.array([changed(dense, tickets, seed) for seed in seeds])
    moved_anew = np.array([changed(dense, dense, seed) for seed in seeds])
    rates = {  # hits and what they are a share of, both (seeds, images)
        "forgotten": (lost, right),
        "beyond_chance": (lost - lost_anew, right),
        "changed": (moved, everything),
        "changed_beyond": (moved - moved_anew, everything),
    }
    rows = []
    for name, part in parts.items():
        errors = {
            f"{rate}_error": _error(hits[:, part], of[:, part])
            for rate, (hits, of) in rates.items()
        }
        for number, seed in enumerate(seeds):
            row: dict[str, Any] = {"seed": seed, "group": name, "images": int(part.sum())}
            row["right"] = int(right[number, part].sum())
            row["validated"] = validated.get(name, float("nan"))
            for rate, (hits, of) in rates.items():
                row[rate] = _ratio(hits[number, part], of[number, part])
            own = _trust(tickets[seed], part)
            before = _trust(dense[seed], part)
            if name == EVERYONE:
                own["amplified"] = amplification(tickets[seed], len(classes), len(groups))
                before["amplified"] = amplification(dense[seed], len(classes), len(groups))
            row |= own | {f"{measure}_gained": own[measure] - before[measure] for measure in own}
            rows.append(row | errors)
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per task, method, density and group: means over seeds with 95 % intervals and n.

    An interval is the wider of two: Student's t over seeds, which all have the same test images,
    and that from the number of images (1.96 standard errors), where a rate has one. Few seeds may
    agree by chance, and so may few images.

    Args:
        rows: from `by_seed`, with the columns of BY.
    """
    found = []
    for keys, own in rows.groupby([*BY, "group"], sort=False):
        row: dict[str, Any] = dict(zip([*BY, "group"], keys, strict=True))
        row |= {"images": int(own["images"].max()), "right": float(own["right"].mean())}
        row["n"] = len(own)
        for rate in RATES:
            error = float(own[f"{rate}_error"].max()) if f"{rate}_error" in ERRORS else 0.0
            interval = _wider(own[rate], error)
            row |= {rate: interval.mean, f"{rate}_low": interval.low, f"{rate}_high": interval.high}
        found.append(row)
    return pd.DataFrame(found)


def weak_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """Whether tickets forget more of the weak groups, beyond chance: one row per task, method and
    density.

    Weak is the half of the groups with the lowest accuracy of the dense nets on validation images;
    the middle one of an odd number is left out, and so are groups without a rate. (By test images
    they would be chosen on what they are judged by.) `more` is the mean of `beyond_chance` over
    weak groups less that over strong ones, with an interval as `summary` makes it. 0 means that
    pruning forgets in all groups alike. `verdict` is "more", "less" or, where the interval includes
    0, "not shown". The values of seeds share networks: with more than three seeds their interval is
    too narrow.

    Args:
        rows: from `by_seed`, with the columns of BY.
    """
    found = []
    for keys, own in rows[rows["group"] != EVERYONE].groupby(BY, sort=False):
        row: dict[str, Any] = dict(zip(BY, keys, strict=True))
        rated = own.groupby("group", sort=False).filter(
            lambda one: one["beyond_chance"].notna().all()
        )
        groups = rated.groupby("group", sort=False)
        order = list(groups["validated"].first().sort_values(kind="stable").index)
        half = len(order) // 2
        weak = order[:half]
        more = _more(rated, weak, order[len(order) - half :])
        verdict = "more" if more.low > 0 else "less" if more.high < 0 else "not shown"
        row |= {"weak": ", ".join(map(str, weak))}
        row |= {"more": more.mean, "more_low": more.low, "more_high": more.high}
        found.append(row | {"n": more.n, "verdict": verdict})
    return pd.DataFrame(found)


def _more(rows: pd.DataFrame, weak: list[str], strong: list[str]) -> Interval:
    """How much more of the weak groups than of the strong ones is forgotten beyond chance."""
    if not weak:
        return Interval(np.nan, np.nan, np.nan, rows["seed"].nunique())
    beyond = rows.pivot_table(values="beyond_chance", index="seed", columns="group")
    errors = rows.groupby("group")["beyond_chance_error"].max()[weak + strong]
    error = float(np.sqrt((errors**2).sum())) / len(weak)
    return _wider(beyond[weak].mean(axis=1) - beyond[strong].mean(axis=1), error)


def validated(records: Iterable[Record]) -> dict[str, float]:
    """Each group's accuracy on validation images, a mean over records; nan without images."""
    records = [*records]
    rates = [metrics.group_accuracy(*record.split("val").by_group()) for record in records]
    return dict(zip(records[0].groups, np.mean(rates, axis=0).tolist(), strict=True))


def readable(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Some columns of a `summary` as people read them, in percent and points; `group` only where
    there are others than EVERYONE.
    """
    by_group = (rows["group"] != EVERYONE).any()
    shown = rows[[*BY, *(["group"] if by_group else []), "images"]].reset_index(drop=True)
    for name in names:
        shown[RATES[name]] = told(rows, name, "±.1f", 100)
    shown["n"] = [*rows["n"]]
    return shown


def readable_weak(rows: pd.DataFrame) -> pd.DataFrame:
    """`weak_groups` as people read it, in points."""
    shown = rows[BY].reset_index(drop=True)
    shown["points more forgotten in weak groups"] = told(rows, "more", ".1f", 100)
    shown["n"] = [*rows["n"]]
    shown["verdict"] = [*rows["verdict"]]
    return shown


def _group_shares(classes: Labels, groups: Labels, n_classes: int, n_groups: int) -> Shares:
    """(classes, groups) the share of each group among the images of a class."""
    cells = np.bincount(classes * n_groups + groups, minlength=n_classes * n_groups)
    counts = cells.reshape(n_classes, n_groups)
    return counts / counts.sum(1, keepdims=True).clip(1)


def _trust(found: Answers, part: NDArray[np.bool_]) -> dict[str, float]:
    """Calibration error and Brier score on a part of the images."""
    right = found.right[part]
    confidence = found.confidence[part]
    return {"ece": calibration_error(right, confidence), "brier": brier(right, confidence)}


def _ratio(hits: Shares, of: Shares) -> float:
    """Sum of hits over the sum that they are a share of; nan where that is 0."""
    return float(hits.sum() / of.sum()) if of.sum() else float("nan")


def _error(hits: Shares, of: Shares) -> float:
    """Standard error, over images, of the ratio of sums of hits and of what they are a share of.

    Both (seeds, images). Of the means over seeds h and b of an image the residual is h - r b, r
    being the ratio; the error is the root of their sum of squares over the sum of b. It is not
    below that of the rule of three, by which none of b images allows up to 3 in b.
    """
    ratio = _ratio(hits, of)
    residuals = hits.mean(0) - ratio * of.mean(0)
    total = of.mean(0).sum()
    if not total:
        return float("nan")
    return float(max(np.sqrt((residuals**2).sum()), 3 / NORMAL) / total)


def _wider(values: pd.Series, error: float) -> Interval:
    """The mean of some seeds with the wider of its t interval and 1.96 standard errors."""
    interval = metrics.mean_interval(values)
    half = np.fmax(interval.high - interval.mean, NORMAL * error)
    return Interval(interval.mean, interval.mean - half, interval.mean + half, interval.n)


def _check_pairs(dense: Mapping[int, Answers], tickets: Mapping[int, Answers]) -> None:
    """Raises ValueError unless both have the same seeds, two or more, on the same images."""
    if set(dense) != set(tickets) or len(dense) < 2:
        raise ValueError(
            f"seeds {sorted(dense)} of the dense net and {sorted(tickets)} of the tickets: "
            "expected the same ones, two or more."
        )
    first = dense[min(dense)]
    for found in [*dense.values(), *tickets.values()]:
        same = np.array_equal(found.classes, first.classes)
        if not same or not np.array_equal(found.groups, first.groups):
            raise ValueError(
                "the networks were tried on other test images or classes: "
                "audit networks of one task."
            )
