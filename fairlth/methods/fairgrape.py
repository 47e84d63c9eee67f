"""FairGRAPE: every group keeps its share of the importance of a layer's weights."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fairlth import config
from fairlth.config import Run
from fairlth.config.method_table import FAIRGRAPE_BETWEEN, FAIRGRAPE_KEEPS
from fairlth.images import Data, Split, as_float
from fairlth.lottery import Dense, Ticket
from fairlth.masks import MaskSet, prunable
from fairlth.methods.allocation import uniform
from fairlth.selection import levels
from fairlth.training import PASSES, Trainer, fit

LATE = 0.75  # of the schedule: the learning rate between steps is that of its last quarter
IMAGES = 256  # of each group behind an importance

Importance = dict[str, Tensor]  # layer -> (groups, *weight shape)


def fairgrape(run: Run, data: Data, dense: Dense) -> Ticket:
    """Prunes the dense net in steps; in each layer every group keeps its share of the importance.

    Importance is (w dL_g/dw)^2 (`group_importance`), the rule `keep_shares`, the density the same
    in every layer. Between steps the net is trained briefly, at the end with the whole schedule. It
    has no fairness knob.

    Source: Lin et al., ECCV 2022 (Bernardo1998/FairGRAPE), without the defects of its code.
    Reconstructed: coarser steps (0.6 of the weights kept where the source keeps 0.9), brief
    trainings in proportion to ours, classes as groups where no attribute is named (the source's
    mode 2).
    """
    schedule = run.settings.schedule
    model = dense.at(dense.trained)
    weights = prunable(model)
    rows = rows_by_group(data.train, IMAGES, run.seed)
    plan = levels(run.density, FAIRGRAPE_KEEPS)
    between = max(1, round(FAIRGRAPE_BETWEEN * schedule.epochs))
    late = min(round(LATE * schedule.epochs), schedule.epochs - between)
    mask = MaskSet.full(weights)
    for step, density in enumerate(plan):
        importance = group_importance(model, data.train, rows)
        mask = select_by_shares(importance, uniform(density, weights), mask)
        mask.apply(model)
        if step < len(plan) - 1:
            trainer = Trainer(model, data, schedule, run.seed, mask.apply)
            for epoch in range(late, late + between):
                trainer.epoch(epoch)
    fit(model, data, schedule, seed=run.seed, after_step=mask.apply, label="pruned")
    read = len(plan) * sum(map(len, rows)) / len(data.train)
    before = dense.epochs / schedule.epochs
    cost = before + 1 + ((len(plan) - 1) * between + read) / schedule.epochs
    return Ticket(model, mask, cost)


def group_importance(
    model: nn.Module, split: Split, rows: list[Tensor], batch_size: int = 32
) -> Importance:
    """I_{g,i} = sum over batches of (w_i dL_g/dw_i)^2, L_g the mean loss of a batch of group g.

    In evaluation mode, each gradient on its own, the same number of images of each group where it
    has them.

    Source: FairGRAPE (Bernardo1998/FairGRAPE), without the released code's accumulated gradients,
    its optimiser step on the scored network, and its division of the last group only.

    Args:
        model: trained, pruned weights exactly 0.
        split: training images.
        rows: of each group, the images to use, see `rows_by_group`.
        batch_size: images per gradient.
    """
    weights = prunable(model)
    training = model.training
    found = {
        name: torch.zeros(len(rows), *weight.shape, device=weight.device)
        for name, weight in weights.items()
    }
    model.eval()
    for group, members in enumerate(rows):
        for part in members.split(batch_size):
            loss = F.cross_entropy(model(as_float(split.x[part])), split.y[part])
            PASSES.trained(len(part))
            for (name, weight), g in zip(
                weights.items(), torch.autograd.grad(loss, list(weights.values())), strict=True
            ):
                found[name][group] += (weight.detach() * g).square()
    model.train(training)
    return found


def rows_by_group(split: Split, n: int, seed: int) -> list[Tensor]:
    """`n` random images of each group, or all of a smaller one."""
    generator = torch.Generator().manual_seed(config.seed_for(seed, "importance"))
    order = torch.randperm(len(split), generator=generator).to(split.y.device)
    return [order[split.group[order] == group][:n] for group in range(split.n_groups)]


def select_by_shares(importance: Importance, budget: Mapping[str, int], within: MaskSet) -> MaskSet:
    """The mask that FairGRAPE's greedy rule keeps in each layer, see `keep_shares`."""
    return MaskSet({name: _layer(importance[name], n, within[name]) for name, n in budget.items()})


def _layer(importance: Tensor, n_keep: int, within: Tensor) -> Tensor:
    free = within.flatten().nonzero()[:, 0].cpu()
    scores = importance.flatten(1).cpu()[:, free].numpy()
    kept = torch.zeros(within.numel(), dtype=torch.bool)
    kept[free[torch.from_numpy(keep_shares(scores, n_keep))]] = True
    return torch.empty_like(within).copy_(kept.reshape(within.shape))


def keep_shares(importance: NDArray[np.floating], n_keep: int) -> NDArray[np.int64]:
    """Indices of `n_keep` weights, picked one by one so that each group's share of the importance
    stays what it was.

    Before each pick, p_g is group g's share of the importance of what has been picked (uniform
    before the first pick) and pi_g its share before pruning; the group with the most negative p_g -
    pi_g picks its most important weight that is left. Ties go to the earlier group and the earlier
    weight. A layer without any importance keeps its first weights.

    Source: FairGRAPE, ECCV 2022. Ideally p = pi at the end.

    Args:
        importance: (groups, weights), at least 0.
        n_keep: 1 ... the number of weights.
    """
    n_groups = len(importance)
    target = importance.sum(1, dtype=np.float64)
    target /= max(target.sum(), 1e-300)
    queues = [_most_important(own, n_keep) for own in importance]
    places = [0] * n_groups
    taken = bytearray(importance.shape[1])
    picked = []
    sums = np.zeros(n_groups)
    for _ in range(n_keep):
        total = sums.sum()
        group = int(np.argmin((sums / total if total > 0 else 1 / n_groups) - target))
        queue = queues[group]
        place = places[group]
        while taken[queue[place]]:
            place += 1
        places[group] = place + 1
        taken[queue[place]] = 1
        picked.append(queue[place])
        sums += importance[:, queue[place]]
    return np.array(picked)


def _most_important(own: NDArray[np.floating], n: int) -> NDArray[np.int64]:
    """Indices of at least the n largest, largest first, the earlier of equals first."""
    top = np.flatnonzero(own >= np.partition(own, -n)[-n])
    # numbers from +0 on are in the order of their bits, and integers are sorted in linear time
    bits = torch.from_numpy((own[top] + 0.0).view(f"i{own.itemsize}"))
    return top[(bits.max() - bits).argsort(stable=True).numpy()]


def shares(importance: Tensor, kept: Tensor) -> Tensor:
    """(groups,) share of each group in the importance of a layer's kept weights; sums to 1."""
    sums = (importance * kept).flatten(1).sum(1)
    return sums / sums.sum()
