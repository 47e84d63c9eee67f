"""Edge-popup and the surrogates of fairness that it is trained with."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fairlth.config import Schedule
from fairlth.conflict import fairness_weights, group_means
from fairlth.images import as_float
from fairlth.masks import prunable
from fairlth.methods.allocation import uniform
from fairlth.methods.fairscratch import (
    Popup,
    keep_top,
    logit_gap,
    loss_variance,
    parity,
    signed_constants,
)
from fairlth.models import build
from fairlth.training import Batch, fit


def net():
    return build("mlp", (1, 8, 8), 3, torch.Generator().manual_seed(0))


def popup(density=0.3):
    model = net()
    return Popup(model, uniform(density, prunable(model)), seed=0)


def top_by_sorting(scores, n_keep):
    """The plain twin: all scores sorted, one by one."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return [i in order[:n_keep] for i in range(len(scores))]


@pytest.mark.parametrize("n_keep", [1, 7, 20])
def test_top_k_agrees_with_its_twin_ties_included(n_keep, monkeypatch):
    scores = torch.randint(0, 6, (20,), generator=torch.Generator().manual_seed(n_keep)).float()
    expected = top_by_sorting(scores.tolist(), n_keep)
    assert keep_top(scores, n_keep).tolist() == expected
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)  # as it is done there
    assert keep_top(scores.reshape(4, 5), n_keep).flatten().tolist() == expected


def test_the_forward_pass_uses_the_mask_and_nothing_else():
    one, x = popup(), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    twin = net()
    one.mask().apply(twin)
    assert torch.equal(one(x), twin(x))
    assert {name: int(kept.sum()) for name, kept in one.mask().items()} == one.budget


def test_scores_of_unused_weights_get_the_gradient_of_the_used_network_times_the_weight():
    one, x = popup(), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    one(x).square().sum().backward()
    twin = net()
    one.mask().apply(twin)
    twin(x).square().sum().backward()
    for name, weight in prunable(net()).items():
        scores = one.scores[name.replace(".", "/")]
        expected = twin.get_parameter(name).grad * weight.detach() * scores.detach().sign()
        assert torch.allclose(scores.grad, expected, atol=1e-5)
        assert scores.grad[~one.mask()[name]].any()


def test_only_scores_can_be_trained():
    one = popup()
    assert {
        name.split(".")[0] for name, value in one.named_parameters() if value.requires_grad
    } == {"scores"}
    assert len([value for value in one.parameters() if value.requires_grad]) == 3


def test_constants_have_one_size_per_layer_and_the_sign_of_the_initial_weight():
    model, before = net(), prunable(net())
    budget = uniform(0.25, before)
    signed_constants(model, budget)
    for name, weight in prunable(model).items():
        assert torch.equal(weight.sign(), before[name].sign())
        expected = (2 / (weight.shape[1] * budget[name] / weight.numel())) ** 0.5
        assert weight.abs().unique().tolist() == pytest.approx([expected])
    signed_constants(model, budget, signed=False)
    assert all((weight > 0).all() for weight in prunable(model).values())


def test_the_seed_draws_the_scores():
    one, same, other = (
        Popup(net(), uniform(0.3, prunable(net())), seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one.scores["linear1/weight"], same.scores["linear1/weight"])
    assert not torch.equal(one.scores["linear1/weight"], other.scores["linear1/weight"])


def test_batch_norm_keeps_its_scale_and_shift_and_its_statistics_follow(random_data):
    model = build("convnet", (1, 8, 8), 3, torch.Generator().manual_seed(0))
    one = Popup(model, uniform(0.3, prunable(model)), seed=0)
    fit(one, random_data, Schedule(epochs=1, batch_size=32, lr=0.1), seed=0)
    assert (model.norm1.weight == 1).all() and not model.norm1.bias.any()
    assert model.norm1.running_mean.any() and int(model.norm1.num_batches_tracked) == 3
    baked, x = one.mask(), as_float(random_data.test.x)
    one.eval()
    expected = one(x)
    baked.apply(model)
    torch.testing.assert_close(model(x), expected)  # the ticket is the network that was searched


def batch(n_classes=2, n=8):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(n, n_classes, generator=generator)
    return outputs, Batch(
        outputs, torch.arange(n) % n_classes, torch.arange(n) // 2 % 2, torch.arange(n)
    )


def test_the_loss_variance_by_hand():
    outputs, one = batch(3, 9)
    losses = F.cross_entropy(outputs, one.y, reduction="none")
    means = [losses[one.group == g].mean() for g in (0, 1)]
    by_hand = (
        losses.mean() + 2.0 * ((means[0] - means[1]) / 2) ** 2
    )  # the variance of two numbers is (half their gap)^2
    assert float(loss_variance(2.0, 2)(outputs, one)) == pytest.approx(float(by_hand))


def test_the_parity_gap_by_hand_one_and_two_sided(random_data):
    outputs, one = batch()
    logit = outputs[:, 1] - outputs[:, 0]
    gap = float(logit[one.group == 1].mean() - logit[one.group == 0].mean())
    plain, split = float(F.cross_entropy(outputs, one.y)), replace(random_data.train, n_classes=2)
    assert float(logit_gap(outputs, one.group)) == pytest.approx(gap) and gap != 0
    assert float(parity(0.3, split)(outputs, one)) == pytest.approx(plain + 0.3 * gap**2)
    assert float(parity(0.3, split, two_sided=False)(outputs, one)) == pytest.approx(
        plain + 0.3 * gap
    )


def test_a_batch_without_one_group_has_no_gap():
    outputs, _ = batch()
    assert float(logit_gap(outputs, torch.zeros(8, dtype=torch.long))) == 0


@pytest.mark.parametrize("change", [{"n_classes": 3}, {"n_classes": 2, "n_groups": 5}])
def test_a_binary_surrogate_on_more_than_two_is_refused_with_both_numbers(random_data, change):
    split = replace(random_data.train, **change)
    sentence = f"is for 2 classes and 2 groups, and these data have {split.n_classes} classes and {split.n_groups} groups"
    with pytest.raises(ValueError, match=sentence):
        parity(1.0, split)


def test_with_more_groups_than_a_quarter_of_the_batch_running_averages_stand_in():
    """The value differs, the gradient is that of the variance of the running means."""
    outputs, one = batch(3, 9)
    outputs.requires_grad_()
    one = one._replace(group=torch.arange(9) % 5)
    losses = F.cross_entropy(outputs, one.y, reduction="none")
    weights = fairness_weights(group_means(losses.detach(), one.group, 5), one.group)
    (by_hand,) = torch.autograd.grad(losses.mean() + 2.0 * (losses * weights).sum(), outputs)
    loss = loss_variance(2.0, 5)
    (first,) = torch.autograd.grad(loss(outputs, one), outputs)
    assert torch.allclose(
        first, by_hand, atol=1e-6
    )  # nothing has run yet: the averages are the batch's own
    (second,) = torch.autograd.grad(loss(outputs * 2, one), outputs)
    (fresh,) = torch.autograd.grad(loss_variance(2.0, 5)(outputs * 2, one), outputs)
    assert not torch.allclose(second, fresh)  # now they remember
