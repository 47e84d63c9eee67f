"""The class bias shift: a constant per class for the outputs, chosen on validation data."""

import torch
from torch import Tensor, nn

from fairlth import metrics
from fairlth.images import Split
from fairlth.training import count

STEPS = 200
SHARES = 16  # tried of the way to the fairest shift
PROBED = 4  # images that the layer that gives the outputs is found with
ROOM = "class_shift"  # the buffer of networks whose last layer has no biases to shift
RATE = 1.0  # logits per unit of accuracy a step moves, cooled linearly to 0


def affordable_shift(outputs: Tensor, split: Split, floor: float) -> Tensor:
    """(classes,) constants: the step towards `fair_shift` of lowest CWV that `floor` allows.

    Tried in SHARES equal parts; zeros where no part is both fairer and accurate enough. Ideally the
    whole of `fair_shift`.

    Args:
        outputs: (n, classes) on validation images.
        split: their classes and groups.
        floor: accuracy, a fraction.
    """
    whole, affordable = fair_shift(outputs, split), []
    for part in range(SHARES + 1):
        counts = count(outputs + part / SHARES * whole, split)
        if part == 0 or metrics.accuracy(*counts) >= floor:
            affordable.append((metrics.cwv(*counts.by_group()), part))
    return min(affordable)[1] / SHARES * whole


def add_to_outputs(model: nn.Module, shift: Tensor, images: Tensor | None = None) -> None:
    """Adds constants (classes,) to the outputs of a network, in place.

    They go into the biases of the layer that gives the outputs where it is a linear layer with
    biases that are not frozen, else into a buffer `class_shift` of the network; see `make_room`.

    Args:
        model: gives (n, classes).
        shift: one constant per class.
        images: a few, as floats, to find that layer with; None: the buffer is taken.
    """
    place: Tensor
    head = None if images is None else find_head(model, images)
    if head is not None:
        place = head.bias
    else:
        make_room(model, len(shift))
        place = model.get_buffer(ROOM)
    with torch.no_grad():
        place.add_(shift.to(place))


def make_room(model: nn.Module, n_classes: int) -> None:
    """Gives a network the buffer `class_shift` (classes,), zeros, which is added to its outputs.

    It is part of the state dict. A network that has one from here stays as it is; ValueError where
    it has something else of that name.
    """
    if _add_room in model._forward_hooks.values():
        return
    if hasattr(model, ROOM):
        raise ValueError(
            f"the {type(model).__name__} has {ROOM} of its own, where a shift of its outputs would "
            "be: call it otherwise."
        )
    device = next(model.parameters()).device
    model.register_buffer(ROOM, torch.zeros(n_classes, device=device))
    model.register_forward_hook(_add_room)


def _add_room(model: nn.Module, images: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
    return outputs + model.get_buffer(ROOM)


def find_head(model: nn.Module, images: Tensor) -> nn.Linear | None:
    """The linear layer whose outputs are the network's, if it has biases and these are not frozen.

    Its outputs on a few images are compared with the network's, and so is what a change of its
    biases does to them.
    """
    training = model.training
    model.eval()
    with torch.no_grad():
        called, outputs = _linear_outputs(model, images)
        same = [layer for layer, given in called if given.equal(outputs)]
        heads = [layer for layer in same if _shifts(layer, model, images, outputs)]
    model.train(training)
    return heads[0] if heads else None


def _linear_outputs(
    model: nn.Module, images: Tensor
) -> tuple[list[tuple[nn.Linear, Tensor]], Tensor]:
    """Every linear layer with biases that learn and what it gives for images, in the order of their
    calls, and what the network gives; both of one call, since torch's transformer looks for hooks
    and may then take another way, which rounds otherwise.
    """
    found: list[tuple[nn.Linear, Tensor]] = []

    def remember(layer: nn.Linear, inputs: tuple[Tensor, ...], given: Tensor) -> None:
        found.append((layer, given))

    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    layers = [one for one in linear if one.bias is not None and one.bias.requires_grad]
    hooks = [layer.register_forward_hook(remember) for layer in layers]
    try:
        outputs = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found, outputs


def _shifts(layer: nn.Linear, model: nn.Module, images: Tensor, outputs: Tensor) -> bool:
    """Whether constants added to a layer's biases reach the outputs as they are, large or small."""
    before = layer.bias.detach().clone()
    size = 10 * (1 + float(outputs.abs().max()))
    change = size * torch.linspace(-1, 1, len(before)).to(before)
    agree = []
    for sign in (1, -1):
        layer.bias.copy_(before + sign * change)
        agree.append(torch.allclose(model(images), outputs + sign * change, atol=1e-4 * size))
    layer.bias.copy_(before)
    return all(agree)


def fair_shift(outputs: Tensor, split: Split) -> Tensor:
    """(classes,) constants that lower the CWV when added to outputs (n, classes); mean 0.

    Feedback: each step raises the constant of a class in proportion to how far the groups of its
    images lag behind, averaged over its images; the shift with the lowest CWV on the way is
    returned. Where the groups are the classes this is b_c <- b_c + rate (mean a - a_c).
    """
    cells = torch.bincount(split.cells, minlength=split.n_cells)
    share = cells.reshape(split.n_classes, split.n_groups).float()
    share = share / share.sum(1, keepdim=True).clamp(min=1)
    shift = best = torch.zeros(split.n_classes, device=outputs.device)
    lowest = float("inf")
    for step in range(STEPS):
        counts = count(outputs + shift, split).by_group()
        if (cwv := metrics.cwv(*counts)) < lowest:
            lowest, best = cwv, shift
        rates = torch.from_numpy(metrics.group_accuracy(*counts)).to(share)
        lag = (rates.nanmean() - rates).nan_to_num(0.0)
        shift = shift + RATE * (1 - step / STEPS) * (share @ lag)
    return best - best.mean()
