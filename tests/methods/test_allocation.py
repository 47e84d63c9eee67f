import pytest
import torch

from fairlth.masks import count_kept
from fairlth.methods.allocation import erk, uniform

SHAPES = {
    "conv1": (16, 3, 3, 3),
    "conv2": (32, 16, 3, 3),
    "linear1": (64, 128),
    "linear2": (10, 64),
}


def weights(shapes=SHAPES):
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def erk_by_bisection(density, shapes):
    """The plain twin: eps by bisection, so that min(size, eps * sum of dimensions) adds up."""
    sizes = {name: torch.zeros(shape).numel() for name, shape in shapes.items()}
    wanted, low, high = int(density * sum(sizes.values()) + 1e-9), 0.0, 1e6
    for _ in range(200):
        eps = (low + high) / 2
        total = sum(min(sizes[name], eps * sum(shape)) for name, shape in shapes.items())
        low, high = (eps, high) if total < wanted else (low, eps)
    return {name: min(sizes[name], eps * sum(shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize("density", [0.9, 0.5, 0.2, 0.05, 0.02])
@pytest.mark.parametrize("allocate", [uniform, erk])
def test_counts_add_up_and_fit_the_layers(allocate, density):
    budget = allocate(density, weights())
    assert sum(budget.values()) == count_kept(density, weights())
    assert all(1 <= n <= weights()[name].numel() for name, n in budget.items())


@pytest.mark.parametrize("density", [0.9, 0.5, 0.2, 0.05, 0.02])
def test_erk_agrees_with_its_twin_to_the_rounding(density):
    budget, twin = erk(density, weights()), erk_by_bisection(density, SHAPES)
    assert all(abs(budget[name] - twin[name]) < 1 for name in SHAPES)


def test_erk_by_hand():
    """Dimensions add up to 4 and 40, sizes are 4 and 400; 44 of 404 weights are one per dimension.

    With 84 of them the small layer is full, and the large one takes the rest.
    """
    two = weights({"small": (2, 2), "large": (20, 20)})
    assert erk(0.109, two) == {"small": 4, "large": 40}
    assert erk(0.208, two) == {"small": 4, "large": 80}


def test_shares_are_exact_where_floats_are_not():
    assert uniform(0.29, weights({"a": (10, 10), "b": (10, 10)})) == {
        "a": 29,
        "b": 29,
    }  # 0.29 * 200 is 57.99... in floats


def test_uniform_by_hand():
    assert uniform(0.5, weights({"a": (3, 1), "b": (3, 1), "c": (2, 1)})) == {
        "a": 2,
        "b": 1,
        "c": 1,
    }


@pytest.mark.parametrize("allocate", [uniform, erk])
def test_a_layer_without_any_weight_is_refused_by_name(allocate):
    tiny = weights({"large": (500, 500), "head": (2, 2)})
    with pytest.raises(
        ValueError,
        match=r"density=0.0001 leaves head, which has 4 weights, without any: choose a higher one",
    ):
        allocate(0.0001, tiny)
