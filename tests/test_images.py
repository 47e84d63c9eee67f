import copy

import pytest
import torch
from torch import nn

from fairlth import images
from fairlth.images import augment, lay_like_images


def test_cells_number_every_pair_of_class_and_group(random_data):
    split = random_data.train
    pairs = {
        (int(c), int(y), int(g)) for c, y, g in zip(split.cells, split.y, split.group, strict=True)
    }
    assert split.n_cells == 6 and pairs == {(y * 2 + g, y, g) for y in range(3) for g in range(2)}


def test_images_are_taken_by_number_in_that_order(random_data):
    taken = random_data.train.take(torch.tensor([4, 1]))
    assert (
        torch.equal(taken.x, random_data.train.x[[4, 1]])
        and taken.y.tolist() == [1, 1]
        and taken.group.tolist() == [1, 0]
    )


def test_pixels_are_scaled_to_one():
    x = torch.tensor([0, 255], dtype=torch.uint8)
    assert images.as_float(x).tolist() == [-1.0, 1.0]


def slow_augment(x, shift, mirror, seed):
    """The plain twin: one image at a time, with the same draws."""
    generator, out = torch.Generator().manual_seed(seed), []
    flips = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5 if mirror else [False] * len(x)
    downs = (
        torch.randint(0, 2 * shift + 1, (len(x), 1, 1), generator=generator)
        if shift
        else [0] * len(x)
    )
    rights = (
        torch.randint(0, 2 * shift + 1, (len(x), 1, 1), generator=generator)
        if shift
        else [0] * len(x)
    )
    for image, flip, down, right in zip(x, flips, downs, rights, strict=True):
        padded = torch.nn.functional.pad(image.flip(2) if flip else image, (shift,) * 4)
        out.append(
            padded[:, int(down) : int(down) + x.shape[2], int(right) : int(right) + x.shape[3]]
        )
    return torch.stack(out)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 4])
def test_augmentation_agrees_with_its_slow_twin(shift, mirror):
    x = torch.randint(
        0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    fast = augment(x, shift, mirror, torch.Generator().manual_seed(7))
    assert torch.equal(fast, slow_augment(x, shift, mirror, 7))
    assert torch.equal(fast, x) == (shift == 0 and not mirror)


def test_kernels_are_laid_out_like_images_and_others_stay():
    """As torch does it, which refuses five dimensions."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2)
    )
    theirs = copy.deepcopy(model).to(memory_format=torch.channels_last)
    assert lay_like_images(model) is model
    for value, other in zip(model.parameters(), theirs.parameters(), strict=True):
        assert value.stride() == other.stride()
        assert torch.equal(value, other)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    deep = lay_like_images(nn.Conv3d(2, 3, 2))
    assert deep.weight.is_contiguous()
