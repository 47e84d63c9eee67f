"""Channels that pruning has emptied are really taken out: a smaller dense network with the same outputs."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fairlth.models import Residual

POOLS = nn.MaxPool2d | nn.AdaptiveAvgPool2d | nn.Flatten  # leave a constant channel as it is


class Link(NamedTuple):
    """A layer, the batch norm after it (None: there is none), a ReLU, and the only layer that reads its channels."""

    producer: Any  # Conv2d or Linear, as is the consumer
    norm: Any  # BatchNorm2d or None
    consumer: Any


def compact(model: nn.Module) -> nn.Module:
    """A copy of a pruned network without the channels that do nothing, in evaluation mode; its outputs are the same.

    A channel whose incoming weights are all 0 is constant: from its bias b (0 where there is none) the norm and the ReLU make
    k = relu((b - mean) / sqrt(var + eps) * gamma + beta) at every place. A linear layer takes it as a bias, W[:, c] k. A
    convolution pads with zeros, so that k counts for less at the border and no bias can stand for it; there all constant
    channels become a single one that is 1 everywhere and is read through sum_c k_c W[:, c]. Then every channel goes that nobody
    reads. Of residual networks only channels inside a block can go: what a block gives has to fit its shortcut.

    Args:
        model: mlp, convnet, resnet20, resnet18 or vgg16 of `models`, or a chain of the same modules; pruned weights exactly 0.

    Raises:
        ValueError: another network.
    """
    small = copy.deepcopy(model).eval()
    chain = links(small)
    with torch.no_grad():
        for link in chain:
            _fold_constants(link)
        for link in reversed(chain):
            _drop_unread(link)
    return small


def links(model: nn.Module) -> list[Link]:
    """The places of a network where channels can go, from its input on; ValueError for one that is not understood."""
    if type(model) is nn.Sequential:  # a subclass may run its modules otherwise
        blocks = [block for block in model if isinstance(block, Residual)]
        return [_link(block.conv1, [block.norm1, nn.ReLU()], block.conv2) for block in blocks] or _chain([*model])
    from torchvision.models import VGG
    from torchvision.models.resnet import BasicBlock

    if isinstance(model, VGG):
        return _chain([*model.features, model.avgpool, nn.Flatten(), model.classifier])
    if basic := [block for block in model.modules() if isinstance(block, BasicBlock)]:
        return [_link(block.conv1, [block.bn1, nn.ReLU()], block.conv2) for block in basic]
    raise _refusal(type(model).__name__)


def _chain(modules: Sequence[nn.Module]) -> list[Link]:
    """The links of a network without branches."""
    places = [place for place, module in enumerate(modules) if isinstance(module, nn.Conv2d | nn.Linear)]
    return [_link(modules[here], modules[here + 1 : there], modules[there]) for here, there in pairwise(places)]


def _link(producer: Any, between: Sequence[nn.Module], consumer: Any) -> Link:
    """Raises ValueError where something between two layers, or their shapes, is not what `compact` counts on."""
    steps: list[Any] = [module for module in between if not isinstance(module, POOLS)]
    norm = steps[0] if steps and isinstance(steps[0], nn.BatchNorm2d) else None
    if [type(step) for step in steps[norm is not None :]] != [nn.ReLU]:
        raise _refusal(" + ".join(type(module).__name__ for module in (producer, *between, consumer)))
    grouped = getattr(producer, "groups", 1) > 1 or consumer.weight.shape[1] != len(producer.weight)
    if grouped or (norm is None and isinstance(consumer, nn.Conv2d)):
        raise _refusal(f"{consumer} after {producer}")
    if norm is not None and (norm.weight is None or norm.running_mean is None):
        raise _refusal(str(norm))
    return Link(producer, norm, consumer)


def _refusal(what: str) -> ValueError:
    return ValueError(
        f"{what}: channels are taken out of mlp, convnet, resnet20, resnet18, vgg16 and the like, export this network as it is."
    )


def _constants(link: Link) -> Tensor:
    """What each channel (channels,) is where its incoming weights are all 0."""
    bias, norm = link.producer.bias, link.norm
    value = link.producer.weight.new_zeros(len(link.producer.weight)) if bias is None else bias
    if norm is not None:
        value = (value - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return value.relu()


def _fold_constants(link: Link) -> None:
    """Gives what constant channels contribute to their reader's bias or to one channel of ones; the others are read no more."""
    dead = ~link.producer.weight.flatten(1).any(1)
    if not dead.any():
        return
    given = torch.einsum("oc...,c->o...", link.consumer.weight[:, dead], _constants(link)[dead])
    link.consumer.weight[:, dead] = 0
    if isinstance(link.consumer, nn.Linear):
        link.consumer.bias = nn.Parameter(given if link.consumer.bias is None else link.consumer.bias + given)
    else:
        ones = dead.nonzero()[0]
        link.norm.weight[ones], link.norm.bias[ones] = 0, 1
        link.consumer.weight[:, ones] = given[:, None]


def _drop_unread(link: Link) -> None:
    """Takes out the channels for which the reader has zeros only; one stays where all would go."""
    keep = link.consumer.weight.transpose(0, 1).flatten(1).any(1).nonzero()[:, 0]
    keep = keep if len(keep) else keep.new_zeros(1)
    _take(link.producer, keep, "weight", "bias")
    if link.norm is not None:
        _take(link.norm, keep, "weight", "bias", "running_mean", "running_var")
    link.consumer.weight = nn.Parameter(link.consumer.weight[:, keep])
    for module in link:
        _name_sizes(module)


def _take(module: nn.Module, keep: Tensor, *names: str) -> None:
    for name in names:
        if (value := getattr(module, name)) is not None:
            setattr(module, name, nn.Parameter(value[keep]) if isinstance(value, nn.Parameter) else value[keep])


def _name_sizes(module: nn.Module | None) -> None:
    """The sizes that a module shows are those of its weights."""
    if isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = len(module.weight)
