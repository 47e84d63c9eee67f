"""The sizes that a network of yours is tried with."""

import pytest
from torch import nn

from fairlth import models


def build(in_shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, n_classes))


@pytest.mark.parametrize("in_shape", [(8, 8), 8, (1, 8, 0), (1, 8, 8.0), (1, True, 8), "188", None])
def test_an_image_that_cannot_be_is_named(own, in_shape):
    with pytest.raises(ValueError, match=r"in_shape=.* is refused: expected \(channels, side"):
        models.add("net", build, in_shape, 10)


@pytest.mark.parametrize("n_classes", [0, 1, -3, True, "10", 2.0, None])
def test_a_number_of_classes_that_cannot_be_is_named(own, n_classes):
    with pytest.raises(ValueError, match=r"n_classes=.* is refused: expected a whole number"):
        models.add("net", build, (1, 8, 8), n_classes)


def test_a_shape_may_be_a_list(own):
    assert models.add("net", build, [1, 8, 8], 10)
