import math

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equalized_odds_difference,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score

from fairlth import metrics


def counts(y, predicted, group, n_classes, n_groups):
    """The plain twin of `training.count`: a loop over images."""
    correct, total = np.zeros((n_classes, n_groups), int), np.zeros((n_classes, n_groups), int)
    for label, guess, own in zip(y, predicted, group, strict=True):
        total[label, own] += 1
        correct[label, own] += label == guess
    return correct, total


@pytest.fixture(params=range(5))
def binary(request):
    rng = np.random.default_rng(request.param)
    y, predicted, group = (rng.integers(0, k, 400) for k in (2, 2, 4))
    return y, predicted, group, counts(y, predicted, group, 2, 4)


def test_gaps_equal_fairlearns_on_random_predictions(binary):
    y, predicted, group, (correct, total) = binary
    frame = MetricFrame(
        metrics=accuracy_score, y_true=y, y_pred=predicted, sensitive_features=group
    )
    by_group = frame.by_group.to_numpy()
    own = correct.sum(0), total.sum(0)
    assert np.abs(metrics.group_accuracy(*own) - by_group).max() < 1e-12
    assert abs(metrics.mcd(*own) - frame.difference()) < 1e-12
    assert abs(metrics.cwv(*own) - np.var(by_group)) < 1e-12
    assert abs(metrics.accuracy(correct, total) - frame.overall) < 1e-12


def test_binary_gaps_equal_fairlearns(binary):
    y, predicted, group, (correct, total) = binary
    features = {"y_true": y, "y_pred": predicted, "sensitive_features": group}
    assert (
        abs(
            metrics.demographic_parity_gap(correct, total)
            - demographic_parity_difference(**features)
        )
        < 1e-12
    )
    assert (
        abs(metrics.equalized_odds_gap(correct, total) - equalized_odds_difference(**features))
        < 1e-12
    )
    rates = MetricFrame(metrics=true_positive_rate, **features)
    assert abs(metrics.equal_opportunity_gap(correct, total) - rates.difference()) < 1e-12
    assert MetricFrame(metrics=selection_rate, **features).difference() > 0  # the test can fail


def test_cases_worked_by_hand():
    correct, total = [9, 5, 4], [10, 10, 5]
    assert metrics.group_accuracy(correct, total).tolist() == [0.9, 0.5, 0.8]
    assert metrics.accuracy(correct, total) == 18 / 25
    assert metrics.mean_accuracy(correct, total) == pytest.approx(11 / 15)
    assert metrics.worst_accuracy(correct, total) == 0.5
    assert metrics.mcd(correct, total) == pytest.approx(0.4)
    assert metrics.cwv(correct, total) == pytest.approx(
        (0.9**2 + 0.5**2 + 0.8**2) / 3 - (11 / 15) ** 2
    )


def test_equal_accuracies_are_fair_whatever_the_sizes():
    assert metrics.cwv([5, 50], [10, 100]) == metrics.mcd([5, 50], [10, 100]) == 0


def test_an_empty_group_is_nan_and_is_named():
    correct, total = [3, 0, 2], [4, 0, 4]
    assert math.isnan(metrics.group_accuracy(correct, total)[1])
    floors = (metrics.cwv_floor, metrics.mcd_floor)
    for gap in (metrics.cwv, metrics.mcd, metrics.mean_accuracy, metrics.worst_accuracy, *floors):
        assert math.isnan(gap(correct, total))
    assert metrics.accuracy(correct, total) == 5 / 8
    assert metrics.empty_groups(total, ["a", "b", "c"]) == ["b"]


def test_binary_gaps_refuse_more_classes():
    with pytest.raises(ValueError, match=r"shape \(3, 2\).*binary"):
        metrics.equal_opportunity_gap(np.ones((3, 2)), np.ones((3, 2)))


COUNTED = (
    metrics.accuracy,
    metrics.group_accuracy,
    metrics.mean_accuracy,
    metrics.cwv,
    metrics.mcd,
    metrics.worst_accuracy,
    metrics.cwv_floor,
    metrics.cwv_error,
    metrics.mcd_floor,
)


@pytest.mark.parametrize("measure", COUNTED)
@pytest.mark.parametrize(
    ("correct", "total", "sentence"),
    [
        ([1, -2], [3, 3], "correct=-2 is refused: expected a whole number of images, at least 0."),
        ([0, 0], [3, -3], "total=-3 is refused: expected a whole number of images, at least 0."),
        ([1.5, 1], [3, 3], "correct=1.5 is refused: expected a whole number of images, at least 0."),
        ([1, 1], [3, math.nan], "total=nan is refused: expected a whole number of images, at least 0."),
        ([1, 1], [3, math.inf], "total=inf is refused: expected a whole number of images, at least 0."),
        (["1"], ["3"], "correct=['1'] is refused: expected numbers of images."),
        (
            [3, 4],
            [3, 3],
            "correct=4 of total=3 is refused: expected at most as many right answers as images.",
        ),
        (
            [1, 1],
            [3],
            "counts of shapes (2,) and (1,) are refused: expected the right answers and the "
            "images of the same one or more groups.",
        ),
        (
            [],
            [],
            "counts of shapes (0,) and (0,) are refused: expected the right answers and the "
            "images of the same one or more groups.",
        ),
    ],
)  # fmt: skip
def test_counts_that_no_images_can_give_are_one_sentence(measure, correct, total, sentence):
    with pytest.raises(ValueError) as caught:
        measure(correct, total)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("measure", COUNTED[1:])
def test_counts_by_class_and_group_are_no_counts_by_group(measure):
    with pytest.raises(ValueError) as caught:
        measure([[1, 2], [3, 4]], [[4, 4], [4, 4]])
    assert str(caught.value) == (
        "counts of shape (2, 2) are refused: expected (groups,), such as `Counts.by_group` gives."
    )


def test_no_image_at_all_has_no_accuracy():
    with pytest.raises(ValueError) as caught:
        metrics.accuracy([0, 0], [0, 0])
    assert str(caught.value) == ("total is 0 in every group: give the counts of one image or more.")


def test_impossible_counts_have_no_gap_no_interval_and_no_empty_group():
    for gap in ("demographic_parity_gap", "equal_opportunity_gap", "equalized_odds_gap"):
        with pytest.raises(ValueError, match="correct=5 of total=4 is refused"):
            getattr(metrics, gap)([[1, 2], [5, 2]], [[4, 4], [4, 4]])
    for correct, total in ((-1, 3), (4, 3), (1, 0), (0.5, 3), (0, -1)):
        with pytest.raises(ValueError, match="is refused: expected"):
            metrics.share_interval(correct, total)
    with pytest.raises(ValueError, match="total=-1 is refused"):
        metrics.empty_groups([1, -1], ["a", "b"])


def test_small_unsigned_counts_do_not_wrap_around():
    correct = np.array([[3, 1], [0, 2]], np.uint8)
    total = np.array([[4, 4], [4, 4]], np.uint8)
    assert metrics.demographic_parity_gap(correct, total) == 5 / 8 - 1 / 8


def test_the_floor_is_what_a_fair_classifier_shows_by_chance():
    rng, total = np.random.default_rng(0), np.array([100, 200, 400])
    drawn = rng.binomial(total, 0.8, (20000, 3))
    mean = np.mean([metrics.cwv(correct, total) for correct in drawn])
    expected = 2 / 9 * 0.8 * 0.2 * (1 / 100 + 1 / 200 + 1 / 400)
    assert metrics.cwv_floor(total * 4 // 5, total) == pytest.approx(expected)
    assert mean == pytest.approx(expected, rel=0.03)


def test_the_standard_error_matches_repeated_draws():
    rng, total, rates = np.random.default_rng(0), np.full(10, 400), np.linspace(0.4, 0.8, 10)
    values = [metrics.cwv(correct, total) for correct in rng.binomial(total, rates, (5000, 10))]
    expected = np.round(total * rates)
    assert metrics.cwv_error(expected, total) == pytest.approx(np.std(values), rel=0.1)


def test_the_mcd_floor_depends_on_nothing_but_its_arguments():
    correct, total = [930] * 10, [1000] * 10
    assert metrics.mcd_floor(correct, total) == metrics.mcd_floor(correct, total)
    assert metrics.mcd_floor(correct, total) == pytest.approx(
        0.025, abs=0.001
    )  # mean range of ten such shares
    assert metrics.mcd_floor(correct, total, seed=1) != metrics.mcd_floor(correct, total)


def test_t_interval_by_hand():
    interval = metrics.mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2 and interval.n == 3
    assert interval.high - interval.mean == pytest.approx(2.4841, abs=1e-4)  # t(0.975, 2) / sqrt(3)
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)


def test_one_value_has_no_interval():
    interval = metrics.mean_interval([1.0])
    assert interval.mean == 1 and math.isnan(interval.low) and math.isnan(interval.high)


def test_no_value_has_no_mean():
    interval = metrics.mean_interval([])
    assert math.isnan(interval.mean) and math.isnan(interval.low) and interval.n == 0


def test_an_interval_prints_itself():
    interval = metrics.Interval(0.5, 0.25, 0.75, 3)
    assert f"{interval:.1f}" == "0.5 (0.2 to 0.8)" and f"{interval:+.0%}" == "+50% (+25% to +75%)"
    assert f"{interval.times(100):±.0f}" == "50 ± 25" and interval.times(100).n == 3
    alone = metrics.Interval(0.5, math.nan, math.nan, 1)
    assert (f"{alone:.1f}", f"{alone:±.1f}") == ("0.5", "0.5")
    assert f"{metrics.mean_interval([]):.1f}" == "–"
    assert f"{metrics.Interval(-0.001, -0.5, 0.5, 3):.0%}" == "0% (-50% to 50%)"


def test_wilson_interval_by_hand():
    interval = metrics.share_interval(8, 10)
    assert (interval.low, interval.high) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    assert math.isnan(metrics.share_interval(0, 0).mean)
