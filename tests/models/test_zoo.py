"""torchvision's networks as they come: accepted, or refused for the reason that is expected."""

import pytest
import torchvision

from fairlth import models

DROPOUT = r"\(Dropout\).* random numbers while it trains.*set its p to 0"
DEPTH = r"\(StochasticDepth\).* random numbers while it trains.*set its p to 0"
FAMILIES = {  # name -> what it is refused for, None: accepted
    "alexnet": DROPOUT,
    "vgg11_bn": DROPOUT,
    "resnet34": None,
    "resnext50_32x4d": None,
    "wide_resnet50_2": None,
    "densenet121": None,
    "googlenet": "gives GoogLeNetOutputs for 2 images",
    "squeezenet1_1": DROPOUT,
    "shufflenet_v2_x0_5": None,
    "mnasnet0_5": DROPOUT,
    "mobilenet_v3_small": DROPOUT,
    "efficientnet_b0": DEPTH,
    "efficientnet_v2_s": DEPTH,
    "regnet_y_400mf": None,
    "convnext_tiny": DEPTH,
    "swin_t": DEPTH,
}


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore")  # torchvision's own, on how weights are drawn
@pytest.mark.parametrize(("name", "reason"), FAMILIES.items())
def test_networks_of_torchvision_are_accepted_or_refused_for_a_reason(own, name, reason):
    builder = getattr(torchvision.models, name)

    def build_it(in_shape, n_classes):
        return builder(num_classes=n_classes)

    if reason is None:
        models.add("zoo", build_it, in_shape=(3, 64, 64))
        return
    with pytest.raises(ValueError, match=f"model 'zoo'.*{reason}"):
        models.add("zoo", build_it, in_shape=(3, 64, 64))
