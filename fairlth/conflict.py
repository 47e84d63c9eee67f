"""Conflict: where the gradients of accuracy and of fairness pull a unit apart, by over 90 degrees.

A unit is one row of a prunable weight: an output channel of a convolution or an output feature of a
linear layer, with all its incoming weights. In attention it is a feature of the queries, keys,
values or outputs. Of a transposed convolution it is an input channel with all its outgoing weights.
The definitions below are our reconstruction: of the paper (arXiv 2407.02805) only the idea was at
hand.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairlth import config
from fairlth.config import Run
from fairlth.images import Data, Split, as_float
from fairlth.masks import prunable
from fairlth.training import joined, low_precision, part

Gradients = dict[str, Tensor]

EVERY = 32  # steps between two readings at most
READINGS = 8  # of the dense training at least


def fairness_loss(losses: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """L_fair = (1/G) sum_g (L_g - mean L)^2 over the groups present, L_g the mean loss of group g.

    Args:
        losses: (n,) loss of each image.
        groups: (n,) its group, 0 ... n_groups - 1.
        n_groups: the number of groups.

    Returns a scalar with gradient; 0 means that all groups have the same loss.
    """
    means = group_means(losses, groups, n_groups)
    present = ~means.isnan()
    if means.is_cuda:
        apart = torch.where(present, means - mean_on_gpu(means, present), 0.0)
        return mean_on_gpu(apart.square(), present)
    means = means[present]
    return (means - means.mean()).square().mean()


def membership(groups: Tensor, n_groups: int) -> Tensor:
    """(n, n_groups) bool: whether an image is in a group; no number is read for it."""
    return groups[:, None] == torch.arange(n_groups, device=groups.device)


def group_means(losses: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """(n_groups,) mean loss of each group, nan where a group is absent."""
    members = membership(groups, n_groups).to(losses.dtype)
    sizes = members.sum(0)
    return torch.where(sizes > 0, (losses @ members) / sizes.clamp(min=1), torch.nan)


def running_means(before: Tensor, losses: Tensor, groups: Tensor) -> Tensor:
    """(n_groups,) exponential averages of the groups' mean losses, 0.9 of what was `before`; nan
    for groups never seen.
    """
    new = group_means(losses, groups, len(before))
    old = torch.where(before.isnan(), new, before)
    return torch.where(new.isnan(), old, 0.9 * old + 0.1 * new)


def fairness_weights(means: Tensor, groups: Tensor) -> Tensor:
    """(n,) weights w with sum_i w_i grad loss_i = grad L_fair: (2/G) (L_g - mean L) / n_g for an
    image of group g.

    Because the deviations from the mean sum to 0, one weighted backward pass gives the gradient of
    `fairness_loss`.

    Args:
        means: (n_groups,) mean loss of each group, detached; nan for groups to leave out.
        groups: (n,) group of each image.
    """
    present = ~means.isnan()
    mean = mean_on_gpu(means, present) if means.is_cuda else means[present].mean()
    deviation = torch.where(present, means - mean, 0.0)
    sizes = membership(groups, len(means)).sum(0).clamp(min=1)
    return (2 / present.sum() * deviation / sizes)[groups]


def mean_on_gpu(means: Tensor, present: Tensor) -> Tensor:
    """The mean of the values that are present; a selection of them would let a GPU wait."""
    return torch.where(present, means, 0.0).sum() / present.sum()


def unit_conflict(accuracy: Gradients, fairness: Gradients) -> Gradients:
    """Minus the cosine of each unit's gradients of accuracy and fairness loss, by layer (units,).

    In [-1, 1]; above 0 the two goals pull the unit's weights apart. Exactly 0 for a unit of which
    nothing can be said: the product of its gradients' norms is 0 or among the lowest tenth of its
    layer, so its direction is noise. Units without weights are part of that tenth: where they make
    it up, all others count.
    """
    return {
        name: _row_conflict(accuracy[name].flatten(1), fairness[name].flatten(1))
        for name in accuracy
    }


def _row_conflict(a: Tensor, f: Tensor) -> Tensor:
    norms = a.norm(dim=1) * f.norm(dim=1)
    clear = (norms >= norms.quantile(0.1, interpolation="lower")) & (norms > 0)
    return torch.where(clear, -(a * f).sum(1) / norms.clamp(min=1e-30), 0.0)


class ConflictMeter:
    """Accumulates the conflict of every unit over a training; an `after_step` that changes nothing.

    Every `every` steps it draws two disjoint half-batches, takes the accuracy gradient from one and
    the fairness gradient from the other (a shared sample would make them agree by chance), both of
    the kept weights only, in evaluation mode, and adds up each unit's conflict. The group losses
    behind the fairness gradient are running averages.

    Args:
        split: training images.
        seed: of the run.
        every: steps between two observations.
        batch_size: images of an observation, both halves together; with those of a training step
            it costs as much as a step.
        low: multiplies in bfloat16, as the training does (`training.low_precision`).
    """

    # of both gradients; other parts than units can be watched by another one
    measure = staticmethod(unit_conflict)

    def __init__(
        self, split: Split, seed: int, every: int = 32, batch_size: int = 64, low: bool = False
    ) -> None:
        self.split = split
        self.every = every
        self.half = max(1, min(batch_size, len(split)) // 2)
        self.low = low
        self.generator = torch.Generator().manual_seed(config.seed_for(seed, "conflict"))
        self.steps = 0
        self.observed = 0
        self.group_loss = torch.full((split.n_groups,), torch.nan, device=split.y.device)
        self.sums: tuple[Gradients, Gradients] = ({}, {})  # over even and over odd observations

    def __call__(self, model: nn.Module) -> None:
        """Counts a step and observes when it is time."""
        self.steps += 1
        if self.steps % self.every == 0:
            self.observe(model)

    def observe(self, model: nn.Module) -> None:
        """Adds one observation of every unit's conflict."""
        rows = torch.randperm(len(self.split), generator=self.generator)[: 2 * self.half]
        device = self.split.y.device
        if device.type == "cuda":
            rows = rows.pin_memory()  # or the copy would wait
        rows = rows.to(device, non_blocking=True)
        training = model.training
        model.eval()
        accuracy = self._gradients(model, rows[: self.half], fair=False)
        fairness = self._gradients(model, rows[self.half :], fair=True)
        model.train(training)
        sums = self.sums[self.observed % 2]
        for name, conflict in self.measure(accuracy, fairness).items():
            sums[name] = sums.get(name, 0.0) + conflict
        self.observed += 1

    @property
    def images(self) -> int:
        """Images that its observations took, each a forward and a backward pass."""
        return self.observed * 2 * self.half

    def state(self) -> Gradients:
        """Everything that it goes on from, as tensors by name."""
        even, odd = self.sums
        found = joined({"even": even, "odd": odd})
        found["group_loss"] = self.group_loss
        found["generator"] = self.generator.get_state()
        found["counts"] = torch.tensor([self.steps, self.observed])
        return found

    def load_state(self, state: Gradients) -> None:
        """Goes on from where the meter with that state stood."""
        self.sums = part(state, "even/"), part(state, "odd/")
        self.group_loss = state["group_loss"]
        self.generator.set_state(state["generator"].cpu())
        self.steps, self.observed = state["counts"].tolist()

    def conflict(self) -> Gradients:
        """Mean conflict of each unit over all observations, by layer (units,), in [-1, 1];
        ValueError before the first.
        """
        if not self.observed:
            raise ValueError(
                f"nothing was observed in {self.steps} steps, expected at least {self.every}: "
                "train longer."
            )
        even, odd = self.sums
        return {name: (even[name] + odd.get(name, 0.0)) / self.observed for name in even}

    def agreement(self) -> dict[str, float]:
        """By layer, the share of units whose even and odd observations have the same sign.

        Units without a sign (no weights left, or gradients near nothing) are left out; nan where
        none is left. 1 means a stable sign, one half that it is noise.
        """
        even, odd = self.sums
        signs = {name: even[name].sign() * odd[name].sign() for name in odd}
        return {name: float((sign[sign != 0] > 0).float().mean()) for name, sign in signs.items()}

    def _gradients(self, model: nn.Module, rows: Tensor, fair: bool) -> Gradients:
        weights = prunable(model)
        groups = self.split.group[rows]
        with torch.autocast(groups.device.type, torch.bfloat16, enabled=self.low):
            outputs = model(as_float(self.split.x[rows]))
        losses = F.cross_entropy(outputs.float(), self.split.y[rows], reduction="none")
        self.group_loss = running_means(self.group_loss, losses.detach(), groups)
        loss = (losses * fairness_weights(self.group_loss, groups)).sum() if fair else losses.mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        return {name: g * (w != 0) for (name, w), g in zip(weights.items(), gradients, strict=True)}


def meter(run: Run, data: Data) -> ConflictMeter:
    """The meter that watches the dense training of a run's task and seed, before its first step."""
    schedule = run.settings.schedule
    low = low_precision(schedule, data.train.y.device)
    every = between_readings(_watched_steps(run, data))
    return ConflictMeter(data.train, run.seed, every, schedule.batch_size, low)


def readings(run: Run, data: Data) -> int:
    """How often that meter reads in a dense training; at least once."""
    steps = _watched_steps(run, data)
    return max(1, steps // between_readings(steps))


def _watched_steps(run: Run, data: Data) -> int:
    """Steps of the dense training from the rewind point on."""
    schedule = run.settings.schedule
    steps_per_epoch = max(1, len(data.train) // schedule.batch_size)
    return (schedule.epochs - run.settings.rewind_epochs) * steps_per_epoch


def between_readings(steps: int) -> int:
    """Steps between two readings in a training of so many: EVERY, or fewer for READINGS of them."""
    return max(1, min(EVERY, steps // READINGS))
