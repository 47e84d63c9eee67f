"""Where channels can be taken out of a network: two layers of which the second alone reads the
first.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fairlth.masks import kernels
from fairlth.models.checks import first_line

Step = Callable[[Tensor], Tensor]  # from each channel's constant value (channels,) to its next one

ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Identity,
    nn.Dropout,  # in evaluation mode nothing
    nn.Dropout2d,
)
FUNCTIONS = {
    torch.relu,
    torch.tanh,
    torch.sigmoid,
    F.relu,
    F.relu6,
    F.leaky_relu,
    F.elu,
    F.gelu,
    F.silu,
    F.hardswish,
}
METHODS = {"relu", "relu_", "tanh", "sigmoid"}
POOLS = (nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # a constant stays as it is
POOL_FUNCTIONS = {F.max_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d}


class Link(NamedTuple):
    """A layer, the batch norm after it (or None), and the only layer that reads it.

    `steps` are what happens to a channel's value between the two, the norm among them.
    """

    producer: Any  # Conv2d or Linear, as is the consumer
    norm: Any  # BatchNorm1d, BatchNorm2d or None
    consumer: Any
    steps: tuple[Any, ...]


def links(model: nn.Module) -> list[Link]:
    """The places of a network where channels can be removed, from its input on.

    The second layer reads all that the first gives, nothing else does, and between them are a batch
    norm, functions of single values such as ReLU, pools and a flattening at most.

    Args:
        model: in evaluation mode.

    Raises:
        ValueError: its forward cannot be traced, or it has no such place.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__}: its forward cannot be traced ({first_line(error)}), so no "
            "channels are taken out: export this network as it is."
        ) from error
    calls = _Calls(model, graph)
    found = [link for node in graph.nodes for link in _of_node(calls, node)]
    if not found and len(kernels(model)) > 1:
        raise ValueError(
            f"{type(model).__name__}: no convolution or linear layer is read by one other alone "
            "through batch norm, ReLU or the like and pools, so no channels are taken out: export "
            "this network as it is."
        )
    return found


class _Calls:
    """Which modules a graph calls once, with weights that nothing else reads."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model = model
        called = [node.target for node in graph.nodes if node.op == "call_module"]
        read = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
        self.once = {
            name
            for name in called
            if called.count(name) == 1 and not any(other.startswith(f"{name}.") for other in read)
        }

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        return self.model.get_submodule(str(node.target)) if node.op == "call_module" else None

    def layer(self, node: fx.Node) -> Any:
        """The layer that a node alone calls, None where channels of it cannot be removed."""
        module = self.module(node)
        if not isinstance(module, nn.Conv2d | nn.Linear) or node.target not in self.once:
            return None
        is_grouped = isinstance(module, nn.Conv2d) and module.groups > 1
        return None if is_grouped else module


def _of_node(calls: _Calls, node: fx.Node) -> Iterator[Link]:
    """The link that begins with a node, or those inside of torch's transformer."""
    producer = calls.layer(node)
    if producer is not None:
        link = _follow(calls, node, producer)
        if link is not None:
            yield link
    module = calls.module(node)
    is_transformer = isinstance(module, nn.TransformerEncoder | nn.TransformerEncoderLayer)
    if module is not None and is_transformer and node.target in calls.once:
        yield from _in_transformer(module)


def _in_transformer(module: nn.Module) -> Iterator[Link]:
    """The two linear layers of each encoder layer; all else is added to what went in."""
    for layer in module.modules():
        if type(layer) is nn.TransformerEncoderLayer:
            activation: Any = layer.activation
            if activation in FUNCTIONS or isinstance(activation, ELEMENTWISE):
                yield Link(layer.linear1, None, layer.linear2, (activation,))


def _follow(calls: _Calls, node: fx.Node, producer: Any) -> Link | None:
    """The link from a producer to its only reader, None where something else is between them."""
    is_convolution = isinstance(producer, nn.Conv2d)
    norm = None
    flat = False
    steps: list[Any] = []
    while len(node.users) == 1:
        before = node
        node = next(iter(node.users))
        if node.all_input_nodes != [before]:
            return None
        module = calls.module(node)
        if calls.layer(node) is not None:
            consumer = calls.layer(node)
            fits = _fits(producer, consumer, flat)
            return Link(producer, norm, consumer, tuple(steps)) if fits else None
        if norm is None and not flat and _is_norm(calls, node, producer):
            norm = module
            steps.append(norm)
        elif (step := _elementwise(node, module)) is not None:
            steps.append(step)
        elif is_convolution and not flat and _flattens(node, module):
            flat = True
        elif not is_convolution or flat or not _pools(node, module):
            return None
    return None


def _fits(producer: Any, consumer: Any, flat: bool) -> bool:
    """Whether the reader reads channels, each in one place or, once flattened, in several."""
    n_channels = len(producer.weight)
    n_read = consumer.weight.shape[1]
    if isinstance(producer, nn.Conv2d) and isinstance(consumer, nn.Linear):
        return flat and n_read % n_channels == 0
    return type(producer) is type(consumer) and not flat and n_read == n_channels


def _is_norm(calls: _Calls, node: fx.Node, producer: Any) -> bool:
    """Whether a node normalises each channel of a producer by its running statistics."""
    norm: Any = calls.module(node)
    if isinstance(producer, nn.Conv2d):
        of_channels = isinstance(norm, nn.BatchNorm2d)
    else:
        of_channels = isinstance(norm, nn.BatchNorm1d) and _is_flat(calls, node)
    if not of_channels or node.target not in calls.once:
        return False
    if norm.weight is None or norm.running_mean is None:
        return False
    return len(norm.weight) == len(producer.weight)


def _is_flat(calls: _Calls, node: fx.Node) -> bool:
    """Whether values are (images, features) for sure: flattened, and then layers that keep that."""
    while len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
        module = calls.module(node)
        if _flattens(node, module):
            return True
        is_layer = isinstance(module, nn.Linear | nn.BatchNorm1d)
        if not is_layer and _elementwise(node, module) is None:
            return False
    return False


def _elementwise(node: fx.Node, module: nn.Module | None) -> Step | None:
    """What a node does to each value alone, None where it does something else."""
    if isinstance(module, ELEMENTWISE):
        return module
    if node.op == "call_function" and node.target in FUNCTIONS:
        return partial(_apply, node.target, node)
    if node.op == "call_method" and node.target in METHODS:
        return partial(_apply, getattr(Tensor, str(node.target)), node)
    is_dropout = node.op == "call_function" and node.target in (F.dropout, F.dropout2d)
    if is_dropout and node.kwargs.get("training") is False:
        return nn.Identity()
    return None


def _apply(function: Any, node: fx.Node, value: Tensor) -> Tensor:
    """A node's function with the node's other arguments."""
    kwargs = {name: given for name, given in node.kwargs.items() if name != "input"}
    return function(value, *node.args[1:], **kwargs)


def _flattens(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node makes one row of features per image, or the mean over all places."""
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    if node.target in (torch.flatten, "flatten"):
        return [*node.args[1:], *node.kwargs.values()] == [1]
    if node.target in (torch.mean, "mean"):
        places = node.args[1] if len(node.args) == 2 else node.kwargs.get("dim")
        is_over_places = isinstance(places, tuple | list) and sorted(places) in ([2, 3], [-2, -1])
        return is_over_places and not node.kwargs.get("keepdim", False)
    return False


def _pools(node: fx.Node, module: Any) -> bool:
    """Whether a node pools over places such that a constant stays as it is."""
    if isinstance(module, nn.AvgPool2d):
        return module.padding in (0, (0, 0)) and module.divisor_override is None
    return isinstance(module, POOLS) or (
        node.op == "call_function" and node.target in POOL_FUNCTIONS
    )
