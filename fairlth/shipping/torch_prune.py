"""To and from `torch.nn.utils.prune`, which keeps masks in a network itself.

There a pruned layer has `weight_orig`, `weight_mask`, and a hook that multiplies both before each
call. Here a network is plain, its pruned weights are 0, and a `MaskSet` beside it says which.

>>> import torch
>>> from torch.nn.utils import prune
>>> generator = torch.Generator().manual_seed(0)
>>> hooked = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
>>> weight = torch.randn(10, 64, generator=generator)
>>> hooked[1].load_state_dict({"weight": weight, "bias": torch.zeros(10)})
<All keys matched successfully>
>>> _ = prune.l1_unstructured(hooked[1], "weight", amount=0.9)

From there, with all that this package does to a plain network and a mask:

>>> model, mask = from_prune(hooked)
>>> mask.n_kept, mask.total
(64, 640)

And back, for all that torch does to masks:

>>> again = to_prune(model, mask)
>>> _ = prune.ln_structured(again[1], "weight", amount=5, n=2, dim=0)
>>> int(again[1].weight_mask.any(1).sum())
5
"""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from fairlth.masks import MaskSet, kept_whole, kernels, layer_of, prunable
from fairlth.models.checks import check_no_masks


class Plain(NamedTuple):
    """A plain network, its pruned weights exactly 0, and its mask."""

    model: nn.Module
    mask: MaskSet


def from_prune(model: nn.Module) -> Plain:
    """A network with masks of `torch.nn.utils.prune` as a plain copy and a mask.

    The network itself stays as it is. Prunable layers without a mask keep all their weights. For a
    saved state dict, call `prune.identity(layer, "weight")` on each layer that was pruned, load it,
    and come here.

    Raises:
        ValueError: the network has no masks, one of something else than a prunable weight, or one
            of other values than 0 and 1; or another weight is computed from others.
    """
    masks = _masks(model)
    if not masks:
        raise ValueError(
            f"{type(model).__name__} has no masks of torch.nn.utils.prune: come here before "
            "prune.remove, which forgets them."
        )
    _check_not_computed(model, masks)
    plain = _plain_copy(model, masks)
    weights = prunable(plain)
    _check_masks(masks, weights)
    kept = {
        name: masks[name].bool() if name in masks else torch.ones_like(weight, dtype=torch.bool)
        for name, weight in weights.items()
    }
    mask = MaskSet(kept)
    mask.apply(plain)  # 0 where the product was -0.0
    return Plain(plain, mask)


def to_prune(model: nn.Module, mask: MaskSet) -> nn.Module:
    """A copy of a plain network with its mask as `torch.nn.utils.prune` keeps it.

    `prune.remove` makes its weights plain again, and further calls such as `prune.ln_structured`
    prune what the mask keeps.

    Raises:
        ValueError: the network has masks already, or the mask is of another network.
    """
    check_no_masks(type(model).__name__, model)
    mask.check_fits(model)
    hooked = copy.deepcopy(model)
    for name, kept in mask.items():
        prune.custom_from_mask(*_place(hooked, name), kept)
    return hooked


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The layer of a parameter, and what it is called there."""
    layer = layer_of(name)
    return model.get_submodule(layer), name.removeprefix(f"{layer}.")


def _plain_copy(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """A copy without masks, which says what learns: a weight that a hook has computed under
    no_grad looks frozen.
    """
    # deepcopy refuses weights that a hook has computed, and prune.remove computes them again
    computed = [getattr(*_place(model, name)) for name in masks]
    plain = copy.deepcopy(model, {id(weight): weight.detach() for weight in computed})
    for name in masks:
        _remove(*_place(plain, name))
    return plain


def _remove(layer: nn.Module, parameter: str) -> None:
    """Makes a parameter plain; the others of the layer follow it again, as in a new layer."""
    prune.remove(layer, parameter)
    for name, value in list(layer.named_parameters(recurse=False)):
        if name != parameter:
            delattr(layer, name)
            layer.register_parameter(name, value)


def _masks(model: nn.Module) -> dict[str, Tensor]:
    """Each mask by the name of the parameter that it prunes, such as `conv.weight`."""
    originals = {name for name, _ in model.named_parameters() if name.endswith("_orig")}
    found = {}
    for name, mask in model.named_buffers():
        pruned = name.removesuffix("_mask")
        if f"{pruned}_orig" in originals and name != pruned:
            found[pruned] = mask
    return found


def _check_not_computed(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    left_out = {*masks, *kept_whole(model)}
    for name, weight in kernels(model).items():
        layer = model.get_submodule(layer_of(name))
        learns = any(value.requires_grad for value in layer.parameters())
        if learns and name not in left_out and not isinstance(weight, nn.Parameter):
            raise ValueError(f"{name} is computed from others: give the layer a plain weight.")


def _check_masks(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name, mask in masks.items():
        if name not in weights:
            layer = layer_of(name)
            parameter = name.removeprefix(f"{layer}.")
            raise ValueError(
                f"the mask of {name} is refused: only what masks.prunable names is pruned here, "
                f"call prune.remove on {layer or 'the network'} for {parameter!r}."
            )
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(
                f"the mask of {name} has values other than 0 and 1: threshold it first."
            )
