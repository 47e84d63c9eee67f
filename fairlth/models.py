"""The networks: small ones written out, larger ones from torchvision with a stem for small images."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairlth.config import Run


def build(name: str, in_shape: tuple[int, ...], n_classes: int, generator: torch.Generator) -> nn.Module:
    """A network with weights drawn from `generator`.

    Every convolution and linear layer is drawn Kaiming normal (He et al., 2015), biases are 0, batch norm is the identity.

    Args:
        name: a key of MODELS.
        in_shape: (channels, side, side) of one image.
        n_classes: the number of logits.
        generator: a CPU generator; the same state gives the same bits.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in MODELS:
        raise ValueError(f"model={name!r} is unknown: choose one of {', '.join(MODELS)}.")
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global generator, we draw again below
        model = MODELS[name](in_shape, n_classes)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def check(run: Run) -> None:
    """Raises ValueError if the run's model is unknown."""
    if run.model not in MODELS:
        raise ValueError(f"model={run.model!r} is unknown: choose one of {', '.join(MODELS)}.")


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """The weights that pruning may remove, by name: every convolution and linear kernel, first and last layer included.

    Biases and batch norm always stay, as in the reference code of lottery tickets (facebookresearch/open_lth).
    """
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


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


MODELS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "mlp": mlp,
    "convnet": convnet,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "vgg16": vgg16,
    "mobilenet_v2": mobilenet_v2,
}
