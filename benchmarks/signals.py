"""Selection signals of the study: what a level's training is watched for, and how that enters the score."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fairlth.conflict import ConflictMeter
from fairlth.data import Data
from fairlth.models import prunable
from fairlth.refinement import reweight
from fairlth.selection import Scores, conflict_aware, magnitude
from fairlth.training import predict, weighted_by_group

BATCH = 64


class Magnitude:
    """No signal."""

    def __init__(self, data: Data, seed: int) -> None:
        self.data = data

    def __call__(self, model: nn.Module) -> None:
        pass

    def score(self, model: nn.Module) -> Scores:
        """|w|."""
        return magnitude(prunable(model))

    def notes(self) -> Any:
        """Nothing."""
        return None


class Fair(Magnitude):
    """Levels trained with class weights from validation accuracy."""

    def __init__(self, data: Data, seed: int) -> None:
        super().__init__(data, seed)
        self.weights, self.steps = torch.ones(data.train.n_groups), 0

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """The weighted loss."""
        return weighted_by_group(self.weights)(outputs, batch)

    def __call__(self, model: nn.Module) -> None:
        self.steps += 1
        if self.steps % (len(self.data.train) // BATCH) == 0:
            self.weights = reweight(self.weights, predict(model, self.data.val), 0.3)


class Conflict(Magnitude):
    """Units in conflict demoted by a strength; negative protects them. `held` reads validation images."""

    def __init__(self, data: Data, seed: int, strength: float, held: bool = False, early: bool = False) -> None:
        super().__init__(data, seed)
        self.meter = ConflictMeter(data.val if held else data.train, seed, every=4 if early else 16, batch_size=BATCH, low=True)
        self.strength, self.last = strength, len(data.train) // BATCH if early else 10**9

    def __call__(self, model: nn.Module) -> None:
        if self.meter.steps < self.last:
            self.meter(model)

    def score(self, model: nn.Module) -> Scores:
        """See `selection.conflict_aware`."""
        return conflict_aware(prunable(model), self.meter.conflict(), self.strength)

    def notes(self) -> Any:
        """Agreement of the sign."""
        return self.meter.agreement()


class Near(Conflict):
    """Conflict decides only among weights near the threshold: scores within a quarter of the kept ones change."""

    def score(self, model: nn.Module) -> Scores:
        """|w|, its logarithm pushed by the conflict within a band of ranks."""
        plain, pushed = magnitude(prunable(model)), super().score(model)
        return {name: torch.where((plain[name] / pushed[name]) < 1.35, pushed[name], plain[name] / 1.35) for name in plain}


class Removal(Conflict):
    """First-order effect of removing a weight on L_fair, -w dL_fair/dw, accumulated; `by_unit` sums it over units."""

    def __init__(self, data: Data, seed: int, strength: float, by_unit: bool) -> None:
        super().__init__(data, seed, strength)
        self.by_unit, self.sums = by_unit, ({}, {})

    def __call__(self, model: nn.Module) -> None:
        self.meter.steps += 1
        if self.meter.steps % 16:
            return
        meter = self.meter
        rows = torch.randperm(len(meter.split), generator=meter.generator)[:BATCH]
        model.eval()
        fairness = meter._gradients(model, rows, fair=True)
        model.train()
        sums = self.sums[(meter.steps // 16) % 2]
        for name, weight in prunable(model).items():
            effect = -(weight.detach() * fairness[name])
            effect = effect / effect.norm().clamp(min=1e-20)
            sums[name] = sums.get(name, 0.0) + effect

    def score(self, model: nn.Module) -> Scores:
        """|w| exp(strength z): weights whose removal raises L_fair come first."""
        scores = {}
        for name, weight in prunable(model).items():
            effect = self.sums[0][name] + self.sums[1][name]
            if self.by_unit:
                effect = effect.flatten(1).sum(1).reshape(-1, *[1] * (weight.dim() - 1)).expand_as(weight)
            z = (effect / effect[weight != 0].std().clamp(min=1e-20)).clamp(-3, 3)
            scores[name] = weight.detach().abs() * torch.exp(self.strength * z)
        return scores

    def notes(self) -> Any:
        """Agreement of the sign between odd and even observations."""
        if self.by_unit:
            halves = [{n: s.flatten(1).sum(1) for n, s in sums.items()} for sums in self.sums]
        else:
            halves = list(self.sums)
        return {n: float(((halves[0][n] * halves[1][n])[halves[0][n] != 0] > 0).float().mean()) for n in halves[0]}


class Share(Removal):
    """Importance (w dL_g/dw)^2, groups weighted by their loss: |w| times the share's power."""

    def __init__(self, data: Data, seed: int, strength: float) -> None:
        super().__init__(data, seed, strength, False)
        self.importance: dict[str, Tensor] = {}

    def __call__(self, model: nn.Module) -> None:
        self.meter.steps += 1
        if self.meter.steps % 16:
            return
        split, meter = self.data.train, self.meter
        model.eval()
        for group in range(split.n_groups):
            rows = (split.group == group).nonzero()[:, 0]
            rows = rows[torch.randint(len(rows), (16,), generator=meter.generator)]
            gradients = meter._gradients(model, rows, fair=False)
            for name, weight in prunable(model).items():
                new = (weight.detach() * gradients[name]).square()
                key = f"{name}/{group}"
                self.importance[key] = self.importance.get(key, 0.0) + new
        model.train()

    def score(self, model: nn.Module) -> Scores:
        """|w| (weak groups' importance over all groups')^strength, groups weighted by their running loss."""
        loss, scores = self.meter.group_loss, {}
        for name, weight in prunable(model).items():
            stack = torch.stack([self.importance[f"{name}/{g}"] for g in range(len(loss))])
            stack = stack / stack.flatten(1).sum(1).reshape(-1, *[1] * weight.dim()).clamp(min=1e-30)
            weak = (stack * (loss / loss.mean()).square().reshape(-1, *[1] * weight.dim())).mean(0)
            ratio = (weak + 1e-12) / (stack.mean(0) + 1e-12)
            scores[name] = weight.detach().abs() * ratio**self.strength
        return scores

    def notes(self) -> Any:
        """Nothing."""
        return None


SIGNALS: dict[str, Callable[[Data, int], Magnitude]] = {
    "magnitude": Magnitude,
    "fair": Fair,
    "demote.1": lambda data, seed: Conflict(data, seed, 0.1),
    "demote.3": lambda data, seed: Conflict(data, seed, 0.3),
    "protect.3": lambda data, seed: Conflict(data, seed, -0.3),
    "held.3": lambda data, seed: Conflict(data, seed, 0.3, held=True),
    "rewind.3": lambda data, seed: Conflict(data, seed, 0.3, early=True),
    "near.3": lambda data, seed: Near(data, seed, 0.3),
    "removal_unit.2": lambda data, seed: Removal(data, seed, 0.2, True),
    "removal_weight.2": lambda data, seed: Removal(data, seed, 0.2, False),
    "share.5": lambda data, seed: Share(data, seed, 0.5),
}
