import pytest
import torch

from fairlth import data
from fairlth.config import Run
from fairlth.data import splits
from fairlth.images import Split


def rows(split):
    return {
        bytes(image.flatten().tolist()) + bytes([label])
        for image, label in zip(split.x, split.y, strict=True)
    }


def test_digits_are_split_without_overlap_and_in_shares(smoke_run):
    loaded = data.load(smoke_run)
    parts = [loaded.train, loaded.val, loaded.test]
    assert [len(part) for part in parts] == [1079, 269, 449]
    assert len(rows(parts[0]) | rows(parts[1]) | rows(parts[2])) == 1797
    for part in parts:
        assert (part.y.bincount() / len(part)).sub(0.1).abs().max() < 0.01


def test_the_seed_draws_train_and_validation_but_not_test(smoke_run):
    one, same, other = (
        data.load(smoke_run.model_copy(update={"seed": seed})) for seed in (0, 0, 1)
    )
    assert torch.equal(one.train.x, same.train.x) and torch.equal(one.val.y, same.val.y)
    assert rows(one.val) != rows(other.val)
    assert torch.equal(one.test.x, other.test.x)


def test_groups_are_the_classes_unless_named(smoke_run):
    loaded = data.load(smoke_run)
    assert torch.equal(loaded.train.y, loaded.train.group) and loaded.groups == loaded.classes
    assert smoke_run.groups == "class"


def test_a_long_tail_thins_out_later_classes(random_data):
    split = random_data.train  # 32 images in each of 3 classes
    thin = data.long_tailed(split, 16.0, seed=0)
    assert thin.y.bincount().tolist() == [32, 8, 2]
    assert rows(thin) < rows(split)
    assert (
        rows(thin)
        == rows(data.long_tailed(split, 16.0, seed=0))
        != rows(data.long_tailed(split, 16.0, seed=1))
    )
    assert data.long_tailed(split, 1.0, seed=0) is split


def test_a_long_tailed_set_has_balanced_validation_and_test_images(real_data):
    run = Run(
        dataset="cifar10_lt", model="convnet", method="dense", density=1.0, seed=0, preset="small"
    )
    loaded = data.load(run)
    counts = loaded.train.y.bincount()
    assert (
        len(loaded.train) == 8000
        and 45 < counts[0] / counts[9] < 55
        and (counts[:-1] > counts[1:]).all()
    )
    assert (
        loaded.val.y.bincount().tolist() == [400] * 10
        and loaded.test.y.bincount().tolist() == [1000] * 10
    )


def test_an_unknown_data_set_is_refused_by_name(smoke_run):
    with pytest.raises(ValueError, match="dataset='mnist' is unknown: choose one of digits"):
        data.check(smoke_run.model_copy(update={"dataset": "mnist"}))


def balanced(n, n_classes):
    return Split(
        torch.zeros(n, 1, 2, 2, dtype=torch.uint8),
        torch.arange(n) % n_classes,
        torch.zeros(n).long(),
        n_classes,
        1,
    )


@pytest.mark.parametrize(
    ("share", "n", "test"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.4, 23_315, 9326), (0.25, 1797, 449)],
)
def test_a_share_of_a_count_is_exact(smoke_run, share, n, test):
    parts = {"train": balanced(n, 2)}
    source = data.Source("x", licence="x", test_fraction=share, own=True)
    train, val, drawn = splits._three(smoke_run, parts, source)
    assert len(drawn) == test and len(train) + len(val) == n - test


@pytest.mark.parametrize(
    ("most", "ratio", "kept"),
    [
        (98, 49.0, [98, 14, 2]),  # 98 * 49 ** -1.0 is 1.9999999999999998 in floats
        (1000, 1000.0, [1000, 100, 10, 1]),
        (8, 2.5, [8, 5, 3]),
    ],
)
def test_a_long_tail_is_counted_exactly(most, ratio, kept):
    split = balanced(most * len(kept), len(kept))
    assert splits.long_tailed(split, ratio, seed=0).y.bincount().tolist() == kept


def test_the_long_tail_of_cifar10_keeps_its_counts():
    counts = [splits._tail(4600, 50.0, label, 9) for label in range(10)]
    assert counts == [int(4600 * 50.0 ** (-label / 9)) for label in range(10)]


def test_columns_are_found_in_any_case_and_one_of_two_is_not_guessed(smoke_run):
    loaded = data.load(smoke_run.model_copy(update={"target": "ODD", "group_by": "Ink"}))
    assert loaded.classes == ["even", "odd"] and loaded.groups == ["thin", "medium", "thick"]
    assert data.catalogue.column_named("race", ["Race", "RACE"]) is None
    assert data.catalogue.column_named("RACE", ["Race", "RACE"]) == "RACE"


@pytest.mark.parametrize("argument", ["target", "group_by"])
def test_the_argument_that_is_wrong_is_named(smoke_run, argument):
    sentence = (
        f"{argument}='race' is refused: digits has no column 'race': choose one of ink, label, odd"
    )
    with pytest.raises(ValueError, match=sentence):
        data.load(smoke_run.model_copy(update={argument: "race"}))


@pytest.mark.parametrize("argument", ["target", "group_by"])
def test_an_empty_name_of_a_column_is_refused(argument, smoke_run):
    with pytest.raises(ValueError, match=f"{argument}='' is refused: name a column, or leave it"):
        data.check(smoke_run.model_copy(update={argument: ""}))
