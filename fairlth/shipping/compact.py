"""Channels that pruning has emptied are taken out: a smaller dense network with equal outputs."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fairlth.models import Residual
from fairlth.models.checks import check_no_masks, check_untied

POOLS = nn.MaxPool2d | nn.AdaptiveAvgPool2d | nn.Flatten  # leave a constant channel as it is


class Link(NamedTuple):
    """A layer, the batch norm after it (or None), a ReLU, and the only layer that reads it."""

    producer: Any  # Conv2d or Linear, as is the consumer
    norm: Any  # BatchNorm2d or None
    consumer: Any


def compact(model: nn.Module) -> nn.Module:
    """A copy of a pruned network without the channels that do nothing; its outputs are the same.

    A channel whose incoming weights are all 0 is constant. From its bias b (0 where there is none)
    the norm and the ReLU make k = relu((b - mean) / sqrt(var + eps) * gamma + beta) at every place.

    * A linear layer takes it as a bias, W[:, c] k.
    * A convolution pads with zeros, so k counts for less at the border and no bias can replace it.
      There all constant channels become one that is 1 everywhere, read through sum_c k_c W[:, c].

    Then every channel that nobody reads is removed. Of residual networks only channels inside a
    block can go, since what a block gives has to fit its shortcut.

    Args:
        model: mlp, convnet, resnet20, resnet18 or vgg16 of `models`, or a chain of the same
            modules; pruned weights exactly 0.

    Returns:
        The smaller network, in evaluation mode.

    Raises:
        ValueError: another network, or one whose layers share a tensor or have masks of
            `torch.nn.utils.prune`.
    """
    check_no_masks(type(model).__name__, model)
    check_untied(type(model).__name__, model)
    small = copy.deepcopy(model).eval()
    chain = links(small)
    with torch.no_grad():
        for link in chain:
            _fold_constants(link)
        for link in reversed(chain):
            _drop_unread(link)
    return small


def links(model: nn.Module) -> list[Link]:
    """The places of a network where channels can be removed, from its input on.

    Raises:
        ValueError: the network is not understood.
    """
    if type(model) is nn.Sequential:  # a subclass may run its modules otherwise
        blocks = [block for block in model if isinstance(block, Residual)]
        if not blocks:
            return _chain([*model])
        return [_link(block.conv1, [block.norm1, nn.ReLU()], block.conv2) for block in blocks]
    from torchvision.models import VGG
    from torchvision.models.resnet import BasicBlock

    if isinstance(model, VGG):
        return _chain([*model.features, model.avgpool, nn.Flatten(), model.classifier])
    basic = [block for block in model.modules() if isinstance(block, BasicBlock)]
    if basic:
        return [_link(block.conv1, [block.bn1, nn.ReLU()], block.conv2) for block in basic]
    raise _refusal(type(model).__name__)


def _chain(modules: Sequence[nn.Module]) -> list[Link]:
    """The links of a network without branches."""
    layers = nn.Conv2d | nn.Linear
    places = [place for place, module in enumerate(modules) if isinstance(module, layers)]
    return [
        _link(modules[here], modules[here + 1 : there], modules[there])
        for here, there in pairwise(places)
    ]


def _link(producer: Any, between: Sequence[nn.Module], consumer: Any) -> Link:
    """A link of two layers; ValueError where `compact` cannot handle what is between them."""
    steps: list[Any] = [module for module in between if not isinstance(module, POOLS)]
    norm = steps[0] if steps and isinstance(steps[0], nn.BatchNorm2d) else None
    after_norm = steps[1:] if norm is not None else steps
    if [type(step) for step in after_norm] != [nn.ReLU]:
        names = [type(module).__name__ for module in (producer, *between, consumer)]
        raise _refusal(" + ".join(names))
    is_grouped = getattr(producer, "groups", 1) > 1
    fits = consumer.weight.shape[1] == len(producer.weight)
    if is_grouped or not fits or (norm is None and isinstance(consumer, nn.Conv2d)):
        raise _refusal(f"{consumer} after {producer}")
    if norm is not None and (norm.weight is None or norm.running_mean is None):
        raise _refusal(str(norm))
    return Link(producer, norm, consumer)


def _refusal(what: str) -> ValueError:
    return ValueError(
        f"{what}: channels are taken out of mlp, convnet, resnet20, resnet18, vgg16 and the like, "
        "export this network as it is."
    )


def _constants(link: Link) -> Tensor:
    """What each channel (channels,) is where its incoming weights are all 0."""
    producer = link.producer
    norm = link.norm
    value = producer.bias
    if value is None:
        value = producer.weight.new_zeros(len(producer.weight))
    if norm is not None:
        value = (value - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        value = value * norm.weight + norm.bias
    return value.relu()


def _fold_constants(link: Link) -> None:
    """Moves what constant channels contribute to their reader's bias or one channel of ones."""
    dead = ~link.producer.weight.flatten(1).any(1)
    if not dead.any():
        return
    consumer = link.consumer
    # o: outputs of the reader, c: constant channels, ...: rows and columns of a kernel
    given = torch.einsum("oc...,c->o...", consumer.weight[:, dead], _constants(link)[dead])
    consumer.weight[:, dead] = 0
    if isinstance(consumer, nn.Linear):
        bias = given if consumer.bias is None else consumer.bias + given
        consumer.bias = nn.Parameter(bias)
    else:
        ones = dead.nonzero()[0]
        link.norm.weight[ones] = 0
        link.norm.bias[ones] = 1
        consumer.weight[:, ones] = given[:, None]


def _drop_unread(link: Link) -> None:
    """Takes out the channels for which the reader has zeros only; one is left of none."""
    read = link.consumer.weight.transpose(0, 1).flatten(1).any(1)
    keep = read.nonzero()[:, 0]
    if len(keep) == 0:
        keep = keep.new_zeros(1)
    _take(link.producer, keep, "weight", "bias")
    if link.norm is not None:
        _take(link.norm, keep, "weight", "bias", "running_mean", "running_var")
    link.consumer.weight = nn.Parameter(link.consumer.weight[:, keep])
    for module in link:
        _name_sizes(module)


def _take(module: nn.Module, keep: Tensor, *names: str) -> None:
    for name in names:
        value = getattr(module, name)
        if value is None:
            continue
        kept = value[keep]
        setattr(module, name, nn.Parameter(kept) if isinstance(value, nn.Parameter) else kept)


def _name_sizes(module: nn.Module | None) -> None:
    """The sizes that a module shows are those of its weights."""
    if isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = len(module.weight)
