"""The networks of the package: small ones written out, larger ones from torchvision.

Each is a function of (channels, side, side) of one image and the number of classes.
"""

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

LARGE = 64  # pixels per side above which the stems of larger networks subsample


def mlp(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Two hidden layers; on 8 x 8 digits a first-layer unit's incoming weights are a picture."""
    channels, height, width = in_shape
    widths = (channels * height * width, 128, 64, n_classes)
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, (n_in, n_out) in enumerate(pairwise(widths), 1):
        layers[f"linear{number}"] = nn.Linear(n_in, n_out)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
    del layers["relu3"]
    return nn.Sequential(OrderedDict(layers))


def convnet(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Four convolutions with batch norm, about 90 000 weights; pools stand before the norm."""
    widths = (in_shape[0], 16, 32, 64, 112)
    layers: dict[str, nn.Module] = {}
    for number, (n_in, n_out) in enumerate(pairwise(widths), 1):
        layers[f"conv{number}"] = _conv(n_in, n_out)
        if number < 4:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        layers[f"norm{number}"] = nn.BatchNorm2d(n_out)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
    return nn.Sequential(OrderedDict(layers | _head(widths[-1], n_classes)))


def resnet20(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """The 20-layer network of He et al., 2016, section 4.2, for 32 x 32 images: 270 000 weights."""
    layers: dict[str, nn.Module] = {
        "conv": _conv(in_shape[0], 16),
        "norm": nn.BatchNorm2d(16),
        "relu": nn.ReLU(inplace=True),
    }
    widths = (16, *[16] * 3, *[32] * 3, *[64] * 3)
    for number, (n_in, n_out) in enumerate(pairwise(widths), 1):
        stride = 1 if n_in == n_out else 2
        layers[f"block{number}"] = Residual(n_in, n_out, stride)
    return nn.Sequential(OrderedDict(layers | _head(64, n_classes)))


def resnet18(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """torchvision's; up to 64 pixels a side its stem is 3 x 3, of stride 1, without pooling."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=n_classes)
    model.conv1 = _conv(in_shape[0], 64, _stem_stride(in_shape))
    if in_shape[1] <= LARGE:
        model.maxpool = nn.Identity()
    return model


def vgg16(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """torchvision's convolutions with batch norm, and one linear layer as usual on small images.

    Pools round up.
    """
    from torchvision.models import vgg16_bn

    model = vgg16_bn(num_classes=n_classes, init_weights=False)
    model.features[0] = nn.Conv2d(in_shape[0], 64, 3, padding=1)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Linear(512, n_classes)
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
    return model


def mobilenet_v2(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """torchvision's without its dropout, with a stem of stride 1 up to 64 pixels a side."""
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2(num_classes=n_classes, dropout=0.0)
    model.features[0][0] = _conv(in_shape[0], 32, _stem_stride(in_shape))
    return model


def vgg11_small(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """VGG-11 with batch norm (Simonyan and Zisserman, 2015) at a quarter of its widths and one
    linear layer; pools round up.

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
    """Two convolutions around a shortcut that subsamples and pads with zero channels.

    Source: He et al., 2016, option A.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(n_in, n_out, stride)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = _conv(n_out, n_out)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.stride = stride
        self.new_channels = n_out - n_in

    def forward(self, x: Tensor) -> Tensor:
        """(b, n_in, h, w) to (b, n_out, h / stride, w / stride)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(y.add_(shortcut), inplace=True)


def _conv(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


def _head(width: int, n_classes: int) -> dict[str, nn.Module]:
    return {
        "average": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(width, n_classes),
    }


def _stem_stride(in_shape: tuple[int, ...]) -> int:
    return 1 if in_shape[1] <= LARGE else 2
