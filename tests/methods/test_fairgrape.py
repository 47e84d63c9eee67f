import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fairlth.images import as_float
from fairlth.masks import MaskSet, prunable
from fairlth.methods.allocation import uniform
from fairlth.methods.fairgrape import (
    group_importance,
    keep_shares,
    rows_by_group,
    select_by_shares,
    shares,
)
from fairlth.models import build


def greedy(importance, n_keep):
    """The plain twin of FairGRAPE's rule: every share and every maximum anew before each pick."""
    n_groups, n_weights = importance.shape
    target, picked = importance.sum(1) / importance.sum(), []
    for _ in range(n_keep):
        chosen = np.zeros(n_groups)
        for i in picked:
            chosen = chosen + importance[:, i]
        share = chosen / chosen.sum() if chosen.sum() > 0 else np.full(n_groups, 1 / n_groups)
        group = min(range(n_groups), key=lambda g: (share[g] - target[g], g))
        left = [i for i in range(n_weights) if i not in picked]
        picked.append(min(left, key=lambda i: (-importance[group, i], i)))
    return picked


@pytest.mark.parametrize("seed", range(4))
def test_the_greedy_rule_agrees_with_its_twin(seed):
    importance = np.random.default_rng(seed).exponential(size=(2 + seed, 60)) ** 2
    importance[:, ::7] = 0  # weights that matter to nobody, all tied
    for n_keep in (1, 25, 58):
        assert keep_shares(importance, n_keep).tolist() == greedy(importance, n_keep)


def test_the_greedy_rule_by_hand():
    """Group 0 holds 6 of 10: group 1 lags at first (1/2 - 4/10 > 1/2 - 6/10), so group 0 picks
    first, then group 1.
    """
    importance = np.array([[3.0, 0.0, 2.0, 1.0], [0.0, 3.0, 0.0, 1.0]])
    assert keep_shares(importance, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("n_groups", [2, 5])
def test_shares_stay_within_one_percent_of_the_layer_before_pruning(n_groups):
    generator = torch.Generator().manual_seed(0)
    importance = {"a": torch.rand(n_groups, 64, 50, generator=generator).square()}
    importance["a"][0] *= 3  # one group that matters more
    full = MaskSet({"a": torch.ones(64, 50, dtype=torch.bool)})
    kept = select_by_shares(importance, {"a": 320}, full)
    before, after = shares(importance["a"], full["a"]), shares(importance["a"], kept["a"])
    assert (before - after).abs().max() < 0.01
    by_sum = importance["a"].sum(0).flatten().topk(320).indices
    plain = torch.zeros(3200, dtype=torch.bool).index_fill(0, by_sum, True).reshape(64, 50)
    assert (
        before - shares(importance["a"], plain)
    ).abs().max() > 0.01  # which plain importance does not do


def test_what_was_pruned_stays_pruned_and_counts_are_exact():
    generator = torch.Generator().manual_seed(0)
    importance = {"a": torch.rand(3, 20, 20, generator=generator)}
    before = MaskSet({"a": torch.rand(20, 20, generator=generator) < 0.4})
    after = select_by_shares({"a": importance["a"] * before["a"]}, {"a": 50}, before)
    assert after.n_kept == 50 and not (after["a"] & ~before["a"]).any()


def test_importance_agrees_with_gradients_taken_one_group_at_a_time(random_data):
    model, split = build("mlp", (1, 8, 8), 3, torch.Generator().manual_seed(0)), random_data.train
    rows = rows_by_group(split, 20, seed=0)
    found = group_importance(model, split, rows, batch_size=20)
    for group, members in enumerate(rows):
        assert (split.group[members] == group).all() and len(members) == 20
        loss = F.cross_entropy(model(as_float(split.x[members])), split.y[members])
        for name, weight in prunable(model).items():
            (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
            assert torch.allclose(found[name][group], (weight * gradient).square(), atol=1e-8)


def test_importance_leaves_the_model_as_it_was_and_pruned_weights_have_none(random_data):
    model = build("convnet", (1, 8, 8), 3, torch.Generator().manual_seed(0))
    mask = MaskSet(
        {
            name: torch.arange(w.numel()).reshape(w.shape) % 2 == 0
            for name, w in prunable(model).items()
        }
    )
    mask.apply(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = group_importance(
        model, random_data.train, rows_by_group(random_data.train, 8, 0), batch_size=4
    )
    assert (
        all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        and model.training
    )
    assert all(not found[name][:, ~kept].any() and found[name].any() for name, kept in mask.items())


def test_uniform_budgets_are_kept_layer_by_layer(random_data):
    model = build("mlp", (1, 8, 8), 3, torch.Generator().manual_seed(0))
    weights = prunable(model)
    importance = group_importance(model, random_data.train, rows_by_group(random_data.train, 8, 0))
    budget = uniform(0.1, weights)
    kept = select_by_shares(importance, budget, MaskSet.full(weights))
    assert {name: int(mask.sum()) for name, mask in kept.items()} == budget


def test_weights_are_sorted_by_importance_the_earlier_of_equals_first_whatever_the_sign_of_zero():
    own = np.array([[0.0, -0.0, 1.0, 2.0, 1.0]])  # of one group, which picks them all in turn
    assert keep_shares(own, 5).tolist() == [3, 2, 4, 0, 1]
    assert keep_shares(own.astype(np.float32), 2).tolist() == [3, 2]
