import pytest
import torch

from fairlth.config import Schedule
from fairlth.images import as_float
from fairlth.masks import prunable
from fairlth.methods.allocation import uniform
from fairlth.methods.fairscratch import Popup, keep_top, signed_constants
from fairlth.models import build
from fairlth.training import fit


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
def test_top_k_agrees_with_its_twin_ties_included(n_keep):
    scores = torch.randint(0, 6, (20,), generator=torch.Generator().manual_seed(n_keep)).float()
    assert keep_top(scores, n_keep).tolist() == top_by_sorting(scores.tolist(), n_keep)


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
