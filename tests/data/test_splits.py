import pytest
import torch

from fairlth import data, images
from fairlth.config import Run
from fairlth.images import augment


def rows(split):
    return {bytes(image.flatten().tolist()) + bytes([label]) for image, label in zip(split.x, split.y, strict=True)}


def test_digits_are_split_without_overlap_and_in_shares(smoke_run):
    loaded = data.load(smoke_run)
    parts = [loaded.train, loaded.val, loaded.test]
    assert [len(part) for part in parts] == [1079, 269, 449]
    assert len(rows(parts[0]) | rows(parts[1]) | rows(parts[2])) == 1797
    for part in parts:
        assert (part.y.bincount() / len(part)).sub(0.1).abs().max() < 0.01


def test_the_seed_draws_train_and_validation_but_not_test(smoke_run):
    one, same, other = (data.load(smoke_run.model_copy(update={"seed": seed})) for seed in (0, 0, 1))
    assert torch.equal(one.train.x, same.train.x) and torch.equal(one.val.y, same.val.y)
    assert rows(one.val) != rows(other.val)
    assert torch.equal(one.test.x, other.test.x)


def test_groups_are_the_classes_unless_named(smoke_run):
    loaded = data.load(smoke_run)
    assert torch.equal(loaded.train.y, loaded.train.group) and loaded.groups == loaded.classes
    assert data.group_name(smoke_run) == "class"


def test_a_long_tail_thins_out_later_classes(random_data):
    split = random_data.train  # 32 images in each of 3 classes
    thin = data.long_tailed(split, 16.0, seed=0)
    assert thin.y.bincount().tolist() == [32, 8, 2]
    assert rows(thin) < rows(split)
    assert rows(thin) == rows(data.long_tailed(split, 16.0, seed=0)) != rows(data.long_tailed(split, 16.0, seed=1))
    assert data.long_tailed(split, 1.0, seed=0) is split


def test_a_long_tailed_set_has_balanced_validation_and_test_images(real_data):
    run = Run(dataset="cifar10_lt", model="convnet", method="dense", density=1.0, seed=0, preset="small")
    loaded = data.load(run)
    counts = loaded.train.y.bincount()
    assert len(loaded.train) == 8000 and 45 < counts[0] / counts[9] < 55 and (counts[:-1] > counts[1:]).all()
    assert loaded.val.y.bincount().tolist() == [400] * 10 and loaded.test.y.bincount().tolist() == [1000] * 10


def test_an_unknown_data_set_is_refused_by_name(smoke_run):
    with pytest.raises(ValueError, match="dataset='mnist' is unknown: choose one of digits"):
        data.check(smoke_run.model_copy(update={"dataset": "mnist"}))


def test_pixels_are_scaled_to_one():
    x = torch.tensor([0, 255], dtype=torch.uint8)
    assert images.as_float(x).tolist() == [-1.0, 1.0]


def slow_augment(x, shift, mirror, seed):
    """The plain twin: one image at a time, with the same draws."""
    generator, out = torch.Generator().manual_seed(seed), []
    flips = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5 if mirror else [False] * len(x)
    downs = torch.randint(0, 2 * shift + 1, (len(x), 1, 1), generator=generator) if shift else [0] * len(x)
    rights = torch.randint(0, 2 * shift + 1, (len(x), 1, 1), generator=generator) if shift else [0] * len(x)
    for image, flip, down, right in zip(x, flips, downs, rights, strict=True):
        padded = torch.nn.functional.pad(image.flip(2) if flip else image, (shift,) * 4)
        out.append(padded[:, int(down) : int(down) + x.shape[2], int(right) : int(right) + x.shape[3]])
    return torch.stack(out)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 4])
def test_augmentation_agrees_with_its_slow_twin(shift, mirror):
    x = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    fast = augment(x, shift, mirror, torch.Generator().manual_seed(7))
    assert torch.equal(fast, slow_augment(x, shift, mirror, 7))
    assert torch.equal(fast, x) == (shift == 0 and not mirror)
