"""Accuracy and fairness as pure functions of counts.

Everywhere `correct` and `total` are integer arrays of one shape: (groups,), or (classes, groups)
    where a function says so.
Accuracies are fractions; print CWV x 10^4 and MCD in points. A group without images has accuracy
nan, and so has every gap over groups that include it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Counts(NamedTuple):
    """Images predicted right and all images, per class and group: int arrays of shape (classes,
    groups).
    """

    correct: NDArray[np.int64]
    total: NDArray[np.int64]

    def by_group(self) -> "Counts":
        """The same summed over classes: arrays of shape (groups,)."""
        return Counts(self.correct.sum(0), self.total.sum(0))


class Interval(NamedTuple):
    """A mean over `n` values and the ends of its confidence interval.

    It prints itself: `f"{interval:.1f}"` is "2.0 (1.5 to 2.5)", and with "±" before the format it
    is "2.0 ± 0.5", half of the interval. Without ends it is the mean alone, without a mean "–".
    """

    mean: float
    low: float
    high: float
    n: int

    def times(self, factor: float) -> "Interval":
        """The interval in other units."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor, self.n)

    def __format__(self, form: str) -> str:
        number = form.removeprefix("±")
        if np.isnan(self.mean):
            return "–"
        mean = _without_minus_zero(format(self.mean, number))
        if np.isnan(self.low):
            return mean
        if form.startswith("±"):
            return f"{mean} ± {format(self.high - self.mean, number)}"
        low = _without_minus_zero(format(self.low, number))
        high = _without_minus_zero(format(self.high, number))
        return f"{mean} ({low} to {high})"


def _without_minus_zero(text: str) -> str:
    """A number's text; "-0.0" becomes "0.0"."""
    return text if set(text) & set("123456789") else text.removeprefix("-")


def accuracy(correct: ArrayLike, total: ArrayLike) -> float:
    """Images right over all images, in [0, 1]; 1 is best."""
    return float(np.sum(correct) / np.sum(total))


def group_accuracy(correct: ArrayLike, total: ArrayLike) -> Floats:
    """Accuracy of each group, shape (groups,), nan where a group has no image; 1 is best."""
    total = np.asarray(total, float)
    return np.divide(correct, total, out=np.full(total.shape, np.nan), where=total > 0)


def mean_accuracy(correct: ArrayLike, total: ArrayLike) -> float:
    """Unweighted mean of the groups' accuracies; equals `accuracy` where groups are equally large.
    1 is best.
    """
    return float(np.mean(group_accuracy(correct, total)))


def cwv(correct: ArrayLike, total: ArrayLike) -> float:
    """Class-wise variance (1/G) sum_g (a_g - mean a)^2 of the groups' accuracies, in [0, 1/4].

    Source: arXiv 2407.02805 (the name and use; the population form of the variance is our reading).
        0 means that all groups
    have the same accuracy.
    """
    return float(np.var(group_accuracy(correct, total)))


def mcd(correct: ArrayLike, total: ArrayLike) -> float:
    """Maximum class-wise discrepancy max_g a_g - min_g a_g, in [0, 1].

    Source: arXiv 2407.02805. 0 means that all groups have the same accuracy.
    """
    rates = group_accuracy(correct, total)
    return float(np.max(rates) - np.min(rates))


def worst_accuracy(correct: ArrayLike, total: ArrayLike) -> float:
    """Accuracy of the group that fares worst; 1 is best."""
    return float(np.min(group_accuracy(correct, total)))


def empty_groups(total: ArrayLike, names: list[str]) -> list[str]:
    """Names of the groups that have no image, in order."""
    return [name for name, n in zip(names, np.asarray(total), strict=True) if n == 0]


def demographic_parity_gap(correct: ArrayLike, total: ArrayLike) -> float:
    """Largest minus smallest share of images predicted as class 1 among groups; binary tasks,
    arrays of shape (2, groups).

    Raises ValueError for more than two classes. 0 means that every group is predicted as class 1
    equally often.
    """
    correct, total = _binary(correct, total)
    chosen = correct[1] + total[0] - correct[0]
    return mcd(chosen, total.sum(0))


def equal_opportunity_gap(correct: ArrayLike, total: ArrayLike) -> float:
    """Largest minus smallest true positive rate among groups, class 1 being positive; arrays of
    shape (2, groups).

    Source: Hardt et al., 2016. Raises ValueError for more than two classes. 0 means equal
    opportunity.
    """
    correct, total = _binary(correct, total)
    return mcd(correct[1], total[1])


def equalized_odds_gap(correct: ArrayLike, total: ArrayLike) -> float:
    """The larger of the true positive and the false positive rate's gap among groups; arrays of
    shape (2, groups).

    Source: Hardt et al., 2016. Raises ValueError for more than two classes. 0 means equalised odds.
    """
    correct, total = _binary(correct, total)
    return float(np.max([mcd(correct[label], total[label]) for label in (0, 1)]))


def _binary(correct: ArrayLike, total: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    correct = np.asarray(correct)
    total = np.asarray(total)
    if total.ndim != 2 or len(total) != 2:
        raise ValueError(
            f"counts of shape {total.shape} are not those of a binary task: expected (2, groups), "
            "use cwv or mcd."
        )
    return correct, total


def _sizes(total: ArrayLike) -> Floats:
    """Group sizes as floats, nan for an empty group."""
    total = np.asarray(total, float)
    return np.where(total > 0, total, np.nan)


def cwv_floor(correct: ArrayLike, total: ArrayLike) -> float:
    """The CWV that chance alone gives: (G-1)/G^2 sum_g p(1-p)/n_g, one accuracy p for all groups.

    p is the accuracy over all images. A CWV near its floor cannot be told from perfect fairness
    with that many images.
    """
    p = accuracy(correct, total)
    sizes = _sizes(total)
    n_groups = len(sizes)
    return float((n_groups - 1) / n_groups**2 * np.sum(p * (1 - p) / sizes))


def cwv_error(correct: ArrayLike, total: ArrayLike) -> float:
    """Standard error of the CWV from the number of images.

    (v/G) sqrt(2 (G-1) + 4 G (CWV - floor)/v), with v = p(1-p) mean 1/n_g.

    The deviation of a noncentral chi-square variable, for groups of similar size; what lies above
    the floor counts as real.
    """
    p = accuracy(correct, total)
    sizes = _sizes(total)
    n_groups = len(sizes)
    v = p * (1 - p) * np.mean(1 / sizes)
    real = max(cwv(correct, total) - cwv_floor(correct, total), 0.0)
    if v <= 0:
        return 0.0
    return float(v / n_groups * np.sqrt(2 * (n_groups - 1) + 4 * n_groups * real / v))


def mcd_floor(correct: ArrayLike, total: ArrayLike, draws: int = 2000, seed: int = 0) -> float:
    """The mean MCD that chance alone gives a classifier with one accuracy for all groups, by
    simulation.
    """
    p = accuracy(correct, total)
    sizes = _sizes(total)
    rates = np.random.default_rng(seed).binomial(np.asarray(total), p, (draws, len(sizes))) / sizes
    return float(np.mean(rates.max(1) - rates.min(1)))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean and Student's t interval over independent repetitions (seeds).

    A single value has no ends (nan), no value has no mean either.
    """
    from scipy import stats

    values = np.asarray(values, float)
    n = len(values)
    mean = float(np.mean(values)) if n else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, n)


def share_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Share of `total` images that are `correct` and its Wilson interval; nan without images."""
    from scipy import stats

    if total == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    ends = stats.binomtest(int(correct), int(total)).proportion_ci(confidence, method="wilson")
    return Interval(correct / total, float(ends.low), float(ends.high), int(total))
