"""Signals of the study: what a level's training is watched for and how that enters the score, and
steps corrected by unit.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairlth.conflict import ConflictMeter, Gradients, fairness_weights, running_means
from fairlth.images import Data
from fairlth.masks import prunable
from fairlth.selection import Scores, conflict_aware, magnitude
from fairlth.training import Batch

BATCH, EVERY = 64, 16


def nanmean(values: Iterable[float]) -> float:
    """The mean of those that are numbers."""
    return float(torch.tensor(list(values)).nanmean())


class Magnitude:
    """No signal: |w|."""

    def __init__(self, data: Data, seed: int) -> None:
        self.meter = ConflictMeter(data.train, seed, every=EVERY, batch_size=BATCH, low=True)

    def __call__(self, model: nn.Module) -> None:
        """Watches a step."""

    def score(self, model: nn.Module) -> Scores:
        """The higher, the longer a weight stays."""
        return magnitude(prunable(model))

    def agreement(self) -> float:
        """Share of parts whose signal has one sign in both halves of its readings, mean over
        layers; nan without readings.
        """
        return float("nan")


class Conflict(Magnitude):
    """Units in conflict are demoted by a strength; a negative one protects them. `held`: read on
    validation images.
    """

    def __init__(
        self, data: Data, seed: int, strength: float, held: bool = False, epochs: int = 1000
    ) -> None:
        super().__init__(data, seed)
        self.strength, self.last = strength, epochs * len(data.train) // BATCH
        self.meter.split = data.val if held else data.train

    def __call__(self, model: nn.Module) -> None:
        """Reads the conflict while the first epochs last."""
        if self.meter.steps < self.last:
            self.meter(model)

    def score(self, model: nn.Module) -> Scores:
        """See `selection.conflict_aware`."""
        return conflict_aware(prunable(model), self.meter.conflict(), self.strength)

    def agreement(self) -> float:
        """See `ConflictMeter.agreement`."""
        return nanmean(self.meter.agreement().values())


class PartMeter(ConflictMeter):
    """Watches other parts than units: groups of `channels`, or single weights (0)."""

    channels = 0

    def measure(self, accuracy: Gradients, fairness: Gradients) -> Gradients:  # type: ignore[override]
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
        return (-dot / (aa * ff).sqrt().clamp(min=1e-30))[group].reshape(-1, *[1] * (a.dim() - 1))


class Other(Conflict):
    """Parts in conflict are demoted, as units are by `Conflict`."""

    def __init__(self, data: Data, seed: int, strength: float, channels: int) -> None:
        super().__init__(data, seed, strength)
        self.meter = PartMeter(data.train, seed, every=EVERY, batch_size=BATCH, low=True)
        self.meter.channels = channels

    def score(self, model: nn.Module) -> Scores:
        """|w| exp(-strength z) where the part is in conflict, z in standard deviations of the
        layer.
        """
        scores, conflicts = {}, self.meter.conflict()
        for name, weight in prunable(model).items():
            conflict = conflicts[name]
            z = torch.where(
                conflict > 0,
                conflict / conflict[conflict != 0].std(correction=0).clamp(min=1e-20),
                0.0,
            )
            scores[name] = weight.detach().abs() * torch.exp(-self.strength * z)
        return scores


class Near(Conflict):
    """Conflict decides among weights near the threshold only: what it changes by more than a third
    is left at that.
    """

    def score(self, model: nn.Module) -> Scores:
        """|w|, lowered by the conflict to at most three quarters."""
        plain, pushed = magnitude(prunable(model)), super().score(model)
        return {name: torch.maximum(pushed[name], plain[name] / 1.35) for name in plain}


class Removal(Magnitude):
    """Effect of a weight's removal on L_fair, to first order -w dL_fair/dw, summed along training;
    `by_unit` over units.
    """

    def __init__(self, data: Data, seed: int, strength: float, by_unit: bool) -> None:
        super().__init__(data, seed)
        self.strength, self.by_unit = strength, by_unit
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

    def score(self, model: nn.Module) -> Scores:
        """|w| exp(strength z): what would raise L_fair if it were removed stays longer."""
        scores = {}
        for name, weight in prunable(model).items():
            effect = self.effect[name]
            if self.by_unit:
                effect = (
                    effect.flatten(1)
                    .sum(1)
                    .reshape(-1, *[1] * (weight.dim() - 1))
                    .expand_as(weight)
                )
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

    def score(self, model: nn.Module) -> Scores:
        """|w| (importance with groups weighted by their squared loss / plain importance)^power."""
        loss, scores = self.meter.group_loss, {}
        for name, weight in prunable(model).items():
            mine, groups_first = self.importance[name], (-1, *[1] * weight.dim())
            share = mine / mine.flatten(1).sum(1).reshape(groups_first).clamp(min=1e-30)
            weak = (share * (loss / loss.mean()).square().reshape(groups_first)).mean(0)
            scores[name] = (
                weight.detach().abs() * ((weak + 1e-12) / (share.mean(0) + 1e-12)) ** self.power
            )
        return scores


class PerUnit:
    """A loss whose gradient lacks, unit by unit, the part that opposes the gradient of L_fair; the
    `loss` of a trainer.
    """

    def __init__(self, model: nn.Module, n_groups: int) -> None:
        self.model, self.means = model, torch.full((n_groups,), torch.nan)

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The mean loss, plus a term of value 0 whose gradient is the correction."""
        losses = F.cross_entropy(outputs, batch.y, reduction="none")
        self.means = running_means(self.means, losses.detach(), batch.group)
        weights = list(prunable(self.model).values())
        fair = torch.autograd.grad(
            (losses * fairness_weights(self.means, batch.group)).sum(), weights, retain_graph=True
        )
        plain = torch.autograd.grad(losses.mean(), weights, retain_graph=True)
        correction = torch.zeros(())
        for weight, a, f in zip(weights, plain, fair, strict=True):
            a, f = a.flatten(1), f.flatten(1)
            against = ((a * f).sum(1) / f.square().sum(1).clamp(min=1e-20)).clamp(max=0)
            push = (against[:, None] * f).reshape(weight.shape)
            correction = correction - ((weight - weight.detach()) * push).sum()
        return losses.mean() + correction


SIGNALS: dict[str, Callable[[Data, int], Magnitude]] = {
    "magnitude": Magnitude,
    "demote.1": lambda data, seed: Conflict(data, seed, 0.1),
    "demote.3": lambda data, seed: Conflict(data, seed, 0.3),
    "protect.1": lambda data, seed: Conflict(data, seed, -0.1),
    "protect.3": lambda data, seed: Conflict(data, seed, -0.3),
    "held.3": lambda data, seed: Conflict(data, seed, 0.3, held=True),
    "rewind.3": lambda data, seed: Conflict(data, seed, 0.3, epochs=1),
    "group.1": lambda data, seed: Other(data, seed, 0.1, channels=8),
    "weight.1": lambda data, seed: Other(data, seed, 0.1, channels=0),
    "near.3": lambda data, seed: Near(data, seed, 0.3),
    "removal-unit.2": lambda data, seed: Removal(data, seed, 0.2, by_unit=True),
    "removal-weight.2": lambda data, seed: Removal(data, seed, 0.2, by_unit=False),
    "share.5": lambda data, seed: Share(data, seed, 0.5),
}
