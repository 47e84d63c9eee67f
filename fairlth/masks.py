"""A mask: which weights of a network are kept, in exact counts."""

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from fairlth import config

KEEP = "keep_whole"  # attribute of a network: patterns of the names of layers that stay whole
LAYERS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)  # whose `weight` can be pruned
NAN = "a score is nan: the network that it was read from has diverged, lower its learning rate."
PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")  # of attention


class MaskSet(Mapping[str, Tensor]):
    """Parameter name -> bool tensor of the parameter's shape, True where the weight is kept.

    Count masks, not non-zero weights: a trained weight may be exactly 0. `apply` sets the others to
    exactly 0.

    Args:
        kept: the masks.
        rescued: layer -> weights that were kept only so that no layer and no class loses its last,
            see `selection.select`.

    Raises:
        TypeError: a tensor is not bool.
    """

    def __init__(
        self, kept: Mapping[str, Tensor], rescued: Mapping[str, int] | None = None
    ) -> None:
        for name, mask in kept.items():
            if mask.dtype != torch.bool:
                raise TypeError(
                    f"the mask of {name} is {mask.dtype}, expected torch.bool: compare or "
                    "threshold it first."
                )
        self._kept = {name: mask.detach() for name, mask in kept.items()}
        self._pruned = {name: ~mask for name, mask in self._kept.items()}
        self.rescued = dict(rescued or {})

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    @classmethod
    def full(cls, weights: Mapping[str, Tensor]) -> "MaskSet":
        """Keeps every weight."""
        return cls(
            {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
        )

    @classmethod
    def from_scores(cls, scores: Mapping[str, Tensor], n_keep: int) -> "MaskSet":
        """Keeps exactly the `n_keep` highest scores of all tensors; of equals, the earlier.

        Args:
            scores: one score per weight, any real tensors; earlier means earlier in the mapping,
                then in the tensor.
            n_keep: 1 ... the number of scores.

        Raises:
            ValueError: a score is not a number, or `n_keep` is out of range.
        """
        flat = torch.cat([score.detach().reshape(-1) for score in scores.values()])
        if not 0 < n_keep <= flat.numel():
            raise ValueError(
                f"n_keep={n_keep} is out of range: expected 1 to {flat.numel()}, "
                "change the density."
            )
        threshold = _nth_largest(flat, n_keep)
        del flat  # as large as the scores
        kept = {name: score.detach() > threshold for name, score in scores.items()}
        _add_ties(kept, scores, threshold, n_keep)
        return cls(kept)

    @property
    def total(self) -> int:
        """Weights that could have been pruned."""
        return sum(mask.numel() for mask in self.values())

    @property
    def n_kept(self) -> int:
        """Weights that are kept."""
        return sum(int(mask.count_nonzero()) for mask in self.values())

    @property
    def density(self) -> float:
        """Kept over total, in [0, 1]."""
        return self.n_kept / self.total

    def layers(self) -> list[dict[str, str | int | float]]:
        """One row per tensor: name, kept, total, density, and `dead_units`, units without weights.

        They are rows of the tensor: outputs, of a transposed convolution inputs.
        """
        return [
            {
                "layer": name,
                "kept": int(mask.count_nonzero()),
                "total": mask.numel(),
                "density": float(mask.float().mean()),
                "dead_units": int((~mask.flatten(1).any(1)).sum()),
            }
            for name, mask in self.items()
        ]

    def apply(self, model: nn.Module) -> None:
        """Sets the pruned weights of `model` to exactly 0, in place, after each optimiser step."""
        with torch.no_grad():
            for name, pruned in self._pruned.items():
                model.get_parameter(name).masked_fill_(pruned, 0.0)

    def check_fits(self, model: nn.Module) -> None:
        """Raises ValueError where a mask has no parameter of its name and shape in `model`."""
        shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
        for name, mask in self.items():
            if shapes.get(name) != tuple(mask.shape):
                raise ValueError(
                    f"the mask of {name} has shape {tuple(mask.shape)} and the model's is "
                    f"{shapes.get(name, 'missing')}: build the model that the ticket was made with."
                )


def kernels(model: nn.Module) -> dict[str, Tensor]:
    """Every weight of a kind that can be pruned, by name, in the order of the network's modules.

    These are the weights of convolutions and transposed convolutions of one to three dimensions and
    of linear layers, and the projections of `nn.MultiheadAttention`: `in_proj_weight`, or
    `q_proj_weight`, `k_proj_weight` and `v_proj_weight` where it has them, then `out_proj.weight`.
    """
    found: dict[str, Tensor] = {}
    for layer, module in model.named_modules():
        for name in _kernel_names(module):
            weight = getattr(module, name)
            if weight is not None:
                found[f"{layer}.{name}" if layer else name] = weight
    return found


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """The weights that pruning may remove, by name: its `kernels` without those that stay whole.

    First and last layer are included. Biases, norms, embeddings, class tokens and positions always
    stay, as biases and norms do in the reference code of lottery tickets
    (facebookresearch/open_lth). Frozen kernels stay, too: what does not learn cannot make up for
    what is pruned. A network may carry KEEP, patterns of layers that stay whole; see `kept_whole`.
    """
    whole = kept_whole(model)
    return {
        name: weight
        for name, weight in kernels(model).items()
        if weight.requires_grad and name not in whole
    }


def kept_whole(model: nn.Module) -> list[str]:
    """The `kernels` that stay whole because a pattern in `model.keep_whole` names their layer.

    The patterns are those of a shell (`fnmatch`), such as "head" or "stem.*", where `*` also stands
    for dots. A layer's name is that of its module; it is compared in upper and lower case.
    """
    patterns = getattr(model, KEEP, ())
    if not patterns:
        return []
    return [
        name
        for name in kernels(model)
        if any(fnmatchcase(layer_of(name), pattern) for pattern in patterns)
    ]


def layer_of(weight: str) -> str:
    """The name of the module that has a weight of that name: `stem.0` of `stem.0.weight`."""
    return weight.rpartition(".")[0]


def _kernel_names(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, LAYERS):
        return ("weight",)
    if isinstance(module, nn.MultiheadAttention):
        return PROJECTIONS
    return ()


def count_frozen(model: nn.Module) -> int:
    """How many weights of kernels are frozen, and so are never pruned."""
    return sum(w.numel() for w in kernels(model).values() if not w.requires_grad)


def output_layer(model: nn.Module, images: Tensor) -> str:
    """The weight that gives the network's outputs, by name; it is one of its `kernels`.

    It is that of the last layer called whose values are the outputs; where there is none, as in a
    network that ends in a function of them, of the last layer called. A network that calls none as
    a module gets its last.

    Args:
        model: gives (n, classes).
        images: a few, as floats.
    """
    names: dict[nn.Module, str] = {}
    for name in kernels(model):
        layer = model.get_submodule(layer_of(name))
        if isinstance(layer, nn.MultiheadAttention):  # it calls its out_proj by function
            name = f"{layer_of(name)}.out_proj.weight"
        names[layer] = name
    called: list[tuple[str, Tensor]] = []

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...], given: Any) -> None:
        values = given[0] if isinstance(given, tuple) else given
        called.append((names[layer], values.flatten()))

    training = model.training
    model.eval()
    hooks = [layer.register_forward_hook(remember) for layer in names]
    try:
        with torch.no_grad():
            outputs = model(images).flatten()
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    gives = [name for name, given in called if given.equal(outputs)]
    return (gives or [name for name, _ in called] or [*kernels(model)])[-1]


def count_kept(density: float, weights: Mapping[str, Tensor]) -> int:
    """floor(density * prunable weights), exact (`config.share_of`); ValueError if it is 0."""
    total = sum(weight.numel() for weight in weights.values())
    if total == 0:
        raise ValueError("there are no weights to choose from: expected one at least.")
    n_keep = config.share_of(density, total)
    if n_keep < 1:
        scale = 10 ** (len(str(total)) + 1)
        least = math.ceil(scale / total) / scale  # two or three digits, rounded up
        raise ValueError(
            f"density={density} keeps none of {total} weights: choose at least {least:g}."
        )
    return n_keep


def _nth_largest(flat: Tensor, n: int) -> Tensor:
    """The n-th largest value; a partition in place on CPU, where `topk` would take four times the
    memory. Reorders `flat`.

    Raises ValueError where a value is nan: both count it as larger than any number, so it stands
    among the n largest.
    """
    if flat.device.type != "cpu":
        largest = flat.topk(n, sorted=False).values
    else:
        # numpy knows no bfloat16
        values = (flat.float() if flat.dtype == torch.bfloat16 else flat).numpy()
        values.partition(len(values) - n)
        largest = torch.from_numpy(values[len(values) - n :])
    if largest.isnan().any():
        raise ValueError(NAN)
    return largest.min()


def _add_ties(
    kept: dict[str, Tensor], scores: Mapping[str, Tensor], threshold: Tensor, n_keep: int
) -> None:
    """Keeps as many scores equal to the threshold as are missing, the earlier ones."""
    missing = n_keep - sum(int(mask.count_nonzero()) for mask in kept.values())
    for name, score in scores.items():
        if missing == 0:
            break
        ties = (score == threshold).reshape(-1).nonzero()[:missing, 0]
        kept[name][torch.unravel_index(ties, score.shape)] = True
        missing -= len(ties)
