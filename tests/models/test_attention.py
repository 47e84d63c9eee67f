"""Attention and all kinds of convolutions are pruned by every method; a small vision transformer goes all the way."""

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from fairlth import config, data, methods, models
from fairlth.config import METHOD_TABLE, Run
from fairlth.masks import prunable
from fairlth.methods import METHODS
from fairlth.models import build
from fairlth.shipping import export
from fairlth.shipping import ticket as tickets
from fairlth.training import count
from fairlth.workflow import experiments

WEIGHTS = [name for name in METHODS if METHOD_TABLE[name].structure == "weights"]


class Encoder(nn.Module):
    """Patches of 2 x 2 pixels and one layer of torch's transformer."""

    def __init__(self, in_shape, n_classes):
        super().__init__()
        self.patches = nn.Conv2d(in_shape[0], 16, 2, stride=2)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, n_classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.layer(x).mean(1))


class Split(nn.Module):
    """Attention between tokens of three sizes, so that its projections are split."""

    def __init__(self, in_shape, n_classes):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=4, vdim=2, batch_first=True)
        self.head = nn.Linear(64, n_classes)

    def forward(self, x):
        n = len(x)
        query = x.reshape(n, 8, 8)
        key = x.reshape(n, 16, 4)
        value = x.reshape(n, 32, 2)[:, :16]
        return self.head(self.attention(query, key, value)[0].flatten(1))


class Kinds(nn.Module):
    """Convolutions of one and three dimensions, and transposed ones of each."""

    def __init__(self, in_shape, n_classes):
        super().__init__()
        self.row = nn.Conv1d(8, 6, 3)
        self.up_row = nn.ConvTranspose1d(6, 8, 3)
        self.up_image = nn.ConvTranspose2d(1, 4, 2)
        self.body = nn.Conv3d(1, 2, 2, stride=2)
        self.up_body = nn.ConvTranspose3d(2, 3, 2)
        self.head = nn.Linear(3, n_classes)

    def forward(self, x):
        rows = self.up_row(self.row(x[:, 0]).relu())
        image = self.up_image(rows[:, None]).relu()
        body = self.up_body(self.body(image[:, None]).relu())
        return self.head(body.mean((2, 3, 4)))


TOTALS = {
    "Encoder": 64 + 768 + 256 + 512 + 512 + 48,
    "Split": 64 + 32 + 16 + 64 + 192,
    "Kinds": 144 + 144 + 16 + 16 + 48 + 9,
}


def vit(in_shape, n_classes):
    """torchvision's, with one layer of 16 features."""
    model = VisionTransformer(
        image_size=8,
        patch_size=2,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=n_classes,
    )
    model.conv_proj = nn.Conv2d(in_shape[0], 16, 2, stride=2)
    return model


def drawn(name, seed=0):
    return build(name, (1, 8, 8), 3, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", WEIGHTS)
@pytest.mark.parametrize("net", [Encoder, Split, Kinds])
def test_every_method_prunes_every_kind_to_an_exact_count(own, random_data, method, net):
    models.add("net", net, in_shape=(1, 8, 8), n_classes=3)
    density = 1.0 if method == "dense" else 0.2
    run = Run(dataset="digits", model="net", method=method, density=density, seed=0, preset="smoke")
    ticket = methods.make(run, random_data)
    total = TOTALS[net.__name__]
    assert ticket.mask.total == total
    assert ticket.mask.n_kept == config.share_of(density, total)
    for name, mask in ticket.mask.items():
        assert not ticket.model.get_parameter(name)[~mask].any()


def test_a_vision_transformer_learns_digits_with_a_fifth_of_its_weights(own, tmp_path):
    """All the way to ONNX, which counts as many right answers in each class as the record."""
    models.add("vit", vit, in_shape=(1, 8, 8), n_classes=10)
    run = Run(dataset="digits", model="vit", method="lth_long", density=0.2, seed=0, preset="smoke")
    record = experiments.run(run, tmp_path)
    assert (record.kept, record.total) == (454, 2272)
    correct, total = record.split("test").by_group()
    assert correct.sum() / total.sum() > 0.7
    layers = {layer["layer"]: layer for layer in record.layers}
    attention = layers["encoder.layers.encoder_layer_0.self_attention.in_proj_weight"]
    assert attention["total"] == 768
    assert 0 < attention["kept"] < 768
    loaded = tickets.load(config.ticket_path(run, tmp_path))
    test = data.load(run).test
    session = export.session(export.onnx(loaded.model, (1, 8, 8), loaded.card))
    found = count(export.logits(session, test), test)
    assert found.correct.tolist() == record.counts["test"]["correct"]


@pytest.mark.parametrize("whole", [False, True])
def test_the_generator_decides_attention_too(own, whole):
    given = Encoder((1, 8, 8), 3)
    nn.init.zeros_(given.places)  # no layer could reset them
    models.add("net", given if whole else Encoder, in_shape=(1, 8, 8), n_classes=3)
    one = drawn("net")
    same = drawn("net")
    other = drawn("net", seed=1)
    name = "layer.self_attn.in_proj_weight"
    assert torch.equal(one.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))
    assert one.get_parameter(name).detach().std() == pytest.approx((2 / 16) ** 0.5, rel=0.1)
    assert not one.layer.self_attn.in_proj_bias.any()


def test_biases_of_keys_and_values_of_a_network_given_whole_are_reset(own):
    class Biased(Split):
        def __init__(self):
            super().__init__((1, 8, 8), 3)
            self.attention = nn.MultiheadAttention(
                8, 2, kdim=4, vdim=2, batch_first=True, add_bias_kv=True
            )

    models.add("net", Biased(), in_shape=(1, 8, 8), n_classes=3)
    one = drawn("net").attention
    other = drawn("net", seed=1).attention
    assert not torch.equal(one.bias_k, other.bias_k)
    assert torch.equal(one.bias_k, drawn("net").attention.bias_k)


def test_tokens_positions_and_norms_are_not_pruned(own):
    models.add("vit", vit, in_shape=(1, 8, 8), n_classes=3)
    names = set(prunable(drawn("vit")))
    assert not {name for name in names if "token" in name or "embed" in name or "ln" in name}
    assert {name.rpartition(".")[2] for name in names} == {"weight", "in_proj_weight"}
