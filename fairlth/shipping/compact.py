"""Channels that pruning has emptied are taken out: a smaller dense network with equal outputs."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fairlth.models.checks import check_no_masks, check_untied
from fairlth.shipping.links import Link, links


def compact(model: nn.Module) -> nn.Module:
    """A copy of a pruned network without the channels that do nothing; its outputs are the same.

    A channel whose incoming weights are all 0 is constant. From its bias b (0 where there is none)
    norm and ReLU, say, make k = relu((b - mean) / sqrt(var + eps) * gamma + beta) at every place.

    * A linear layer takes it as a bias, W[:, c] k.
    * A convolution pads with zeros, so k counts for less at the border and no bias can replace it.
      There all constant channels become one that is the same everywhere, f(1) where f comes after
      the norm, read through sum_c k_c W[:, c] / f(1).

    Then every channel that nobody reads is removed. This is done between two layers of which the
    second alone reads the first, see `links.links`. Of residual networks and transformers only
    channels inside a block can go, since what a block gives has to fit its shortcut.

    Args:
        model: any network with such layers; pruned weights exactly 0.

    Returns:
        The smaller network, in evaluation mode.

    Raises:
        ValueError: its forward cannot be traced by `torch.fx`, it has no such place, its layers
            share a tensor, or it has masks of `torch.nn.utils.prune`.
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


def _constants(link: Link) -> Tensor:
    """What each channel (channels,) is where its incoming weights are all 0."""
    producer = link.producer
    if producer.bias is None:
        value = producer.weight.new_zeros(len(producer.weight))
    else:
        value = producer.bias.clone()  # steps may work in place
    for step in link.steps:
        value = _normalised(value, step) if step is link.norm else step(value)
    return value


def _normalised(value: Tensor, norm: Any) -> Tensor:
    normal: Tensor = (value - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    return normal * norm.weight + norm.bias


def _fold_constants(link: Link) -> None:
    """Moves what constant channels contribute to their reader's bias or one constant channel."""
    dead = ~link.producer.weight.flatten(1).any(1)
    if not dead.any():
        return
    weight = _by_channel(link)
    consumer = link.consumer
    # o: outputs of the reader, c: constant channels, ...: rows and columns of a kernel, or places
    given = torch.einsum("oc...,c->o...", weight[:, dead], _constants(link)[dead])
    weight[:, dead] = 0
    if isinstance(consumer, nn.Linear):
        given = given.sum(1)
        bias = given if consumer.bias is None else consumer.bias + given
        consumer.bias = nn.Parameter(bias)
    elif given.any():
        channel = dead.nonzero()[0]
        if link.norm is not None:
            link.norm.weight[channel] = 0
            link.norm.bias[channel] = 1
        elif link.producer.bias is not None:
            link.producer.bias[channel] = 1
        weight[:, channel] = (given / _constants(link)[channel])[:, None]


def _by_channel(link: Link) -> Tensor:
    """A view of the reader's weights, (outputs, channels read, ...).

    A linear layer may read each channel of a convolution in several places.
    """
    weight: Tensor = link.consumer.weight
    if isinstance(link.consumer, nn.Linear):
        return weight.view(len(weight), len(link.producer.weight), -1)
    return weight


def _drop_unread(link: Link) -> None:
    """Takes out the channels for which the reader has zeros only; one is left of none."""
    weight = _by_channel(link)
    read = weight.transpose(0, 1).flatten(1).any(1)
    keep = read.nonzero()[:, 0]
    if len(keep) == 0:
        keep = keep.new_zeros(1)
    kept = weight[:, keep]
    if isinstance(link.consumer, nn.Linear):
        kept = kept.flatten(1)
    link.consumer.weight = nn.Parameter(kept)
    _take(link.producer, keep, "weight", "bias")
    if link.norm is not None:
        _take(link.norm, keep, "weight", "bias", "running_mean", "running_var")
    for module in (link.producer, link.norm, link.consumer):
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
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.num_features = len(module.weight)
