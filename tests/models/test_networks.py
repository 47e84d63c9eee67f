"""The networks of the package: their sizes and outputs."""

import zlib

import pytest
import torch
from torch import nn

from fairlth.masks import prunable
from fairlth.models import MODELS, build


def make(name, seed=0, in_shape=(3, 32, 32)):
    return build(name, in_shape, 7, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("in_shape", [(3, 32, 32), (1, 28, 28)])
def test_every_model_gives_logits(name, in_shape):
    model = make(name, in_shape=in_shape).eval()
    assert model(torch.zeros(2, *in_shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("convnet", 88768),
        ("resnet20", 268144),
        ("resnet18", 11162816),
        ("vgg16", 14714048),
        ("mobilenet_v2", 2198720),
    ],
)
def test_prunable_weights_are_counted_exactly(name, weights):
    assert sum(weight.numel() for weight in prunable(make(name)).values()) == weights


def test_prunable_is_every_kernel_and_nothing_else():
    model = make("convnet")
    assert list(prunable(model)) == [
        "conv1.weight",
        "conv2.weight",
        "conv3.weight",
        "conv4.weight",
        "linear.weight",
    ]
    assert list(prunable(nn.Linear(3, 2))) == ["weight"]


def test_digits_fit_the_small_models():
    for name in ("mlp", "convnet", "resnet20"):
        assert make(name, in_shape=(1, 8, 8)).eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


def summary(model):
    """Names and shapes as one number, and two sums over all weights that a change of one moves."""
    state = model.state_dict()
    names = repr([(name, tuple(value.shape)) for name, value in state.items()])
    flat = torch.cat([value.double().reshape(-1) for value in state.values()])
    places = torch.linspace(0, 1, len(flat), dtype=torch.float64)
    return zlib.crc32(names.encode()), float(flat.abs().sum()), float(flat.abs() @ places)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp", (4018695979, 8898.65639173212, 4797.492072216782)),
        ("convnet", (73924780, 5320.0266563048535, 2457.704074515443)),
        ("resnet20", (1054089460, 16219.798498726996, 7193.098961313268)),
        ("resnet18", (182641516, 245687.5252934597, 106448.62565346531)),
        ("vgg16", (3488296203, 280477.47177496355, 128366.68281809162)),
        ("mobilenet_v2", (1252396746, 205614.07916106528, 84677.45356168432)),
    ],
)
def test_the_weights_of_seed_0_are_those_that_published_tables_started_from(name, expected):
    names, size, order = summary(make(name))
    assert names == expected[0]
    assert (size, order) == pytest.approx(expected[1:], rel=1e-6)
