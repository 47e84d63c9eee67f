import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.models import build
from fairlth.selection import magnitude
from fairlth.shipping.compact import compact, links


def pruned(name, density=0.05, in_shape=(3, 16, 16), dead=True):
    """A network whose norms are not the identity, cut by magnitude, every third channel of each inner layer without weights."""
    generator = torch.Generator().manual_seed(0)
    model = build(name, in_shape, 7, generator).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
            elif getattr(module, "bias", None) is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
        if dead:
            for link in links(model):
                link.producer.weight[::3] = 0
        weights = prunable(model)
        MaskSet.from_scores(magnitude(weights), count_kept(density, weights)).apply(model)
    return model


def n_weights(model):
    return sum(weight.numel() for weight in prunable(model).values())


def images(in_shape=(3, 16, 16), n=5):
    return 2 * torch.rand(n, *in_shape, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet20", "resnet18", "vgg16"])
@pytest.mark.parametrize("density", [0.2, 0.02])
def test_the_smaller_network_has_the_same_outputs(name, density):
    model, x = pruned(name, density), images()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    small = compact(model)
    with torch.no_grad():
        expected, found = model(x), small(x)
    assert expected.std() > 0.01
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert n_weights(small) < 0.8 * n_weights(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet20", "resnet18", "vgg16"])
def test_a_network_without_empty_channels_keeps_its_shapes(name):
    model = pruned(name, density=1.0, dead=False)
    small = compact(model)
    assert [value.shape for value in small.state_dict().values()] == [
        value.shape for value in model.state_dict().values()
    ]


def test_linear_layers_worked_by_hand():
    """Unit 1 has no incoming weights: relu(5) times 2 goes into the bias. Nobody reads unit 2."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]))
        model[0].bias.copy_(torch.tensor([0.5, 5.0, 1.0]))
        model[2].weight.copy_(torch.tensor([[3.0, 2.0, 0.0]]))
        model[2].bias.fill_(1.0)
    small = compact(model)
    assert small[0].weight.tolist() == [[1.0, 0.0]] and small[0].bias.tolist() == [0.5]
    assert small[2].weight.tolist() == [[3.0]] and small[2].bias.tolist() == [11.0]
    assert (small[0].out_features, small[2].in_features) == (1, 1)


def conv_pair():
    """Channels 0 and 1 have no incoming weights and are 2 and 3 everywhere, channel 3 is -1 before its ReLU; 2 sees the image."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 1, 3, padding=1, bias=False),
    )
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[2, 0, 1, 1] = 1
        model[1].bias.copy_(torch.tensor([2.0, 3.0, 0.0, -1.0]))
        for channel, value in enumerate((1.0, 10.0, 100.0, 1000.0)):
            model[3].weight[0, channel] = value
    return model.eval()


def test_constants_before_zero_padding_worked_by_hand():
    """1 * 2 + 10 * 3 from nine places in the middle, from four in a corner: no bias could say so, one channel of ones does."""
    model = conv_pair()
    small, black = compact(model), torch.zeros(1, 1, 5, 5)
    assert small(black)[0, 0, 2, 2] == model(black)[0, 0, 2, 2] == 9 * 32
    assert small(black)[0, 0, 0, 0] == model(black)[0, 0, 0, 0] == 4 * 32
    assert small[3].weight[0, :, 0, 0].tolist() == [32.0, 100.0]  # ones, and the channel that sees
    assert (small[1].weight[0], small[1].bias[0]) == (0, 1) and small[1].num_features == 2
    x = torch.randn(3, 1, 6, 6)
    assert torch.allclose(small(x), model(x), atol=1e-4)


def test_constants_of_zero_need_no_channel():
    model = conv_pair()
    with torch.no_grad():
        model[1].bias[:2] = -1
    small = compact(model)
    assert small[0].weight.shape == (1, 1, 3, 3) and small[3].weight[0, 0, 0, 0] == 100


def test_a_reader_without_a_bias_gets_one():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [0.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 4.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 0.5]]))
    assert (
        compact(model)(torch.tensor([[3.0]])).item() == model(torch.tensor([[3.0]])).item() == 5.0
    )


def test_emptiness_runs_back_through_the_layers():
    """Nobody reads unit 0 of the second layer, so nobody reads unit 1 of the first, which only it reads."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.fill_(1.0)
        model[2].weight[1, 1] = 0
        model[4].weight[0, 0] = 0
    small = compact(model)
    assert [layer.weight.shape for layer in small[::2]] == [(1, 2), (1, 1), (1, 1)]


def test_and_forward():
    """A unit that reads only a constant is constant itself."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.fill_(1.0)
            layer.bias.fill_(1.0)
        model[0].weight[0] = 0
        model[2].weight[0, 1] = 0
    small = compact(model)
    assert [layer.weight.shape for layer in small[::2]] == [(1, 2), (1, 1), (1, 1)]
    assert small[4].bias.tolist() == [3.0]  # 1 + relu(1 * relu(1) + 1)


def test_a_network_of_constants_keeps_one_channel_a_layer():
    model = build("convnet", (1, 8, 8), 3, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for weight in prunable(model).values():
            weight.zero_()
        model.linear.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    small = compact(model)
    assert [len(weight) for weight in prunable(small).values()] == [1, 1, 1, 1, 3]
    assert small(torch.randn(1, 1, 8, 8)).tolist() == [[1.0, 2.0, 3.0]]


def test_blocks_lose_inner_channels_only():
    model = pruned("resnet20")
    with torch.no_grad():
        model.block2.conv1.weight.zero_()
        model.block2.norm1.bias.fill_(-10.0)
        model.block2.norm1.running_mean.zero_()
    small = compact(model)
    assert small.block2.conv1.weight.shape == (1, 16, 3, 3) and small.block2.conv2.weight.shape == (
        16,
        1,
        3,
        3,
    )
    assert (
        small.conv.weight.shape == model.conv.weight.shape
        and small.linear.weight.shape == model.linear.weight.shape
    )


NOTHING = "no convolution or linear layer is read by one other alone through batch norm, ReLU or"


def resnet_of(norm):
    from torchvision.models import resnet18

    return resnet18(norm_layer=norm)


class Branching(nn.Sequential):
    """Its forward asks what the values are."""

    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Between(nn.Module):
    """Two layers and what a function does between them."""

    def __init__(self, function, first=None, second=None):
        super().__init__()
        self.function = function
        self.first = first or nn.Linear(4, 4)
        self.second = second or nn.Linear(4, 4)

    def forward(self, x):
        return self.function(self, x)


def read_twice(own, x):
    x = own.first(x).relu()
    return own.second(x) + x


def read_by_name(own, x):
    return own.second(own.first(x).relu()) + own.first.weight.sum()


def called_twice(own, x):
    return own.second(own.first(own.first(x).relu()).relu())


def scaled(own, x):
    return own.second(own.first(x) * x.mean())


REFUSED = [
    nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 1)),
    nn.Sequential(nn.Linear(2, 2), nn.Softmax(1), nn.Linear(2, 1)),
    nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(2, 1)),
    nn.Sequential(nn.Conv2d(2, 2, 1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1)),
    nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1, groups=2)),
    nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2, padding=1), nn.Conv2d(2, 1, 3)),
    nn.Sequential(nn.Linear(4, 4), nn.MaxPool2d(1), nn.Linear(4, 1)),
    nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),  # perhaps of places
    nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(2), nn.Linear(4, 1)),
    resnet_of(lambda width: nn.GroupNorm(1, width)),
    resnet_of(lambda width: nn.BatchNorm2d(width, track_running_stats=False)),
    Between(read_twice),
    Between(read_by_name),
    Between(called_twice),
    Between(scaled),
]


@pytest.mark.parametrize("model", REFUSED)
def test_a_network_without_a_place_to_take_channels_out_is_refused(model):
    with pytest.raises(ValueError, match=f"{type(model).__name__}: {NOTHING}"):
        compact(model)


def test_a_forward_that_cannot_be_traced_is_refused():
    with pytest.raises(ValueError) as caught:
        compact(Branching(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)))
    assert str(caught.value) == (
        "Branching: its forward cannot be traced (symbolically traced variables cannot be used as "
        "inputs to control flow), so no channels are taken out: export this network as it is."
    )


def free(own, x):
    """A forward of one's own, by functions."""
    x = F.max_pool2d(F.relu(own.first(x)), 2)
    return own.second(F.dropout(torch.flatten(x, 1), training=own.training))


def averaged(own, x):
    return own.second(torch.tanh(own.first(x)).mean((2, 3)))


def transformer(activation="gelu"):
    return nn.TransformerEncoderLayer(16, 2, 32, 0.0, activation, batch_first=True)


class Patches(nn.Module):
    """Patches of an image, a transformer, and a head."""

    def __init__(self, blocks):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.blocks = blocks
        self.head = nn.Linear(16, 7)

    def forward(self, x):
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def vit():
    return VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=7)


def stacked():
    return nn.TransformerEncoder(transformer("relu"), 2, enable_nested_tensor=False)


def chain(*between, padding=1):
    return nn.Sequential(nn.Conv2d(3, 8, 3), *between, nn.Conv2d(8, 7, 3, padding=padding), Mean())


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


UNDERSTOOD = {
    "a forward of one's own": (
        lambda: Between(free, nn.Conv2d(3, 8, 3), nn.Linear(8 * 49, 7)),
        ["first"],
    ),
    "a mean": (lambda: Between(averaged, nn.Conv2d(3, 8, 3), nn.Linear(8, 7)), ["first"]),
    "several places": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 7)),
        ["0"],
    ),
    "no norm": (lambda: chain(nn.ReLU()), ["0"]),
    "no norm and no bias": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.Sigmoid(), nn.Conv2d(8, 7, 3, padding=1), Mean()
        ),
        ["0"],
    ),
    "no activation": (lambda: chain(), ["0"]),
    "a norm after it": (lambda: chain(nn.ReLU(), nn.BatchNorm2d(8)), ["0"]),
    "GELU": (lambda: chain(nn.BatchNorm2d(8), nn.GELU()), ["0"]),
    "pools": (lambda: chain(nn.Hardswish(), nn.AvgPool2d(2), nn.MaxPool2d(2)), ["0"]),
    "norms of features": (
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(768, 9),
            nn.BatchNorm1d(9),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(9, 7),
        ),
        ["1"],
    ),
    "a transformer": (
        lambda: Patches(nn.Sequential(transformer(), transformer("relu"))),
        ["blocks.0.linear1", "blocks.1.linear1"],
    ),
    "torch's stack of them": (
        lambda: Patches(stacked()),
        ["blocks.layers.0.linear1", "blocks.layers.1.linear1"],
    ),
    "a vision transformer": (
        vit,
        [f"encoder.layers.encoder_layer_{number}.mlp.0" for number in (0, 1)],
    ),
    "mobilenet": (
        lambda: build("mobilenet_v2", (3, 16, 16), 7, torch.Generator().manual_seed(0)),
        None,
    ),
}


@pytest.mark.parametrize(("make", "producers"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_networks_of_ones_own_get_smaller_with_the_same_outputs(make, producers):
    torch.manual_seed(0)
    model = make()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.copy_(torch.randn(value.shape, generator=generator))
    model.train()(images())  # moves running statistics
    model.eval()
    found = links(model)
    names = {module: name for name, module in model.named_modules()}
    if producers is not None:
        assert [names[link.producer] for link in found] == producers
    with torch.no_grad():
        for link in found:
            link.producer.weight[::2] = 0
    small = compact(model)
    with torch.no_grad():
        expected = model(images())
        result = small(images())
    assert expected.std() > 1e-3
    assert (result - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    for link in found:
        after = small.get_submodule(names[link.producer]).weight
        n_left = (len(link.producer.weight) + 1) // 2 + 1
        assert len(after) <= n_left < len(link.producer.weight)


def used_twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(), layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(4, 2)
    )


def one_bias():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[2].bias = model[0].bias
    return model


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (used_twice(), "4.weight is shared with 2.weight"),
        (one_bias(), "2.bias is shared with 0.bias"),
    ],
)
def test_layers_that_share_a_tensor_are_refused(model, sentence):
    with pytest.raises(ValueError, match=sentence):
        compact(model)
