"""Masks of torch.nn.utils.prune come and go bit for bit."""

import copy
import doctest

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from fairlth import models
from fairlth.bias_shift import make_room
from fairlth.masks import MaskSet, count_kept, layer_of, prunable
from fairlth.models import build
from fairlth.selection import magnitude
from fairlth.shipping import export, torch_prune
from fairlth.shipping import ticket as tickets
from fairlth.shipping.compact import compact
from fairlth.shipping.torch_prune import from_prune, to_prune

NETWORKS = ["mlp", "convnet", "resnet20"]


def network(name="convnet"):
    """A network whose biases and running statistics are not those that it was drawn with."""
    generator = torch.Generator().manual_seed(0)
    model = build(name, (1, 8, 8), 3, generator)
    for bias in (value for key, value in model.named_parameters() if key.endswith("bias")):
        bias.data.copy_(torch.randn(bias.shape, generator=generator))
    model.train()(torch.rand(8, 1, 8, 8, generator=generator))
    return model.eval()


def ticket(name="convnet", density=0.1):
    """A plain network with its pruned weights at 0, and its mask."""
    model = network(name)
    weights = prunable(model)
    mask = MaskSet.from_scores(magnitude(weights), count_kept(density, weights))
    mask.apply(model)
    return model, mask


def hooked(name="convnet"):
    """A network on which torch has pruned half of all kernels, and its first layer twice."""
    model = network(name)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    pairs = [(layer, "weight") for layer in layers]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=0.5)
    prune.ln_structured(layers[0], "weight", amount=1, n=2, dim=0)
    return model


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def bits(state):
    """Every value's own bits: 0.0 and -0.0 differ, as torch.equal does not tell."""
    return {name: value.numpy().tobytes() for name, value in state.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_ticket_goes_to_prune_and_back_bit_for_bit(name):
    model, mask = ticket(name)
    before = copy.deepcopy(model.state_dict())
    there = to_prune(model, mask)
    assert prune.is_pruned(there) and not prune.is_pruned(model)
    plain, again = from_prune(there)
    assert bits(plain.state_dict()) == bits(before)
    assert list(plain.state_dict()) == list(before)
    assert same(again, mask)
    assert same(model.state_dict(), before)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_prune_comes_here_and_goes_back(name):
    model = hooked(name)
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    plain, mask = from_prune(model)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(plain(x), expected)
        assert torch.equal(to_prune(plain, mask)(x), expected)
    assert same(model.state_dict(), before) and prune.is_pruned(model)
    assert not prune.is_pruned(plain)
    for key, weight in prunable(plain).items():
        assert torch.equal(mask[key], before[f"{key}_mask"].bool())
        assert torch.equal(weight, before[f"{key}_orig"] * mask[key])
        assert not weight[~mask[key]].signbit().any()  # 0.0 and not -0.0
    assert list(plain.state_dict()) == list(network(name).state_dict())
    assert mask.density < 0.5


def test_a_hooked_network_still_learns_after_it_was_read():
    model = hooked("mlp")
    weight = model.linear2.weight
    from_prune(model)
    assert model.linear2.weight is weight and weight.grad_fn is not None
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    assert model.linear2.weight_orig.grad is not None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_was_evaluated_comes_as_before(name, mode):
    """Its hooks have then computed weights that ask for no gradient."""
    model, mask = ticket(name)
    there = to_prune(model, mask)
    with mode():
        there(torch.rand(2, 1, 8, 8))
    layer = there.get_submodule(layer_of(next(iter(mask))))
    assert layer.weight_orig.requires_grad and not layer.weight.requires_grad
    plain, again = from_prune(there)
    assert bits(plain.state_dict()) == bits(model.state_dict())
    assert same(again, mask)
    assert all(value.requires_grad for value in plain.parameters())
    plain(torch.rand(2, 1, 8, 8)).sum().backward()


@pytest.mark.parametrize("evaluated", [False, True])
def test_masks_of_frozen_weights_are_refused_evaluated_or_not(evaluated):
    model = hooked("mlp")
    model.linear2.weight_orig.requires_grad_(False)
    if evaluated:
        with torch.no_grad():
            model(torch.rand(2, 1, 8, 8))
    with pytest.raises(ValueError, match="^the mask of linear2.weight is refused: only what"):
        from_prune(model)


@pytest.mark.parametrize("why", ["frozen", "keep"])
def test_computed_weights_that_are_never_pruned_may_be_there(why):
    model = network("mlp")
    half_computed(model)
    if why == "frozen":
        model.linear2.requires_grad_(False)
    else:
        model.keep_whole = ("linear2",)
    plain, mask = from_prune(model)
    assert [*mask] == ["linear1.weight", "linear3.weight"]
    assert torch.equal(plain.linear2.weight, model.linear2.weight)


def test_layers_without_a_mask_keep_all_their_weights():
    model = network("mlp")
    prune.random_unstructured(model.linear2, "weight", amount=100)
    _, mask = from_prune(model)
    assert [*mask] == ["linear1.weight", "linear2.weight", "linear3.weight"]
    pruned = [int((~kept).sum()) for kept in mask.values()]
    assert pruned == [0, 100, 0]


def test_prune_removes_and_prunes_on_from_there():
    model, mask = ticket("mlp")
    there = to_prune(model, mask)
    prune.ln_structured(there.linear1, "weight", amount=0.5, n=1, dim=0)
    _, after = from_prune(there)
    lost = mask["linear1.weight"] & ~after["linear1.weight"]
    assert lost.any() and not (after["linear1.weight"] & ~mask["linear1.weight"]).any()
    assert int((~after["linear1.weight"].any(1)).sum()) >= 64
    assert torch.equal(after["linear2.weight"], mask["linear2.weight"])
    removed = to_prune(model, mask)
    for key in mask:
        prune.remove(removed.get_submodule(key.rpartition(".")[0]), "weight")
    state = removed.state_dict()
    assert {key: state[key].tolist() for key in state} == {
        key: value.tolist() for key, value in model.state_dict().items()
    }


def test_shifted_class_biases_come_along():
    model, mask = ticket("convnet")
    make_room(model, 3)
    model.get_buffer("class_shift").copy_(torch.tensor([1.0, 2.0, -3.0]))
    plain, _ = from_prune(to_prune(model, mask))
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(plain(x), model(x))


def test_a_single_layer_and_a_layer_without_biases():
    layer = nn.Linear(4, 2, bias=False)
    prune.custom_from_mask(layer, "weight", torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1]]))
    plain, mask = from_prune(layer)
    assert mask["weight"].tolist() == [[True, False, True, False], [False, True, False, True]]
    assert plain.bias is None and [*plain.state_dict()] == ["weight"]


def test_a_saved_state_comes_by_way_of_identity():
    state = hooked("mlp").state_dict()
    model = network("mlp")
    for layer in (model.linear1, model.linear2, model.linear3):
        prune.identity(layer, "weight")
    model.load_state_dict(state)
    assert same(from_prune(model).mask, from_prune(hooked("mlp")).mask)


def softened(model):
    prune.identity(model.linear1, "weight")
    model.linear1.weight_mask[0, 0] = 0.5


def half_computed(model):
    prune.identity(model.linear1, "weight")
    parametrizations.weight_norm(model.linear2)


def half_computed_and_evaluated(model):
    """Its computed weight asks for no gradient then, and what it is computed from does."""
    prune.identity(model.linear1, "weight")
    nn.utils.weight_norm(model.linear2)
    with torch.no_grad():
        model(torch.rand(2, 1, 8, 8))


REFUSED = {
    "no masks": (
        lambda model: None,
        "Sequential has no masks of torch.nn.utils.prune: come here before prune.remove, which forgets them.",
    ),
    "biases": (
        lambda model: prune.l1_unstructured(model.linear1, "bias", amount=1),
        "the mask of linear1.bias is refused: only what masks.prunable names is pruned here, call prune.remove on linear1 for 'bias'.",
    ),
    "computed otherwise": (
        half_computed,
        "linear2.weight is computed from others: give the layer a plain weight.",
    ),
    "computed otherwise and evaluated": (
        half_computed_and_evaluated,
        "linear2.weight is computed from others: give the layer a plain weight.",
    ),
    "not 0 and 1": (
        softened,
        "the mask of linear1.weight has values other than 0 and 1: threshold it first.",
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize(("spoil", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_come_is_one_sentence(spoil, sentence):
    model = network("mlp")
    spoil(model)
    with pytest.raises(ValueError) as caught:
        from_prune(model)
    assert str(caught.value) == sentence


def test_a_mask_of_another_network_is_refused():
    with pytest.raises(ValueError, match="the mask of conv1.weight has shape .* and the model's"):
        to_prune(network("mlp"), ticket("convnet")[1])


PLACES = {  # where a plain network is expected
    "models.add": lambda model, mask: models.add("mine", model, (1, 8, 8)),
    "to_prune": to_prune,
    "compact": lambda model, mask: compact(model),
    "onnx": lambda model, mask: export.onnx(model, (1, 8, 8)),
    "flops": lambda model, mask: export.flops(model, (1, 8, 8)),
    "tensors": tickets.tensors,
    "read": lambda model, mask: tickets.read("nowhere", model),
}


@pytest.mark.parametrize("pruned", ["weight", "bias"])
@pytest.mark.parametrize("call", PLACES.values(), ids=PLACES)
def test_where_a_plain_network_is_expected_masks_are_refused_with_the_cure(call, pruned):
    model, mask = ticket("mlp")
    prune.identity(model.linear1, pruned)
    with pytest.raises(ValueError) as caught:
        call(model, mask)
    name = "mine" if call is PLACES["models.add"] else "Sequential"
    assert str(caught.value) == (
        f"model {name!r} has masks of torch.nn.utils.prune: take the plain network that "
        "shipping.torch_prune.from_prune makes of it."
    )
    assert "mine" not in models.MODELS


def test_weights_computed_by_others_keep_their_own_sentence():
    model = network("mlp")
    parametrizations.weight_norm(model.linear1)
    with pytest.raises(ValueError, match="linear1.weight is computed from others"):
        models.add("mine", model, (1, 8, 8))


def test_the_example_in_the_docstring_runs():
    found = doctest.testmod(torch_prune)
    assert found.failed == 0 and found.attempted >= 9
