import pytest
import torch
from torch import nn

from fairlth import models
from fairlth.models import MODELS, build, prunable


def make(name, seed=0, in_shape=(3, 32, 32)):
    return build(name, in_shape, 7, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("in_shape", [(3, 32, 32), (1, 28, 28)])
def test_every_model_gives_logits(name, in_shape):
    model = make(name, in_shape=in_shape).eval()
    assert model(torch.zeros(2, *in_shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("convnet", 88768), ("resnet20", 268144), ("resnet18", 11162816), ("vgg16", 14714048), ("mobilenet_v2", 2198720)],
)
def test_prunable_weights_are_counted_exactly(name, weights):
    assert sum(weight.numel() for weight in prunable(make(name)).values()) == weights


def test_prunable_is_every_kernel_and_nothing_else():
    model = make("convnet")
    assert list(prunable(model)) == ["conv1.weight", "conv2.weight", "conv3.weight", "conv4.weight", "linear.weight"]
    assert list(prunable(nn.Linear(3, 2))) == ["weight"]


@pytest.mark.parametrize("name", MODELS)
def test_the_generator_decides_the_weights_alone(name):
    torch.manual_seed(1)
    one = make(name).state_dict()
    torch.manual_seed(2)
    same, other = make(name).state_dict(), make(name, seed=1).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    make("resnet18")
    assert torch.equal(torch.rand(1), expected)


def test_digits_fit_the_small_models():
    for name in ("mlp", "convnet", "resnet20"):
        assert make(name, in_shape=(1, 8, 8)).eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


def test_an_unknown_model_is_refused_by_name(smoke_run):
    with pytest.raises(ValueError, match="model='lenet' is unknown: choose one of mlp, convnet"):
        make("lenet")
    with pytest.raises(ValueError, match="model='lenet'"):
        models.check(smoke_run.model_copy(update={"model": "lenet"}))
