"""Units that can be removed, and the network without them."""

import builtins
from collections import OrderedDict
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from fairlth.masks import MaskSet, prunable
from fairlth.models import MODELS, build
from fairlth.models.unit_graph import IN, OUT
from fairlth.models.units import (
    all_kept,
    cut,
    kept_units,
    put_back,
    unit_groups,
    unit_mask,
    work_of,
)
from fairlth.shipping.export import flops

RGB = (3, 32, 32)
needs_library = pytest.mark.skipif(
    find_spec("torch_pruning") is None, reason="torch-pruning is not installed (extra `units`)"
)


def made(name, in_shape=RGB):
    """A network whose batch norms are not the identity."""
    generator = torch.Generator().manual_seed(0)
    model = build(name, in_shape, 10, generator).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return model


def a_third(groups):
    """A random third of each group's units, at least one."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randperm(group.n_units, generator=generator) < max(1, group.n_units // 3)
        for group in groups
    ]


def small_vit(in_shape, n_classes):
    from torchvision.models import VisionTransformer

    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2}
    vit = VisionTransformer(**sizes, hidden_dim=16, mlp_dim=32, num_classes=n_classes)
    nn.init.normal_(vit.heads.head.weight)  # torchvision has zeros
    return vit


@needs_library
@pytest.mark.parametrize(
    ("name", "n_groups"),
    [
        ("mlp", 2),
        ("convnet", 4),
        ("vgg11_small", 8),
        ("resnet20", 12),
        ("resnet18", 12),
        ("mobilenet_v2", 25),
    ],
)
def test_the_smaller_network_gives_the_same_outputs(name, n_groups):
    """And it has as many weights and operations as its mask leaves."""
    model = made(name)
    groups = unit_groups(model, RGB)
    assert len(groups) == n_groups
    kept = a_third(groups)
    mask = unit_mask(model, groups, kept)
    mask.apply(model)
    small = cut(model, groups, kept)
    x = 2 * torch.rand(4, *RGB, generator=torch.Generator().manual_seed(2)) - 1
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(small(x), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1])
    assert sum(weight.numel() for weight in prunable(small).values()) == mask.n_kept
    assert flops(small, RGB) == work_of(model, RGB).of(mask)
    found = kept_units(model, groups, mask)
    assert all(torch.equal(one, other) for one, other in zip(found, kept, strict=True))


@needs_library
@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet20", "mobilenet_v2"])
def test_what_was_cut_out_can_be_put_back(name):
    """Values of a small network that changed stand where they were; the others are as before."""
    whole = made(name)
    groups = unit_groups(whole, RGB)
    kept = a_third(groups)
    small = cut(whole, groups, kept)
    same = put_back(whole, small, groups, kept).state_dict()
    assert all(torch.equal(value, same[key]) for key, value in whole.state_dict().items())
    with torch.no_grad():
        for value in [*small.parameters(), *small.buffers()]:
            value.add_(1)
    back = put_back(whole, small, groups, kept)
    changed = sum(
        int((value != whole.state_dict()[key]).sum()) for key, value in back.state_dict().items()
    )
    assert changed == sum(value.numel() for value in small.state_dict().values())
    again = cut(back, groups, kept).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in small.state_dict().items())


@needs_library
def test_what_is_frozen_stays_frozen_in_the_small_network():
    whole = made("convnet")
    frozen = {"norm1.weight", "norm1.bias"}
    for name in frozen:
        whole.get_parameter(name).requires_grad_(False)
    groups = unit_groups(whole, RGB)
    small = cut(whole, groups, a_third(groups))
    assert {name for name, value in small.named_parameters() if not value.requires_grad} == frozen


@needs_library
def test_all_units_are_the_whole_network():
    model = made("convnet")
    groups = unit_groups(model, RGB)
    mask = unit_mask(model, groups, all_kept(groups))
    assert mask.n_kept == mask.total
    assert work_of(model, RGB).of(mask) == flops(model, RGB)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    mask.apply(model)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@needs_library
def test_a_removed_unit_takes_row_norm_and_column_with_it():
    """Unit 3 of convnet's second layer: worked by hand."""
    model = made("convnet")
    groups = unit_groups(model, RGB)
    assert [(group.givers, group.n_units) for group in groups] == [
        ([f"conv{number}", f"norm{number}"], width)
        for number, width in enumerate((16, 32, 64, 112), 1)
    ]
    kept = all_kept(groups)
    kept[1][3] = False
    mask = unit_mask(model, groups, kept)
    gone = {name: (~own).nonzero()[:, :2].unique(dim=0).tolist() for name, own in mask.items()}
    assert gone["conv2.weight"] == [[3, place] for place in range(16)]
    assert gone["conv3.weight"] == [[place, 3] for place in range(64)]
    assert [gone[name] for name in ("conv1.weight", "conv4.weight", "linear.weight")] == [[]] * 3
    assert mask.total - mask.n_kept == 9 * (16 + 64)
    mask.apply(model)
    assert model.norm2.weight[3] == 0 and model.norm2.bias[3] == 0
    assert (model.norm2.weight != 0).sum() == 31


@needs_library
def test_channels_of_padded_shortcuts_stand_in_every_layer_that_is_as_wide():
    """resnet20: 16 channels go through all, 16 more from the second stage, 32 from the third."""
    groups = unit_groups(made("resnet20"), RGB)
    large = [group for group in groups if len(group.members) > 3]
    assert [(group.n_units, len(group.members)) for group in large] == [(16, 30), (16, 18), (32, 9)]
    assert [group.can_empty for group in large] == [False, True, True]
    assert not any(group.can_empty for group in groups if group not in large)
    second = large[1]
    [out] = [one for one in second.members if (one.layer, one.dim) == ("block4.conv2", OUT)]
    assert out.unit_of.tolist() == [-1] * 16 + list(range(16))
    [read] = [one for one in second.members if (one.layer, one.dim) == ("linear", IN)]
    assert read.unit_of.tolist() == [-1] * 16 + list(range(16)) + [-1] * 32


@needs_library
def test_what_padded_shortcuts_add_may_all_go():
    model = made("resnet20")
    groups = unit_groups(model, RGB)
    kept = [own & (not group.can_empty) for own, group in zip(a_third(groups), groups, strict=True)]
    unit_mask(model, groups, kept).apply(model)
    small = cut(model, groups, kept)
    x = torch.rand(4, *RGB, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)
    assert [small.get_submodule(f"block{n}").conv2.out_channels for n in (1, 4, 7)] == [5, 5, 5]


@needs_library
def test_attention_and_layer_norms_are_left_whole_and_hidden_features_go(monkeypatch):
    """The shortcut of a small ViT is normalised over its features, so none of them can go alone."""
    monkeypatch.setitem(MODELS, "vit", small_vit)
    model = build("vit", RGB, 10, torch.Generator().manual_seed(0)).eval()
    groups = unit_groups(model, RGB)
    hidden = [f"encoder.layers.encoder_layer_{number}.mlp.0" for number in (0, 1)]
    assert [(group.givers, group.n_units) for group in groups] == [([name], 32) for name in hidden]
    kept = a_third(groups)
    unit_mask(model, groups, kept).apply(model)
    x = torch.rand(4, *RGB, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(cut(model, groups, kept)(x), model(x), rtol=1e-5, atol=1e-5)


class Padded(nn.Module):
    """A shortcut that is padded in front: channel i of one layer is channel i + 4 of the next."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        x = self.one(x)
        x = self.two(x.relu()) + nn.functional.pad(x, (0, 0, 0, 0, 4, 0))
        return self.head(x.mean((2, 3)))


class Normed(nn.Module):
    """All of its units are normalised together."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(192, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.norm(self.one(x.flatten(1))))


class Hidden(Normed):
    """What its units do is hidden while the norm's weights are 0."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.norm.weight)


@needs_library
@pytest.mark.parametrize("network", [Padded, Normed, Hidden])
def test_units_that_cannot_go_alone_are_refused(network):
    torch.manual_seed(0)
    sentence = (
        f"{network.__name__}: no unit can be removed so that the others give the same outputs, "
        "prune its weights instead."
    )
    with pytest.raises(ValueError) as caught:
        unit_groups(network(), (3, 8, 8))
    assert str(caught.value) == sentence


@needs_library
def test_a_network_that_cannot_be_traced_is_refused():
    """torch-pruning does not understand channels that are shuffled."""
    from torchvision.models import shufflenet_v2_x0_5

    with pytest.raises(ValueError) as caught:
        unit_groups(shufflenet_v2_x0_5(), RGB)
    assert str(caught.value) == (
        "ShuffleNetV2: torch-pruning cannot trace its graph (ZeroDivisionError), prune its "
        "weights instead."
    )


@needs_library
def test_a_mask_of_single_weights_is_refused():
    model = made("convnet")
    groups = unit_groups(model, RGB)
    mask = dict(MaskSet.full(prunable(model)))
    mask["conv2.weight"][0, 0, 0, 0] = False
    with pytest.raises(ValueError) as caught:
        kept_units(model, groups, mask)
    assert str(caught.value) == (
        "the mask of conv2.weight is not of whole units: only tickets of methods that remove "
        "units, such as units_norm, can be made smaller this way."
    )


@needs_library
def test_features_of_a_flattened_channel_go_together():
    layers = {"conv": nn.Conv2d(1, 4, 3, padding=1), "flatten": nn.Flatten()}
    model = nn.Sequential(OrderedDict(layers | {"linear": nn.Linear(4 * 64, 10)}))
    [group] = unit_groups(model, (1, 8, 8))
    assert group.members[1].unit_of.tolist() == [place // 64 for place in range(256)]


def test_without_torch_pruning_one_sentence_says_how_to_get_it(monkeypatch):
    imported = builtins.__import__

    def missing(name, *arguments, **named):
        if name == "torch_pruning":
            raise ImportError(name)
        return imported(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError) as caught:
        unit_groups(made("mlp"), RGB)
    assert str(caught.value) == (
        "torch-pruning is not installed, and removing units needs it: pip install 'fairlth[units]'."
    )


@needs_library
@pytest.mark.parametrize("how", ["keep", "frozen"])
def test_units_in_a_layer_that_stays_whole_stay(how):
    model = made("convnet")
    before = unit_groups(model, RGB)
    if how == "keep":
        model.keep_whole = ("conv2",)
    else:
        model.conv2.weight.requires_grad_(False)
    found = unit_groups(model, RGB)
    first = [group.givers[0] for group in before]
    assert first == ["conv1", "conv2", "conv3", "conv4"]
    assert [group.givers[0] for group in found] == first[2:]  # conv2 reads what conv1 gives


WHOLE = (
    "each unit that could be removed stands in a layer that stays whole, by keep or since it is "
    "frozen: let fewer layers stay whole, or prune its weights instead."
)
NONE = "no unit can be removed so that the others give the same outputs, prune its weights instead."


@needs_library
@pytest.mark.parametrize("how", ["keep", "frozen"])
@pytest.mark.parametrize(
    ("network", "layers", "told"),
    [
        (lambda: made("mlp"), ("linear1", "linear3"), WHOLE),
        (lambda: made("mlp"), ("linear2",), WHOLE),
        (lambda: made("mlp"), ("linear1", "linear2", "linear3"), WHOLE),
        (Normed, ("one",), NONE),  # its units could not go either way
        (Padded, ("two",), NONE),
    ],
)
def test_where_layers_that_stay_whole_leave_no_unit_it_is_said(how, network, layers, told):
    torch.manual_seed(0)
    model = network()
    if how == "keep":
        model.keep_whole = layers
    else:
        for name in layers:
            model.get_submodule(name).requires_grad_(False)
    before = [value.requires_grad for value in model.parameters()]
    in_shape = RGB if hasattr(model, "linear1") else (3, 8, 8)
    with pytest.raises(ValueError) as caught:
        unit_groups(model, in_shape)
    assert str(caught.value) == f"{type(model).__name__}: {told}"
    assert [value.requires_grad for value in model.parameters()] == before
