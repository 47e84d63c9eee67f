"""What a training step should take on a card that is not here: its time and its memory.

Nothing runs: tensors have shapes and no values, on torch's device `meta` or as its fake tensors.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fairlth.models import build
from fairlth.training import PREDICT_ON_GPU
from fairlth.workflow.cost import Step


@dataclass(frozen=True)
class Card:
    """A device by its data sheet: dense operations a second, by precision, and bytes a second."""

    name: str
    rates: dict[str, float] = field(hash=False)
    memory: float


H100 = Card("H100 SXM", {"bfloat16": 989e12, "float32": 67e12}, 3.35e12)
PRODUCTS = 0.5  # of the card's rate, that convolutions and products reach
MEMORY = 0.7  # of its memory's rate, that other operations reach
LAUNCH = 8e-6  # seconds that any operation takes at least, unless a graph launches all together
UPDATE = 7  # times that a step of SGD with momentum reads or writes each weight, its mask with it
BYTES = {"bfloat16": 2, "float32": 4}  # of an activation
ASSUMED = (
    f"Assumed: convolutions and matrix products reach {PRODUCTS:.0%} of the card's rate, other "
    f"operations {MEMORY:.0%} of its memory's, and none takes less than {LAUNCH * 1e6:.0f} "
    "microseconds. The card's rates are those of its data sheet."
)
MEASURED = (
    "Measured once, on an NVIDIA H200 with other work on it, 512 images of 32 pixels in bfloat16: "
    "resnet18 9.2 ms, vgg16 8.4 ms, mobilenet_v2 24.5 ms. That is 1.2, 1.9 and 3.2 times what is "
    "reckoned here for an H100."
)


@dataclass
class Reckoned:
    """A training step: its operations, bytes moved, kernels, and seconds on a card."""

    flops: float = 0.0
    bytes: float = 0.0
    kernels: int = 0
    seconds: float = 0.0

    def add(self, flops: float, moved: float, card: Card, precision: str) -> None:
        """One kernel: the slower of its operations and its bytes, and at least LAUNCH."""
        computing = flops / (PRODUCTS * card.rates[precision])
        moving = moved / (MEMORY * card.memory)
        self.flops += flops
        self.bytes += moved
        self.kernels += 1
        self.seconds += max(computing, moving, LAUNCH)


class _Kernels(TorchDispatchMode):
    """Adds up every operation that computes; views cost nothing."""

    def __init__(self, step: Reckoned, card: Card, precision: str) -> None:
        super().__init__()
        self.step = step
        self.card = card
        self.precision = precision

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        if not func.is_view:
            count = flop_registry.get(func.overloadpacket)
            flops = count(*args, **given, out_val=out) if count else 0
            tensors = [leaf for leaf in tree_leaves((args, given, out)) if isinstance(leaf, Tensor)]
            moved = sum(value.numel() for value in tensors) * BYTES[self.precision]
            self.step.add(flops, moved, self.card, self.precision)
        return out


@cache
def step(of: Step, card: Card = H100, n_classes: int = 10) -> Reckoned:
    """One training step of a network on a card: forward, backward, SGD and the mask.

    Args:
        of: network, pixels a side, images and precision.
        card: whose rates count.
        n_classes: of the outputs.
    """
    shape = (3, of.side, of.side)
    model = build(of.model, shape, n_classes, torch.Generator()).to("meta")
    images = torch.empty(of.batch, *shape, device="meta")
    labels = torch.empty(of.batch, dtype=torch.int64, device="meta")
    reckoned = Reckoned()
    with _Kernels(reckoned, card, of.precision):
        F.cross_entropy(model(images), labels).backward()
    for weights in model.parameters():
        reckoned.add(0, 4 * UPDATE * weights.numel(), card, of.precision)
    return reckoned


@cache
def peak_memory(of: Step, n_classes: int = 10) -> int:
    """Bytes that a training step or a prediction holds at most: weights, gradients, momentum of
    SGD, activations and images. The data set, masks, states that a method keeps and what torch
    itself takes on a card come on top.

    Args:
        of: network, pixels a side, images and precision.
        n_classes: of the outputs.
    """
    shape = (3, of.side, of.side)
    model = build(of.model, shape, n_classes, torch.Generator())
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        _make_fake(model, mode)
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
        images = torch.empty(of.batch, *shape)
        labels = torch.empty(of.batch, dtype=torch.int64)
        tracker = MemTracker()
        tracker.track_external(model, optimizer, images, labels)
        with tracker:
            for _ in range(2):  # the first one makes the momentum
                tracker.reset_mod_stats()
                _loss(model, images, labels, of.precision).backward()
                optimizer.step()
                optimizer.zero_grad()
            tracker.reset_mod_stats()
            with torch.no_grad():
                model(torch.empty(PREDICT_ON_GPU, *shape))
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    return int(peak["Total"])


def _make_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Gives a network tensors of the same shapes without values, in place."""
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            fake = nn.Parameter(mode.from_tensor(value.detach()), value.requires_grad)
            module.register_parameter(name, fake)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, mode.from_tensor(buffer))


def _loss(model: nn.Module, images: Tensor, labels: Tensor, precision: str) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        outputs = model(images)
    return F.cross_entropy(outputs.float(), labels)


def table(steps: list[Step], card: Card = H100) -> pd.DataFrame:
    """What each step rests on, a row per network and size of image.

    `GB` are moved in the step, `peak GB` held at most; `share` is its operations over what the card
    could do in that time, in percent.
    """
    rows = []
    for of in steps:
        found = step(of, card)
        share = found.flops / found.seconds / card.rates[of.precision]
        row: dict[str, Any] = of._asdict() | {"GFLOP": found.flops / 1e9, "GB": found.bytes / 1e9}
        row |= {"kernels": found.kernels, "ms": 1000 * found.seconds, "share %": 100 * share}
        row["peak GB"] = peak_memory(of) / 1e9
        rows.append(row)
    return pd.DataFrame(rows)
