import math

import pytest
import torch

from fairlth.images import as_float
from fairlth.masks import MaskSet
from fairlth.methods.regrowth import cosine_rate, refresh_statistics, regrow
from fairlth.models import build


def case(seed=0, density=0.3):
    generator = torch.Generator().manual_seed(seed)
    mask = MaskSet(
        {
            "a": torch.rand(12, 10, generator=generator) < density,
            "b": torch.rand(5, 12, generator=generator) < density,
        }
    )
    weights = {
        name: torch.randn(kept.shape, generator=generator) * kept for name, kept in mask.items()
    }
    gradients = {name: torch.randn(kept.shape, generator=generator) for name, kept in mask.items()}
    return weights, gradients, mask, generator


def twin(weight, gradient, kept, rate, sign):
    """The plain twin: drop the smallest, grow the largest (sign 1) or smallest (-1) absolute
    gradient, one by one.
    """
    alive = {i for i, one in enumerate(kept) if one}
    gone = sorted(alive, key=lambda i: abs(weight[i]))[: math.ceil(rate * len(alive))]
    alive -= set(gone)
    empty = [i for i in range(len(kept)) if i not in alive]
    return alive | set(sorted(empty, key=lambda i: -sign * abs(gradient[i]))[: len(gone)])


@pytest.mark.parametrize(("grow", "sign"), [("gradient", 1), ("inverted", -1)])
@pytest.mark.parametrize("rate", [0.5, 0.1, 0.005])
def test_drop_and_growth_agree_with_their_twin(grow, sign, rate):
    weights, gradients, mask, generator = case()
    after = regrow(weights, gradients, mask, rate, "magnitude", grow, generator)
    for name, kept in mask.items():
        flat = [value.flatten().tolist() for value in (weights[name], gradients[name], kept)]
        assert set(after[name].flatten().nonzero()[:, 0].tolist()) == twin(*flat, rate, sign)


@pytest.mark.parametrize("drop", ["magnitude", "threshold"])
@pytest.mark.parametrize("grow", ["random", "gradient", "inverted"])
def test_every_layer_keeps_its_count(drop, grow):
    weights, gradients, mask, generator = case()
    weights["b"] = weights["b"] * 0.0005  # below the threshold: all of them go
    after = regrow(weights, gradients, mask, 0.3, drop, grow, generator)
    assert [int(after[name].sum()) for name in after] == [int(mask[name].sum()) for name in mask]


def test_the_threshold_drops_what_is_below_it_and_nothing_else():
    weights, gradients, mask, generator = case()
    places = mask["a"].nonzero()[:3]
    weights["a"][tuple(places.T)] = 0.001
    gradients["a"] = torch.where(mask["a"], 0.0, 1.0)  # all growth goes elsewhere
    after = regrow(weights, gradients, mask, 0.3, "threshold", "gradient", generator)
    assert int((mask["a"] & ~after["a"]).sum()) == 3 and not after["a"][tuple(places.T)].any()
    assert torch.equal(after["b"], mask["b"])


def test_random_growth_follows_its_generator():
    weights, gradients, mask, _ = case()
    masks = [
        regrow(
            weights,
            gradients,
            mask,
            0.5,
            "magnitude",
            "random",
            torch.Generator().manual_seed(seed),
        )["a"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_a_dense_layer_stays_dense():
    full = MaskSet({"a": torch.ones(3, 3, dtype=torch.bool)})
    weights = {"a": torch.arange(9.0).reshape(3, 3) + 1}
    after = regrow(weights, weights, full, 0.5, "magnitude", "gradient", torch.Generator())
    assert after["a"].all()


def test_the_death_rate_falls_along_a_cosine():
    assert [cosine_rate(done) for done in (0, 0.5, 1)] == pytest.approx([0.5, 0.2525, 0.005])


def test_statistics_are_taken_anew_as_plain_averages_and_nothing_else_changes(random_data):
    model = build("convnet", (1, 8, 8), 3, torch.Generator().manual_seed(0)).eval()
    norm, split = model.norm1, random_data.train
    norm.running_mean.fill_(7.0)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    refresh_statistics(model, split, torch.arange(96), 0)
    inputs = model.pool1(model.conv1(as_float(split.x)))
    assert torch.allclose(norm.running_mean, inputs.mean((0, 2, 3)), atol=1e-5)
    assert norm.momentum == 0.1 and not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
