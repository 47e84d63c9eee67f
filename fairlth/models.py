"""The networks: small ones written out, larger ones from torchvision with a stem for small images, and your own."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairlth import config
from fairlth.config import Run
from fairlth.layers import check_fits, check_layers, describe
from fairlth.layers import prunable as prunable  # where everybody looks for it

Build = Callable[[tuple[int, ...], int], nn.Module]  # (channels, side, side) and the number of classes -> a network


def build(name: str, in_shape: tuple[int, ...], n_classes: int, generator: torch.Generator) -> nn.Module:
    """A network with weights drawn from `generator`.

    Every convolution and linear layer is drawn Kaiming normal (He et al., 2015), biases are 0, batch norm is the identity. What
    else a network of your own draws when it is built depends on the generator's first seed.

    Args:
        name: a key of MODELS.
        in_shape: (channels, side, side) of one image.
        n_classes: the number of logits.
        generator: a CPU generator; the same state gives the same bits.

    Raises:
        ValueError: the name is unknown.
    """
    _check_known(name)
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global generator, we draw again below
        torch.manual_seed(generator.initial_seed())
        model = MODELS[name](in_shape, n_classes)
    if name in OWN:
        check_layers(name, model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def check(run: Run) -> None:
    """Raises ValueError if the run's model is unknown."""
    _check_known(run.model)


def _check_known(name: str) -> None:
    if name not in MODELS:
        raise ValueError(f"model={name!r} is unknown: choose one of {', '.join(MODELS)}, or add your own by models.add.")


def mlp(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Two hidden layers; on 8 x 8 digits the incoming weights of a first-layer unit are a picture."""
    widths = (in_shape[0] * in_shape[1] * in_shape[2], 128, 64, n_classes)
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, (n_in, n_out) in enumerate(pairwise(widths), 1):
        layers |= {f"linear{number}": nn.Linear(n_in, n_out), f"relu{number}": nn.ReLU(inplace=True)}
    del layers["relu3"]
    return nn.Sequential(OrderedDict(layers))


def convnet(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Four convolutions with batch norm, about 90 000 weights; pooled before the norm, where it is cheapest."""
    widths = (in_shape[0], 16, 32, 64, 112)
    layers: dict[str, nn.Module] = {}
    for number, (n_in, n_out) in enumerate(pairwise(widths), 1):
        layers[f"conv{number}"] = _conv(n_in, n_out)
        if number < 4:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        layers |= {f"norm{number}": nn.BatchNorm2d(n_out), f"relu{number}": nn.ReLU(inplace=True)}
    return nn.Sequential(OrderedDict(layers | _head(widths[-1], n_classes)))


def _head(width: int, n_classes: int) -> dict[str, nn.Module]:
    return {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "linear": nn.Linear(width, n_classes)}


def _conv(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


def vgg11_small(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """VGG-11 with batch norm (Simonyan and Zisserman, 2015) at a quarter of its widths and one linear layer; pools round up.

    577 000 weights and 10 million multiply-adds for an image of 32 x 32 pixels.
    """
    layers: dict[str, nn.Module] = {}
    widths = (16, 32, 64, 64, 128, 128, 128, 128)
    pooled = (1, 2, 4, 6, 8)  # convolutions before a pool
    n_in = in_shape[0]
    for number, n_out in enumerate(widths, 1):
        layers[f"conv{number}"] = _conv(n_in, n_out)
        layers[f"norm{number}"] = nn.BatchNorm2d(n_out)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if number in pooled:
            layers[f"pool{number}"] = nn.MaxPool2d(2, ceil_mode=True)
        n_in = n_out
    return nn.Sequential(OrderedDict(layers | _head(n_in, n_classes)))


class Residual(nn.Module):
    """Two convolutions around a shortcut that subsamples and pads with zero channels (He et al., 2016, option A)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(n_in, n_out, stride), nn.BatchNorm2d(n_out)
        self.conv2, self.norm2 = _conv(n_out, n_out), nn.BatchNorm2d(n_out)
        self.stride, self.new_channels = stride, n_out - n_in

    def forward(self, x: Tensor) -> Tensor:
        """(b, n_in, h, w) to (b, n_out, h / stride, w / stride)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(self.norm2(self.conv2(y)).add_(shortcut), inplace=True)


def resnet20(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """The 20-layer network of He et al., 2016, section 4.2, for 32 x 32 images: 270 000 weights."""
    layers: dict[str, nn.Module] = {"conv": _conv(in_shape[0], 16), "norm": nn.BatchNorm2d(16), "relu": nn.ReLU(inplace=True)}
    widths = (16, *[16] * 3, *[32] * 3, *[64] * 3)
    for number, (n_in, n_out) in enumerate(pairwise(widths), 1):
        layers[f"block{number}"] = Residual(n_in, n_out, 1 if n_in == n_out else 2)
    return nn.Sequential(OrderedDict(layers | _head(64, n_classes)))


def resnet18(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """torchvision's, with a 3 x 3 stem of stride 1 and no pooling after it up to 64 pixels a side."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=n_classes)
    model.conv1 = _conv(in_shape[0], 64, 1 if in_shape[1] <= 64 else 2)
    if in_shape[1] <= 64:
        model.maxpool = nn.Identity()
    return model


def vgg16(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """torchvision's convolutions with batch norm and one linear layer, as usual on small images; pools round up."""
    from torchvision.models import vgg16_bn

    model = vgg16_bn(num_classes=n_classes, init_weights=False)
    model.features[0] = nn.Conv2d(in_shape[0], 64, 3, padding=1)
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, n_classes)
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
    return model


def mobilenet_v2(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """torchvision's, with a stem of stride 1 up to 64 pixels a side, without dropout, which would draw from no seed of ours."""
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2(num_classes=n_classes, dropout=0.0)
    model.features[0][0] = _conv(in_shape[0], 32, 1 if in_shape[1] <= 64 else 2)
    return model


MODELS: dict[str, Build] = {
    "mlp": mlp,
    "convnet": convnet,
    "vgg11_small": vgg11_small,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "vgg16": vgg16,
    "mobilenet_v2": mobilenet_v2,
}
OWN: dict[str, str] = {}  # models of your own -> their fingerprints


def add(name: str, build_it: Build | nn.Module, in_shape: tuple[int, ...] = (3, 32, 32), n_classes: int = 3) -> nn.Module:
    """Makes a network of your own known as `name`, so that `Run(model=name)` trains and prunes it; returns one, for a look.

    Its convolutions (`nn.Conv2d`) and linear layers are what is pruned. Every method of a seed starts from the same weights:
    kernels are drawn anew by `build`, so pretrained ones are lost. Adding the name again replaces it; shared trainings and
    records know the network that they were made with.

    Args:
        name: for file names and tables: letters, digits, _ and -.
        build_it: makes a network for an image shape and a number of classes; or a network, which then fits these two alone, and
            of which every layer that can is reset.
        in_shape, n_classes: what it is tried with now.

    Raises:
        ValueError: the name is taken; or the network has nothing to prune, lazy, shared or frozen weights, a layer without
            part in the output, outputs other than (n, n_classes), or draws random numbers in training, as dropout does.
    """
    config.check_name(name)
    if name in MODELS and name not in OWN:
        raise ValueError(f"{name!r} is a model that comes with the package: choose another name.")
    make = _renewed(build_it) if isinstance(build_it, nn.Module) else build_it
    model = _try(name, make, in_shape, n_classes)
    MODELS[name], OWN[name] = make, describe(model, in_shape)
    return model


def fingerprint(name: str) -> str:
    """Tells a model of your own from others of the same name; "" for those that come with the package."""
    return OWN.get(name, "")


def _try(name: str, make: Build, in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Builds the network once, checks all of it, and returns it in evaluation mode with weights of seed 0."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = make(in_shape, n_classes)
    except Exception as error:
        raise ValueError(
            f"model {name!r} cannot be built for images of {in_shape} and {n_classes} classes: {error}."
        ) from error
    check_layers(name, model)
    check_fits(name, model, in_shape, n_classes)
    return model.eval()


def _renewed(model: nn.Module) -> Build:
    """Copies of a network in which every layer that can is reset."""
    template = copy.deepcopy(model)

    def build_it(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        fresh = copy.deepcopy(template)
        for module in fresh.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return fresh

    return build_it
