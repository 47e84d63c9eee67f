"""Networks by name: one generator decides their weights."""

import pytest
import torch

from fairlth import models
from fairlth.models import MODELS, build


def make(name, seed=0, in_shape=(3, 32, 32)):
    return build(name, in_shape, 7, torch.Generator().manual_seed(seed))


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


def test_an_unknown_model_is_refused_by_name():
    with pytest.raises(ValueError, match="model='lenet' is unknown: choose one of mlp, convnet"):
        make("lenet")
    with pytest.raises(ValueError, match="model='lenet'"):
        models.check("lenet")


def test_models_of_the_package_have_no_fingerprint():
    assert {models.fingerprint(name) for name in MODELS} == {""}
