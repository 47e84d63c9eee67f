"""torchvision's networks as they come are accepted: dropout, stochastic depth, auxiliary heads."""

import pytest
import torchvision

from fairlth import models

FAMILIES = (
    "alexnet",
    "vgg11_bn",
    "resnet34",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "googlenet",
    "inception_v3",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "convnext_tiny",
    "swin_t",
)
SIDES = {"inception_v3": 299}  # pixels, others 64


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore")  # torchvision's own, on how weights are drawn
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_torchvision_are_accepted_as_they_come(own, name):
    builder = getattr(torchvision.models, name)
    side = SIDES.get(name, 64)

    def build_it(in_shape, n_classes):
        return builder(num_classes=n_classes)

    models.add("zoo", build_it, in_shape=(3, side, side))
