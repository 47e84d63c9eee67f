"""Networks of torchvision and timm at small size, and the page of the package that lists them.

`python tests/models/zoo.py` writes the page anew.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn
from torchvision.models import (
    AlexNet,
    DenseNet,
    GoogLeNet,
    Inception3,
    MobileNetV2,
    ShuffleNetV2,
    SqueezeNet,
    VisionTransformer,
    convnext,
    efficientnet,
    maxvit,
    mobilenetv3,
    regnet,
    resnet,
    swin_transformer,
    vgg,
)

from fairlth.config import paths

PAGE = paths.PACKAGE / "models" / "README.md"

HEAD = """\
# Which networks can be pruned

`models.add` accepts any `nn.Module` that gives logits and follows from its seed, its weights and the image alone. It
prints a table: each layer, its shape, its weights, and whether it is pruned or why not.

Pruned are the weights of `nn.Linear`, of `nn.Conv1d`, `nn.Conv2d` and `nn.Conv3d`, of their transposed forms, and the
projections of `nn.MultiheadAttention`. Biases, norms, embeddings, class tokens and positions stay, and so do the layers
that you name in `keep`:

```python
models.add("net", build, keep=("head", "stem.*"))  # `*` as in a shell
```

Every method that prunes weights works with all of these; those that remove whole units need convolutions or linear layers
that read each other. Layers of other kinds, such as `nn.LSTM`, are trained and never pruned.

## torchvision

One small network of each family is added, trained, pruned to an exact count, stored, read again and exported to ONNX
with equal outputs (`pytest -m zoo`). Dropout and stochastic depth stay as they are: what they draw follows from the run's
seed. *Set* is what its usual constructor has to be given. Weights are those of the small network with three classes.

| family | set | image side tried | weights | prunable |
| --- | --- | --- | --- | --- |
"""
TAIL = """
MNASNet is refused: loading it needs a version number, which a file of names and values does not have. GoogLeNet and
Inception give the outputs of extra classifiers, too, while they train: the logits are taken, and what leads to the others
alone is frozen. A network for one image size (vit, maxvit) is built for that of your images: `build` gets it as
`in_shape`.

## timm

Networks of [timm](https://github.com/huggingface/pytorch-image-models) have their names after `timm/`, and its extra
installs it (`pip install 'fairlth[timm]'`):

    fairlth ticket path/to/folder --network timm/test_vit

Tried as above by these names: {names}. A network that is made for one size of images is built for that of yours.

Their weights are drawn. To start from trained ones, give `models.add` or `--network FILE.py:FUNCTION` a function that loads
them:

```python
import timm
from fairlth import models


def build(in_shape, n_classes):
    sizes = dict(in_chans=in_shape[0], num_classes=n_classes)
    return timm.create_model("test_resnet", **sizes, checkpoint_path="mine.pt")


models.add("net", build, in_shape=(3, 96, 96), n_classes=10, weights="keep")
```
"""


class Network(NamedTuple):
    """A family: how its smallest network here is built, and what a user has to set."""

    family: str
    build: Callable[[int], nn.Module]  # of the number of classes
    side: int  # pixels
    needs: str  # arguments of the usual constructor, "" for none
    weights: int  # of the small network with 3 classes, all parameters
    prunable: int


def small_head(model: nn.Module, n_in: int, n_classes: int) -> nn.Module:
    """The usual classifier of two hidden layers has 4096 features each: here 8."""
    model.classifier = nn.Sequential(
        nn.Linear(n_in, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, n_classes)
    )
    return model


def alexnet_(n_classes: int) -> nn.Module:
    return small_head(AlexNet(n_classes), 256 * 6 * 6, n_classes)


def vgg_(n_classes: int) -> nn.Module:
    features = vgg.make_layers([8, "M", 16, "M", 32], batch_norm=True)
    return small_head(vgg.VGG(features, n_classes, False), 32 * 7 * 7, n_classes)


def resnet_(block: type, n_classes: int, **values: int) -> nn.Module:
    return resnet.ResNet(block, [1, 1, 1, 1], n_classes, **values)


def mobilenet_v3_(n_classes: int) -> nn.Module:
    config = partial(mobilenetv3.InvertedResidualConfig, dilation=1, width_mult=1.0)
    blocks = [
        config(16, 3, 16, 16, True, "RE", stride=2),
        config(16, 5, 32, 24, True, "HS", stride=2),
    ]
    return mobilenetv3.MobileNetV3(blocks, 32, n_classes)


def efficientnet_(n_classes: int) -> nn.Module:
    blocks = [
        efficientnet.MBConvConfig(1, 3, 1, 16, 8, 1),
        efficientnet.MBConvConfig(6, 5, 2, 8, 16, 2),
    ]
    return efficientnet.EfficientNet(blocks, 0.2, 0.2, n_classes)


def efficientnet_v2_(n_classes: int) -> nn.Module:
    blocks = [
        efficientnet.FusedMBConvConfig(4, 3, 2, 16, 24, 1),
        efficientnet.MBConvConfig(4, 3, 2, 24, 32, 2),
    ]
    return efficientnet.EfficientNet(blocks, 0.2, 0.2, n_classes, last_channel=64)


def regnet_(n_classes: int) -> nn.Module:
    blocks = regnet.BlockParams.from_init_params(4, 8, 8.0, 2.0, 8, se_ratio=0.25)
    return regnet.RegNet(blocks, n_classes)


def convnext_(n_classes: int) -> nn.Module:
    blocks = [convnext.CNBlockConfig(16, 32, 1), convnext.CNBlockConfig(32, None, 1)]
    return convnext.ConvNeXt(blocks, 0.2, num_classes=n_classes)


def swin_(block: type, merging: type, n_classes: int) -> nn.Module:
    return swin_transformer.SwinTransformer(
        [4, 4],
        16,
        [1, 1],
        [2, 2],
        [4, 4],
        stochastic_depth_prob=0.2,
        num_classes=n_classes,
        block=block,
        downsample_layer=merging,
    )


def maxvit_(n_classes: int) -> nn.Module:
    return maxvit.MaxVit((32, 32), 16, 4, [16, 32], [1, 1], 8, 0.2, num_classes=n_classes)


SWIN = partial(swin_, swin_transformer.SwinTransformerBlock, swin_transformer.PatchMerging)
SWIN_V2 = partial(swin_, swin_transformer.SwinTransformerBlockV2, swin_transformer.PatchMergingV2)
BASIC = partial(resnet_, resnet.BasicBlock)
WIDE = partial(resnet_, resnet.Bottleneck, width_per_group=128)
RESNEXT = partial(resnet_, resnet.Bottleneck, groups=32, width_per_group=4)

NETWORKS = [
    Network("alexnet", alexnet_, 64, "", 2543531, 2542360),
    Network("vgg", vgg_, 32, "", 18795, 18608),
    Network("resnet", BASIC, 32, "", 4907331, 4901568),
    Network("resnext", RESNEXT, 32, "", 7369027, 7345856),
    Network("wide_resnet", WIDE, 32, "", 19511107, 19487936),
    Network("densenet", lambda n: DenseNet(8, (2, 2), 16, num_classes=n), 32, "", 15315, 14736),
    Network(
        "googlenet",
        lambda n: GoogLeNet(n, False, init_weights=False),
        64,
        "",
        5602979,
        5588416,
    ),
    Network(
        "inception_v3",
        lambda n: Inception3(n, False, init_weights=False),
        75,
        "images of 75 pixels or more",
        21791715,
        21757280,
    ),
    Network("squeezenet", lambda n: SqueezeNet("1_1", n), 32, "", 724035, 721088),
    Network(
        "shufflenet_v2",
        lambda n: ShuffleNetV2([1, 1, 1], [24, 48, 96, 192, 256], n),
        32,
        "",
        92123,
        89880,
    ),
    Network(
        "mobilenet_v2",
        lambda n: MobileNetV2(n, 0.5, [[1, 16, 1, 1], [6, 24, 2, 2]]),
        32,
        "",
        33827,
        30544,
    ),
    Network("mobilenet_v3", mobilenet_v3_, 32, "", 12499, 11840),
    Network("efficientnet", efficientnet_, 32, "", 11853, 10832),
    Network("efficientnet_v2", efficientnet_v2_, 32, "", 33809, 32208),
    Network("regnet", regnet_, 32, "", 14257, 13440),
    Network("convnext", convnext_, 32, "", 16115, 15504),
    Network(
        "vit",
        lambda n: VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=n),
        32,
        "`image_size=` that of the images",
        5683,
        5168,
    ),
    Network("swin", SWIN, 32, "", 19335, 18272),
    Network("swin_v2", SWIN_V2, 32, "", 24199, 22368),
    Network("maxvit", maxvit_, 32, "`input_size=` that of the images", 50936, 47824),
]
TIMM = [  # small networks of timm by name
    "test_byobnet",
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit3",
]


def page() -> str:
    """The page as Markdown: one row a family."""
    rows = [
        f"| {one.family} | {one.needs or 'nothing'} | {one.side} | {one.weights:,} "
        f"| {one.prunable:,} |"
        for one in NETWORKS
    ]
    return HEAD + "\n".join(rows) + "\n" + TAIL.format(names=", ".join(f"`{one}`" for one in TIMM))


if __name__ == "__main__":
    paths.write_atomically(PAGE, page().encode())
