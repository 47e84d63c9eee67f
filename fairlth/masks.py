"""A mask: which weights of a network are kept, in exact counts."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fairlth import config


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
        """Keeps exactly the `n_keep` highest scores over all tensors together, ties to the earlier
        weight.

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
        """One row per tensor: name, kept, total, density, and units without incoming weights."""
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
        """Raises ValueError in one sentence where a mask has no parameter of its name and shape in
        `model`.
        """
        shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
        for name, mask in self.items():
            if shapes.get(name) != tuple(mask.shape):
                raise ValueError(
                    f"the mask of {name} has shape {tuple(mask.shape)} and the model's is "
                    f"{shapes.get(name, 'missing')}: build the model that the ticket was made with."
                )


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """The weights that pruning may remove, by name: kernels of convolutions and linear layers.

    First and last layer are included. Biases and batch norm always stay, as in the reference code
    of lottery tickets (facebookresearch/open_lth). Frozen kernels stay, too: what does not learn
    cannot make up for what is pruned.
    """
    return {name: weight for name, weight in kernels(model).items() if weight.requires_grad}


def kernels(model: nn.Module) -> dict[str, Tensor]:
    """The kernels of all convolutions and linear layers by name, frozen or not."""
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def count_frozen(model: nn.Module) -> int:
    """How many weights of kernels are frozen, and so are never pruned."""
    return sum(w.numel() for w in kernels(model).values() if not w.requires_grad)


def output_layer(model: nn.Module, images: Tensor) -> str:
    """The prunable weight that gives the network's outputs, by name.

    It is that of the last layer called whose values are the outputs; where there is none, as in a
    network that ends in a function of them, of the last layer called.

    Args:
        model: gives (n, classes).
        images: a few, as floats.
    """
    names = {model.get_submodule(name.rpartition(".")[0]): name for name in prunable(model)}
    called: list[tuple[str, Tensor]] = []

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...], given: Tensor) -> None:
        called.append((names[layer], given.flatten()))

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
    return (gives or [name for name, _ in called])[-1]


def count_kept(density: float, weights: Mapping[str, Tensor]) -> int:
    """floor(density * prunable weights), exact (`config.share_of`); ValueError where that keeps
    none.
    """
    total = sum(weight.numel() for weight in weights.values())
    n_keep = config.share_of(density, total)
    if n_keep < 1:
        raise ValueError(
            f"density={density} keeps none of {total} weights: choose at least {1 / total:.2g}."
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
        values = (
            flat.float() if flat.dtype == torch.bfloat16 else flat
        ).numpy()  # numpy knows no bfloat16
        values.partition(len(values) - n)
        largest = torch.from_numpy(values[len(values) - n :])
    if largest.isnan().any():
        raise ValueError(
            "a score is nan: the network that it was read from has diverged, lower its learning "
            "rate."
        )
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
        flat = kept[name].reshape(-1)
        flat[ties] = True
        kept[name], missing = _like(flat, score), missing - len(ties)


def _like(part: Tensor, score: Tensor) -> Tensor:
    """A flat mask in the shape and memory format of its scores."""
    return torch.empty_like(score, dtype=torch.bool).copy_(part.reshape(score.shape))
