"""Signals of the study: what a level's training is watched for, and how that enters the score.

`PerUnit` is a loss whose steps are corrected by unit.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairlth.conflict import ConflictMeter, Gradients, fairness_weights, running_means
from fairlth.images import Data
from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.selection import Scores, conflict_aware, magnitude
from fairlth.training import Batch

BATCH = 64
EVERY = 16  # steps between two readings
EVERY_SQUARE = 4  # of squared gradients, which need more readings


def nanmean(values: Iterable[float]) -> float:
    """The mean of those that are numbers."""
    return float(torch.tensor(list(values)).nanmean())


class Magnitude:
    """No signal: |w|."""

    def __init__(self, data: Data, seed: int) -> None:
        self.meter = ConflictMeter(data.train, seed, every=EVERY, batch_size=BATCH, low=True)

    def __call__(self, model: nn.Module) -> None:
        """Watches a step."""

    def score(self, model: nn.Module, density: float) -> Scores:
        """The higher, the longer a weight stays; `density` is what the level leaves."""
        return magnitude(prunable(model))

    def agreement(self) -> float:
        """Share of parts whose signal has one sign in both halves of its readings.

        Mean over layers; nan without readings.
        """
        return math.nan


class Conflict(Magnitude):
    """Units in conflict are demoted by a strength; a negative one protects them.

    The conflict is read in the first `epochs`, on validation images where it is `held`.
    """

    def __init__(
        self, data: Data, seed: int, strength: float, held: bool = False, epochs: int = 1000
    ) -> None:
        super().__init__(data, seed)
        self.strength = strength
        self.last = epochs * len(data.train) // BATCH
        self.meter.split = data.val if held else data.train

    def __call__(self, model: nn.Module) -> None:
        """Reads the conflict while the first epochs last."""
        if self.meter.steps < self.last:
            self.meter(model)

    def score(self, model: nn.Module, density: float) -> Scores:
        """See `selection.conflict_aware`."""
        return conflict_aware(prunable(model), self.meter.conflict(), self.strength)

    def agreement(self) -> float:
        """See `ConflictMeter.agreement`."""
        return nanmean(self.meter.agreement().values())


class PartMeter(ConflictMeter):
    """Watches other parts than units: groups of `channels`, or single weights (0)."""

    channels = 0

    def measure(self, accuracy: Gradients, fairness: Gradients) -> Gradients:
        """Of each weight the sign of -a f; of each unit -cos of its group of channels."""
        return {name: self._conflict(a, fairness[name]) for name, a in accuracy.items()}

    def _conflict(self, a: Tensor, f: Tensor) -> Tensor:
        if not self.channels:
            return -(a * f).sign()
        group = torch.arange(len(a)) // self.channels
        zeros = torch.zeros(int(group[-1]) + 1)
        dot, aa, ff = (
            zeros.index_add(0, group, x.flatten(1).sum(1)) for x in (a * f, a * a, f * f)
        )
        cosine = dot / (aa * ff).sqrt().clamp(min=1e-30)
        return -cosine[group].reshape(-1, *[1] * (a.dim() - 1))


class Other(Conflict):
    """Parts in conflict are demoted, as units are by `Conflict`."""

    def __init__(self, data: Data, seed: int, strength: float, channels: int) -> None:
        super().__init__(data, seed, strength)
        self.meter = PartMeter(data.train, seed, every=EVERY, batch_size=BATCH, low=True)
        self.meter.channels = channels

    def score(self, model: nn.Module, density: float) -> Scores:
        """|w| exp(-strength z) where the part is in conflict.

        z is in standard deviations of the layer.
        """
        scores = {}
        conflicts = self.meter.conflict()
        for name, weight in prunable(model).items():
            conflict = conflicts[name]
            deviation = conflict[conflict != 0].std(correction=0).clamp(min=1e-20)
            z = torch.where(conflict > 0, conflict / deviation, 0.0)
            scores[name] = weight.detach().abs() * torch.exp(-self.strength * z)
        return scores


class Near(Conflict):
    """Conflict decides among weights near the threshold only: it lowers a score by at most 1.35."""

    def score(self, model: nn.Module, density: float) -> Scores:
        """|w|, lowered by the conflict to at least |w| / 1.35."""
        plain = magnitude(prunable(model))
        pushed = super().score(model, density)
        return {name: torch.maximum(pushed[name], plain[name] / 1.35) for name in plain}


class Removal(Magnitude):
    """Effect of a weight's removal on L_fair, to first order -w dL_fair/dw, summed along training.

    `by_unit`: summed over units, too.
    """

    def __init__(self, data: Data, seed: int, strength: float, by_unit: bool) -> None:
        super().__init__(data, seed)
        self.strength = strength
        self.by_unit = by_unit
        self.effect: Scores = {}

    def __call__(self, model: nn.Module) -> None:
        """Reads the gradient of L_fair now and then."""
        self.meter.steps += 1
        if self.meter.steps % EVERY:
            return
        rows = torch.randperm(len(self.meter.split), generator=self.meter.generator)[:BATCH]
        model.eval()
        fairness = self.meter._gradients(model, rows, fair=True)
        model.train()
        for name, weight in prunable(model).items():
            effect = -(weight.detach() * fairness[name])
            self.effect[name] = self.effect.get(name, 0.0) + effect / effect.norm().clamp(min=1e-20)

    def score(self, model: nn.Module, density: float) -> Scores:
        """|w| exp(strength z): what would raise L_fair if it were removed stays longer."""
        scores = {}
        for name, weight in prunable(model).items():
            effect = self.effect[name]
            if self.by_unit:
                of_unit = effect.flatten(1).sum(1).reshape(-1, *[1] * (weight.dim() - 1))
                effect = of_unit.expand_as(weight)
            z = (effect / effect[weight != 0].std().clamp(min=1e-20)).clamp(-3, 3)
            scores[name] = weight.detach().abs() * torch.exp(self.strength * z)
        return scores


class Share(Magnitude):
    """Importance (w dL_g/dw)^2 of each group: weights that groups of high loss need stay longer."""

    def __init__(self, data: Data, seed: int, power: float) -> None:
        super().__init__(data, seed)
        self.power = power
        self.importance: Scores = {}

    def __call__(self, model: nn.Module) -> None:
        """Reads every group's gradient now and then."""
        self.meter.steps += 1
        if self.meter.steps % EVERY:
            return
        split = self.meter.split
        model.eval()
        for group in range(split.n_groups):
            rows = (split.group == group).nonzero()[:, 0]
            rows = rows[torch.randint(len(rows), (16,), generator=self.meter.generator)]
            gradients = self.meter._gradients(model, rows, fair=False)
            for name, weight in prunable(model).items():
                mine = self.importance.setdefault(name, torch.zeros(split.n_groups, *weight.shape))
                mine[group] += (weight.detach() * gradients[name]).square()
        model.train()

    def score(self, model: nn.Module, density: float) -> Scores:
        """|w| (importance with groups weighted by their squared loss / plain importance)^power."""
        loss = self.meter.group_loss
        scores = {}
        for name, weight in prunable(model).items():
            groups_first = (-1, *[1] * weight.dim())
            mine = self.importance[name]
            share = mine / mine.flatten(1).sum(1).reshape(groups_first).clamp(min=1e-30)
            weak = (share * (loss / loss.mean()).square().reshape(groups_first)).mean(0)
            relative = (weak + 1e-12) / (share.mean(0) + 1e-12)
            scores[name] = weight.detach().abs() * relative**self.power
        return scores


class SquareMeter(ConflictMeter):
    """Adds up the squares of both gradients, as "accuracy/<layer>" and "fairness/<layer>"."""

    def measure(self, accuracy: Gradients, fairness: Gradients) -> Gradients:
        """The squares of one reading."""
        found = {f"accuracy/{name}": a.square() for name, a in accuracy.items()}
        return found | {f"fairness/{name}": f.square() for name, f in fairness.items()}


class TwoMasks(Magnitude):
    """Conflict as disagreement of two masks: what accuracy wants and what fairness wants.

    Readings r are those of a `ConflictMeter`: the gradient a_r of the mean loss and the gradient
    f_r of L_fair (`conflict.fairness_loss`), each on a half-batch of its own, of the kept weights.
    The importance of a weight w, at its value when the level ends, is

        I_A = w^2 sum_r a_r^2    for accuracy,
        I_F = w^2 sum_r f_r^2    for fairness,

    the square of what its removal changes in each loss, to first order (the estimate of Molchanov
    et al., 2019, "Importance estimation for neural network pruning"). M_A and M_F are the masks of
    the n weights of highest I_A and of highest I_F over all layers together, n as many as the level
    leaves. A weight that is in exactly one of them is in conflict. What follows from conflict has
    two rules:

        one_sided:  |w| exp(-strength)    in conflict,  |w| else,
        votes:      |w| exp(-strength m), m the number of masks that do not want it, 0, 1 or 2.

    With `one_sided` magnitude alone decides about weights that both masks want and that none wants;
    a negative strength protects weights in conflict. With `votes` a weight that no mask wants is
    demoted twice. Our hypothesis, no source.

    Args:
        data: train is read.
        seed: of the readings.
        strength: in units of log magnitude.
        votes: takes the second rule.
    """

    def __init__(self, data: Data, seed: int, strength: float, votes: bool = False) -> None:
        self.meter = SquareMeter(data.train, seed, every=EVERY_SQUARE, batch_size=BATCH, low=True)
        self.strength = strength
        self.votes = votes
        self.sides: list[Tensor] = []  # 1 wanted for accuracy alone, -1 for fairness alone, 0 else

    def __call__(self, model: nn.Module) -> None:
        """Reads both gradients now and then."""
        self.meter(model)

    def score(self, model: nn.Module, density: float) -> Scores:
        """|w|, lower where the two masks of this density do not both want the weight."""
        even, odd = self.meter.sums
        both = {name: even[name] + odd.get(name, 0.0) for name in even}
        wanted, fair = self.masks(model, both, density)
        self.sides = [self.side(model, half, density) for half in (even, odd) if half]
        scores = {}
        for name, weight in prunable(model).items():
            if self.votes:
                lacking = 2 - wanted[name].int() - fair[name].int()
            else:
                lacking = (wanted[name] ^ fair[name]).int()
            scores[name] = weight.detach().abs() * torch.exp(-self.strength * lacking)
        return scores

    def masks(self, model: nn.Module, sums: Gradients, density: float) -> tuple[MaskSet, MaskSet]:
        """M_A and M_F from summed squares of gradients."""
        weights = prunable(model)
        n_keep = count_kept(density, weights)
        found = []
        for goal in ("accuracy", "fairness"):
            importance = {
                name: weight.detach().square() * sums[f"{goal}/{name}"]
                for name, weight in weights.items()
            }
            found.append(MaskSet.from_scores(importance, n_keep))
        return found[0], found[1]

    def side(self, model: nn.Module, sums: Gradients, density: float) -> Tensor:
        """(weights,) 1 where only M_A wants the weight, -1 where only M_F does, 0 else."""
        wanted, fair = self.masks(model, sums, density)
        return torch.cat([(wanted[name].int() - fair[name].int()).flatten() for name in wanted])

    def agreement(self) -> float:
        """Share of the weights in conflict by both halves of the readings that are on one side.

        One half is noise, as elsewhere; nan where there is no such weight.
        """
        if len(self.sides) < 2:
            return math.nan
        product = self.sides[0] * self.sides[1]
        return float((product[product != 0] > 0).float().mean())


class PerUnit:
    """A loss whose gradient lacks, unit by unit, the part that opposes the gradient of L_fair.

    It is the `loss` of a trainer.
    """

    def __init__(self, model: nn.Module, n_groups: int) -> None:
        self.model = model
        self.means = torch.full((n_groups,), torch.nan)

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The mean loss, plus a term of value 0 whose gradient is the correction."""
        losses = F.cross_entropy(outputs, batch.y, reduction="none")
        self.means = running_means(self.means, losses.detach(), batch.group)
        weights = list(prunable(self.model).values())
        unfairness = (losses * fairness_weights(self.means, batch.group)).sum()
        fair = torch.autograd.grad(unfairness, weights, retain_graph=True)
        plain = torch.autograd.grad(losses.mean(), weights, retain_graph=True)
        correction = torch.zeros(())
        for weight, plain_gradient, fair_gradient in zip(weights, plain, fair, strict=True):
            a = plain_gradient.flatten(1)
            f = fair_gradient.flatten(1)
            against = ((a * f).sum(1) / f.square().sum(1).clamp(min=1e-20)).clamp(max=0)
            push = (against[:, None] * f).reshape(weight.shape)
            correction = correction - ((weight - weight.detach()) * push).sum()
        return losses.mean() + correction


SIGNALS: dict[str, Callable[[Data, int], Magnitude]] = {
    "magnitude": Magnitude,
    "demote.1": partial(Conflict, strength=0.1),
    "demote.3": partial(Conflict, strength=0.3),
    "protect.1": partial(Conflict, strength=-0.1),
    "protect.3": partial(Conflict, strength=-0.3),
    "held.3": partial(Conflict, strength=0.3, held=True),
    "rewind.3": partial(Conflict, strength=0.3, epochs=1),
    "group.1": partial(Other, strength=0.1, channels=8),
    "weight.1": partial(Other, strength=0.1, channels=0),
    "near.3": partial(Near, strength=0.3),
    "removal-unit.2": partial(Removal, strength=0.2, by_unit=True),
    "removal-weight.2": partial(Removal, strength=0.2, by_unit=False),
    "share.5": partial(Share, power=0.5),
    "masks.3": partial(TwoMasks, strength=0.3),
    "masks-protect.3": partial(TwoMasks, strength=-0.3),
    "votes.3": partial(TwoMasks, strength=0.3, votes=True),
}
