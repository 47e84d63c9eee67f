"""Whether a network can be trained and pruned: what it is made of, and how it answers to images."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from fairlth.images import lay_like_images
from fairlth.masks import kernels, output_layer, prunable
from fairlth.models.probe import Call, innermost, memory, run, unsteady
from fairlth.models.registry import seeded

N_IMAGES = 2  # of a probe
TAKEN = "class_shift"  # the buffer that `bias_shift` may give a network
REPEATS = 3  # of a probe, to find random numbers that are not drawn every time
SCALES = (1.0, 3.0, 30.0)  # of images, to tell small logits from probabilities
ENLARGED = 1e4  # weights of the last layer, to tell small logits of one sign from probabilities


def check_layers(name: str, model: nn.Module) -> None:
    """Raises ValueError unless all parts of a network are such that it can be trained and pruned.

    It has weights that learn, to prune; every parameter is float32, has a size and a place in
    memory of its own; weights are parameters; batch norm keeps running statistics.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} is a {type(model).__name__}: expected an nn.Module.")
    if isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod"):
        raise ValueError(
            f"model {name!r} is compiled: give the nn.Module that it was made from, and set "
            "compile=true in the preset's schedule."
        )
    check_no_masks(name, model)
    _check_parameters(name, model)
    check_untied(name, model)
    _check_weights(name, model)
    for layer, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"model {name!r}: {_called(layer, module)} keeps no running statistics, so outputs "
                "for an image depend on the rest of its batch: set track_running_stats=True."
            )


def check_fits(
    name: str, model: nn.Module, in_shape: tuple[int, ...], n_classes: int, dataset: str = ""
) -> None:
    """Raises ValueError unless a network gives logits (n, n_classes) that follow from its weights.

    In training and in evaluation mode it gives the same outputs for the same images and the same
    state of torch's global generator, draws from no other one, remembers no calls (see
    `probe.memory`) and changes none of its weights. In evaluation mode it draws nothing, the
    outputs for an image do not depend on the others in its batch, and no buffer changes. Every
    weight has a part in the outputs, and they are not probabilities. The network itself stays as it
    is.

    Args:
        name: of the model.
        model: as `registry.build` gives it.
        in_shape: (channels, side, side) of one image.
        n_classes: that are expected.
        dataset: whose images these are, "" where `models.add` tries the network.
    """
    probed = _copy(name, model)
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(N_IMAGES, *in_shape, generator=generator) - 1
    x = x.contiguous(memory_format=torch.channels_last)
    with seeded(0):
        for training in (False, True):
            probed.train(training)
            before = _buffers(probed)
            calls = _run(name, probed, x)
            _check_outputs(name, calls[-1].output, n_classes, dataset)
            _check_draws(name, probed, calls)
            _check_weights_stay(name, probed, x)
            _check_steady(name, probed, x, calls, before)
            _check_remembers_nothing(name, probed, x)
            _check_logits(name, probed, x, calls)
        _check_every_image_alone(name, probed.eval(), x)
        for training in (False, True):
            _check_gradients(name, probed.train(training), x)


def first_line(error: Exception) -> str:
    """What an error says, without its full stop; its type where it says nothing.

    The second line belongs to a first one that ends in a colon, as where a state dict does not
    fit.
    """
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    told = lines[:2] if lines[0].endswith(":") else lines[:1]
    return " ".join(told).rstrip(".")


def check_names(name: str, model: nn.Module) -> None:
    """Raises ValueError for a name that means something else in a ticket's file."""
    if hasattr(model, TAKEN):
        raise ValueError(
            f"model {name!r} has {TAKEN}, the name of the constants that a shift adds to its "
            "outputs: call yours otherwise."
        )
    for layer, _ in model.named_modules():
        if "/" in layer:
            raise ValueError(
                f"model {name!r}: {layer} has a slash, by which a ticket's file tells its masks "
                "apart: name the layer without it."
            )


def _check_parameters(name: str, model: nn.Module) -> None:
    for layer, value in model.named_buffers():
        if value.is_meta:
            raise ValueError(
                f"model {name!r}: {layer} is on the device meta, without values: build it on cpu."
            )
    for layer, value in model.named_parameters():
        if nn.parameter.is_lazy(value):
            raise ValueError(
                f"model {name!r}: {layer} is lazy, of no size yet: give every layer its sizes."
            )
        if value.is_meta:
            raise ValueError(
                f"model {name!r}: {layer} is on the device meta, without values: build it on cpu."
            )
        dtype = str(value.dtype).removeprefix("torch.")
        if not value.is_floating_point():
            raise ValueError(
                f"model {name!r}: {layer} is a parameter of {dtype}, expected float32: make it a "
                "buffer (register_buffer)."
            )
        if value.dtype != torch.float32:
            raise ValueError(
                f"model {name!r}: {layer} is {dtype}, expected float32: build it in float32, and "
                'set precision="bfloat16" in the preset for faster training.'
            )


def check_no_masks(name: str, model: nn.Module) -> None:
    """Raises ValueError where `torch.nn.utils.prune` has masks on a network: its weights are then
    computed from others.
    """
    if prune.is_pruned(model):
        raise ValueError(
            f"model {name!r} has masks of torch.nn.utils.prune: take the plain network that "
            "shipping.torch_prune.from_prune makes of it."
        )


def check_untied(name: str, model: nn.Module) -> None:
    """Raises ValueError where two names stand for one tensor: a file would lose one of them."""
    parameters = list(model.named_parameters(remove_duplicate=False))
    buffers = list(model.named_buffers(remove_duplicate=False))
    first_names: dict[int, str] = {}
    for layer, value in parameters + buffers:
        if value.numel() == 0:
            continue
        first = first_names.setdefault(value.untyped_storage().data_ptr(), layer)
        if first != layer:
            raise ValueError(
                f"model {name!r}: {layer} is shared with {first}: give each layer its own tensors."
            )


def _check_weights(name: str, model: nn.Module) -> None:
    weights = prunable(model)
    parameters = dict(model.named_parameters())
    if not kernels(model):
        raise ValueError(
            f"model {name!r} has no convolution, no linear layer and no nn.MultiheadAttention: "
            "there is nothing to prune."
        )
    if not weights:
        raise ValueError(
            f"model {name!r}: all its layers that could be pruned are frozen, and frozen weights "
            "are not pruned: let the weight of one at least be trained (requires_grad_(True))."
        )
    for layer, weight in weights.items():
        if parameters.get(layer) is not weight:
            raise ValueError(
                f"model {name!r}: {layer} is computed from others: give the layer a plain weight."
            )


def _run(name: str, model: nn.Module, x: Tensor) -> list[Call]:
    """All calls of modules, the network's own last, each time from the same random numbers.

    Raises ValueError where the network fails.
    """
    try:
        with seeded(0):
            return run(model, x)
    except Exception as error:
        raise ValueError(
            f"model {name!r} fails on a batch of {len(x)} of in_shape={tuple(x.shape[1:])}: "
            f"{first_line(error)}."
        ) from error


def _copy(name: str, model: nn.Module) -> nn.Module:
    """A copy on the CPU, its channels last in memory as in training."""
    try:
        return lay_like_images(copy.deepcopy(model).cpu())
    except Exception as error:
        raise ValueError(
            f"model {name!r} cannot be copied ({first_line(error)}): keep no computed tensors in "
            "it."
        ) from error


def _check_outputs(name: str, outputs: object, n_classes: int, dataset: str) -> None:
    expected = (N_IMAGES, n_classes)
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"model {name!r} gives {type(outputs).__name__} for {N_IMAGES} images, expected a "
            f"tensor {expected}: let it return its logits alone, or name them logits or out."
        )
    if outputs.ndim == 2 and len(outputs) == N_IMAGES and outputs.shape != expected:
        found = outputs.shape[1]
        if dataset:
            raise ValueError(
                f"model {name!r} has {found} outputs and {dataset} has {n_classes} classes: add it "
                f"again with {n_classes} outputs and n_classes={n_classes}."
            )
        cure = f"give models.add n_classes={found}, or " if found >= 2 else ""
        told = "outputs" if found >= 2 else "output"
        raise ValueError(
            f"model {name!r} has {found} {told} and n_classes={n_classes} was expected: "
            f"{cure}let the network end in {n_classes} outputs."
        )
    if outputs.shape != expected:
        raise ValueError(
            f"model {name!r} gives {tuple(outputs.shape)} for {N_IMAGES} images, expected "
            f"{expected}: let it end in one output per class."
        )
    if outputs.dtype != torch.float32:
        dtype = str(outputs.dtype).removeprefix("torch.")
        raise ValueError(
            f"model {name!r} gives {dtype} outputs, expected float32: end it in .float()."
        )
    if not outputs.isfinite().all():
        raise ValueError(
            f"model {name!r} gives outputs that are not finite for images of values in [-1, 1]: "
            "check its divisions, logarithms and powers."
        )


def _check_draws(name: str, model: nn.Module, calls: list[Call]) -> None:
    """Raises ValueError where a module draws what no seed of a run decides."""
    names = innermost(
        [call.module for call in calls if call.drew_elsewhere or (call.drew and not model.training)]
    )
    if not names:
        return
    more = f" and {len(names) - 1} more draw" if len(names) > 1 else " draws"
    cure = "draw from torch's global generator alone" if model.training else "let it draw none"
    raise ValueError(
        f"model {name!r}: {_named(model, names[0])}{more} random numbers while it {_mode(model)}, "
        f"from no seed of the run: {cure}."
    )


def _check_weights_stay(name: str, model: nn.Module, x: Tensor) -> None:
    """Raises ValueError where a call changes a parameter or, in evaluation mode, a buffer."""
    fixed: dict[str, Tensor] = dict(model.named_parameters())
    if not model.training:
        fixed |= dict(model.named_buffers())
    before = {layer: value.detach().clone() for layer, value in fixed.items()}
    _run(name, model, x)
    after: dict[str, Tensor] = dict(model.named_parameters())
    after |= dict(model.named_buffers())
    for layer, value in fixed.items():
        if after.get(layer) is not value or not torch.equal(value, before[layer]):
            kept = "weights" if isinstance(value, nn.Parameter) else "buffers in evaluation mode"
            raise ValueError(
                f"model {name!r} changes {layer} while it {_mode(model)}: let its forward leave "
                f"{kept} as they are."
            )


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's buffers."""
    return {layer: value.detach().clone() for layer, value in model.named_buffers()}


def _check_steady(
    name: str, model: nn.Module, x: Tensor, first: list[Call], before: dict[str, Tensor]
) -> None:
    """Raises ValueError where a module gives other outputs when all is as before.

    `before` are the buffers that the first calls began with.
    """
    for _ in range(REPEATS):
        for layer, value in model.named_buffers():
            value.detach().copy_(before[layer])
        found = unsteady(first, _run(name, model, x))
        if found is not None:
            raise ValueError(
                f"model {name!r}: {_named(model, found)} gives other outputs for the same images "
                f"each time while it {_mode(model)}: let it draw from torch's global generator "
                "alone and remember no calls."
            )


def _check_remembers_nothing(name: str, model: nn.Module, x: Tensor) -> None:
    """Raises ValueError where a call leaves traces outside parameters and buffers.

    Outputs that differ with every seventh call are steady in fewer.
    """
    before = memory(model)
    _run(name, model, x)
    after = memory(model)
    changed = [place for place in before | after if before.get(place) != after.get(place)]
    if changed:
        raise ValueError(
            f"model {name!r} remembers calls while it {_mode(model)}, in {changed[0]} or what that "
            "refers to: let its forward change nothing but its buffers."
        )


def _check_every_image_alone(name: str, model: nn.Module, x: Tensor) -> None:
    """Raises ValueError where the outputs for an image depend on the others of its batch."""
    together = _run(name, model, x)[-1].output[:1]
    alone = _run(name, model, x[:1])[-1].output
    tolerance = 1e-3 * float(together.abs().max())
    if not torch.allclose(together, alone, rtol=1e-3, atol=tolerance):
        raise ValueError(
            f"model {name!r} gives an image other outputs alone than among others while it "
            "predicts: let nothing in it compute over the batch."
        )


def _check_logits(name: str, model: nn.Module, x: Tensor, calls: list[Call]) -> None:
    """Raises ValueError where outputs are probabilities; logarithms of them are logits."""
    outputs = calls[-1].output
    if not ((outputs > 0) & (outputs < 1)).any():
        return
    for scale in SCALES:
        outputs = _run(name, model, scale * x)[-1].output
        if outputs.min() < 0 or outputs.max() > 1:
            return
    if _grow_with_last_layer(name, model, x):
        return
    sums_to_1 = torch.allclose(outputs.sum(1), torch.ones(len(outputs)), atol=1e-3)
    function = "softmax" if sums_to_1 else "sigmoid"
    last = next(call.module for call in calls if call.gave == calls[-1].gave)
    raise ValueError(
        f"model {name!r} gives probabilities, expected logits: leave out the {function} at its "
        f"end, in {_named(model, last)}."
    )


def _grow_with_last_layer(name: str, model: nn.Module, x: Tensor) -> bool:
    """Whether outputs leave [0, 1] when the last layer's weights are enlarged, as logits do."""
    last = model.get_parameter(output_layer(model, x))
    before = last.detach().clone()
    with torch.no_grad():
        last.mul_(ENLARGED)
        outputs = _run(name, model, x)[-1].output
        last.copy_(before)
    return bool(outputs.min() < 0 or outputs.max() > 1)


def _check_gradients(name: str, model: nn.Module, x: Tensor) -> None:
    """Raises ValueError where a weight has no part in the outputs.

    While a network trains, a weight may be left out by chance, as in layer drop.
    """
    weights = prunable(model)
    before = torch.get_rng_state()
    outputs = model(x)
    by_chance = not torch.equal(torch.get_rng_state(), before)
    if not outputs.requires_grad:
        raise ValueError(
            f"model {name!r} gives outputs without gradients: let its forward detach nothing."
        )
    try:
        found = torch.autograd.grad(outputs.sum(), list(weights.values()), allow_unused=True)
    except Exception as error:
        raise ValueError(
            f"model {name!r} cannot be trained, its gradients fail: {first_line(error)}."
        ) from error
    for layer, gradient in zip(weights, found, strict=True):
        if gradient is None and not by_chance:
            raise ValueError(
                f"model {name!r}: {layer} has no part in the output while it {_mode(model)}: leave "
                "the layer out."
            )


def _named(model: nn.Module, layer: str) -> str:
    return _called(layer, model.get_submodule(layer))


def _mode(model: nn.Module) -> str:
    return "trains" if model.training else "predicts"


def _called(layer: str, module: nn.Module) -> str:
    kind = type(module).__name__
    return f"{layer} ({kind})" if layer else f"the forward of {kind}"
