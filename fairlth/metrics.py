"""Accuracy and fairness as pure functions of counts.

Everywhere `correct` and `total` are integer arrays of one shape: (groups,), or (classes, groups)
    where a function says so.
Accuracies are fractions; print CWV x 10^4 and MCD in points. A group without images has accuracy
nan, and so has every gap over groups that include it. Counts that no images can give (negative, not
whole, more right than there are, arrays of two shapes, no group) are a ValueError everywhere.
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


def _counted(correct: ArrayLike, total: ArrayLike) -> Counts:
    """Counts as arrays; ValueError in one sentence where no images can give them."""
    right = np.asarray(correct)
    images = np.asarray(total)
    if right.shape != images.shape or not images.size:
        raise ValueError(
            f"counts of shapes {right.shape} and {images.shape} are refused: expected the right "
            "answers and the images of the same one or more groups."
        )
    for name, values in (("correct", right), ("total", images)):
        if values.dtype.kind not in "iuf":
            raise ValueError(f"{name}={values.tolist()} is refused: expected numbers of images.")
        odd = values[~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0))]
        if odd.size:
            raise ValueError(
                f"{name}={odd[0]} is refused: expected a whole number of images, at least 0."
            )
    beyond = right > images
    if beyond.any():
        raise ValueError(
            f"correct={right[beyond][0]} of total={images[beyond][0]} is refused: expected at most "
            "as many right answers as images."
        )
    return Counts(right.astype(np.int64), images.astype(np.int64))


def _counted_by_group(correct: ArrayLike, total: ArrayLike) -> Counts:
    """The same, and a ValueError where they are not of shape (groups,)."""
    counts = _counted(correct, total)
    if counts.total.ndim != 1:
        raise ValueError(
            f"counts of shape {counts.total.shape} are refused: expected (groups,), such as "
            "`Counts.by_group` gives."
        )
    return counts


def accuracy(correct: ArrayLike, total: ArrayLike) -> float:
    """Images right over all images, in [0, 1]; 1 is best. ValueError where there is no image."""
    right, images = _counted(correct, total)
    if not images.any():
        raise ValueError("total is 0 in every group: give the counts of one image or more.")
    return float(np.sum(right) / np.sum(images))


def group_accuracy(correct: ArrayLike, total: ArrayLike) -> Floats:
    """Accuracy of each group, shape (groups,), nan where a group has no image; 1 is best."""
    right, images = _counted_by_group(correct, total)
    return np.divide(right, images, out=np.full(images.shape, np.nan), where=images > 0)


def mean_accuracy(correct: ArrayLike, total: ArrayLike) -> float:
    """Unweighted mean of the groups' accuracies; `accuracy` for groups of one size. 1 is best."""
    return float(np.mean(group_accuracy(correct, total)))


def cwv(correct: ArrayLike, total: ArrayLike) -> float:
    """Class-wise variance (1/G) sum_g (a_g - mean a)^2 of the groups' accuracies, in [0, 1/4].

    Source: arXiv 2407.02805 (the name and use; the population form of the variance is our reading).
    0 means that all groups have the same accuracy.
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
    _, images = _counted(np.zeros_like(total), total)
    return [name for name, n in zip(names, images, strict=True) if n == 0]


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
    right, images = _counted(correct, total)
    if images.ndim != 2 or len(images) != 2:
        raise ValueError(
            f"counts of shape {images.shape} are not those of a binary task: expected (2, groups), "
            "use cwv or mcd."
        )
    return right, images


def _sizes(correct: ArrayLike, total: ArrayLike) -> Floats:
    """Group sizes as floats, nan for an empty group."""
    _, images = _counted_by_group(correct, total)
    return np.where(images > 0, images.astype(float), np.nan)


def cwv_floor(correct: ArrayLike, total: ArrayLike) -> float:
    """The CWV that chance alone gives: (G-1)/G^2 sum_g p(1-p)/n_g, one accuracy p for all groups.

    p is the accuracy over all images. A CWV near its floor cannot be told from perfect fairness
    with that many images.
    """
    p = accuracy(correct, total)
    sizes = _sizes(correct, total)
    n_groups = len(sizes)
    return float((n_groups - 1) / n_groups**2 * np.sum(p * (1 - p) / sizes))


def cwv_error(correct: ArrayLike, total: ArrayLike) -> float:
    """Standard error of the CWV from the number of images.

    (v/G) sqrt(2 (G-1) + 4 G (CWV - floor)/v), with v = p(1-p) mean 1/n_g.

    The deviation of a noncentral chi-square variable, for groups of similar size; what lies above
    the floor counts as real.
    """
    p = accuracy(correct, total)
    sizes = _sizes(correct, total)
    n_groups = len(sizes)
    v = p * (1 - p) * np.mean(1 / sizes)
    real = max(cwv(correct, total) - cwv_floor(correct, total), 0.0)
    if v <= 0:
        return 0.0
    return float(v / n_groups * np.sqrt(2 * (n_groups - 1) + 4 * n_groups * real / v))


def mcd_floor(correct: ArrayLike, total: ArrayLike, draws: int = 2000, seed: int = 0) -> float:
    """The mean MCD by chance alone, of a classifier with one accuracy for all groups; simulated."""
    p = accuracy(correct, total)
    sizes = _sizes(correct, total)
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

    _counted([correct], [total])
    if total == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    ends = stats.binomtest(int(correct), int(total)).proportion_ci(confidence, method="wilson")
    return Interval(correct / total, float(ends.low), float(ends.high), int(total))
