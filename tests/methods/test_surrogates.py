from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fairlth.conflict import fairness_weights, group_means
from fairlth.methods.fairscratch import logit_gap, loss_variance, parity
from fairlth.training import Batch


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
