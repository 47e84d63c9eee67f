"""What leaves the project says the same as the network that stayed; timings and sizes are measured in benchmarks/export.py."""

import hashlib
import json
import logging
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from fairlth import config
from fairlth.config import paths
from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.models import build
from fairlth.selection import magnitude
from fairlth.shipping import export
from fairlth.shipping.card import card_bytes
from fairlth.shipping.compact import compact
from fairlth.training import logits

SHAPES = {"mlp": (1, 8, 8), "convnet": (1, 8, 8), "resnet20": (1, 8, 8)}


def ticket(name, density=0.1):
    """A network with its pruned weights at 0; left in training mode, which an export must not mind."""
    model = build(name, SHAPES[name], 3, torch.Generator().manual_seed(0))
    weights = prunable(model)
    MaskSet.from_scores(magnitude(weights), count_kept(density, weights)).apply(model)
    model.train()(
        torch.rand(16, *SHAPES[name], generator=torch.Generator().manual_seed(1))
    )  # moves running statistics
    return model


@pytest.fixture(scope="module")
def files():
    """Each network and its ONNX file."""
    models = {name: ticket(name) for name in SHAPES}
    return {name: (model, export.onnx(model, SHAPES[name])) for name, model in models.items()}


def apart(one, other):
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("n", [1, 3, 48])
def test_onnx_runtime_gives_the_networks_outputs_for_any_number_of_images(files, name, n):
    model, content = files[name]
    x = 2 * torch.rand(n, *SHAPES[name], generator=torch.Generator().manual_seed(2)) - 1
    with torch.no_grad():
        expected = model.eval()(x)
    found = export.outputs(export.session(content), x)
    assert found.shape == (n, 3) and expected.std() > 0.01
    assert apart(found, expected) <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_a_split_goes_through_a_session_as_through_the_network(files, random_data):
    model, content = files["convnet"]
    found = export.logits(export.session(content), random_data.train)
    assert torch.allclose(found, logits(model, random_data.train), atol=1e-5)
    assert found.shape == (96, 3)


@pytest.mark.parametrize("name", SHAPES)
def test_the_mask_is_part_of_the_weights(files, name):
    """As many weights that are not 0 as the mask keeps, and no tensor beside weights and biases that is as large."""
    model, content = files[name]
    kept = sum(int(weight.count_nonzero()) for weight in prunable(model).values())
    arrays = [
        numpy_helper.to_array(array) for array in onnx.load_from_string(content).graph.initializer
    ]
    weights = [array for array in arrays if array.ndim >= 2]
    assert (
        sum(int(np.count_nonzero(array)) for array in weights)
        == kept
        == count_kept(0.1, prunable(model))
    )
    assert sorted(array.size for array in weights) == sorted(
        weight.numel() for weight in prunable(model).values()
    )


@pytest.mark.parametrize("name", SHAPES)
def test_the_file_tells_nothing_of_the_machine(files, name):
    content = files[name][1]
    for secret in (str(paths.ROOT), sys.prefix, "site-packages", ".py", "torch.nn"):
        assert secret.encode() not in content, secret
    [images], [outputs] = (
        getattr(onnx.load_from_string(content).graph, part) for part in ("input", "output")
    )
    assert (images.name, outputs.name) == ("images", "logits")
    assert [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim] == [
        "n",
        *SHAPES[name],
    ]


def test_the_same_network_gives_the_same_bytes(files):
    assert export.onnx(ticket("mlp"), SHAPES["mlp"]) == files["mlp"][1]


def test_the_exported_program_takes_any_number_of_images_and_leaves_the_network_as_it_was(files):
    model = ticket("convnet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = export.program(model, SHAPES["convnet"]).module()
    x = torch.randn(5, *SHAPES["convnet"])
    assert model.training and all(
        torch.equal(before[name], value) for name, value in model.state_dict().items()
    )
    with torch.no_grad():
        assert apart(found(x), model.eval()(x)) <= 1e-5


def test_a_smaller_network_exports_too(files):
    model, content = ticket("convnet"), files["convnet"][1]
    with torch.no_grad():
        model.conv2.weight[::2] = 0
    smaller = export.onnx(compact(model), SHAPES["convnet"])
    assert len(smaller) < 0.9 * len(content)
    x = torch.randn(5, *SHAPES["convnet"])
    with torch.no_grad():
        assert apart(export.outputs(export.session(smaller), x), model.eval()(x)) <= 1e-5


def test_outputs_that_differ_are_refused(monkeypatch):
    monkeypatch.setattr(export, "outputs", lambda session, x: np.full((len(x), 3), 0.5, np.float32))
    with pytest.raises(
        ValueError,
        match=r"outputs of the ONNX file differ from the network's by \S+, expected at most \S+\.",
    ):
        export.onnx(ticket("mlp"), SHAPES["mlp"])


def test_outputs_that_are_not_numbers_are_refused():
    model = ticket("mlp")
    model.linear1.bias.data[0] = float("nan")
    with pytest.raises(
        ValueError, match="outputs of the exported program differ from the network's by nan"
    ):
        export.program(model, SHAPES["mlp"])


@pytest.mark.parametrize("name", SHAPES)
def test_int8_is_smaller_and_near_but_not_the_same(files, name, caplog):
    model, content = files[name]
    with caplog.at_level(logging.WARNING):
        small = export.int8(content)
    assert not caplog.records and not logging.getLogger().filters
    assert len(small) < 0.45 * len(content)
    x = torch.rand(20, *SHAPES[name], generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        expected = model.eval()(x)
    difference = apart(export.outputs(export.session(small), x), expected)
    assert 1e-5 < difference < 0.2 * float(expected.abs().max())
    weights = [
        array for array in onnx.load_from_string(small).graph.initializer if len(array.dims) >= 2
    ]
    assert {array.data_type for array in weights} == {onnx.TensorProto.INT8}


def test_operations_worked_by_hand():
    """Two for each weight of a linear layer, whether it is 0 or not; a channel less, and its weights are gone."""
    model = ticket("mlp")
    assert export.flops(model, SHAPES["mlp"]) == 2 * (64 * 128 + 128 * 64 + 64 * 3)
    with torch.no_grad():
        for weight in prunable(model).values():
            weight.fill_(1.0)
        model.linear1.weight[:28] = 0
    assert export.flops(compact(model), SHAPES["mlp"]) == 2 * (64 * 100 + 100 * 64 + 64 * 3)


def test_importing_the_package_does_not_import_what_only_exports_need():
    code = "import sys; import fairlth.shipping.export, fairlth.shipping.compact, fairlth.workflow.experiments; "
    code += "print(sorted({'onnx', 'onnxruntime', 'onnxscript', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=paths.ROOT
    )
    assert done.stdout.strip() == "[]"


class Attention(nn.Module):
    """Folds its images into rows of other numbers: twice and eight times as many."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        tokens = self.embed(x[:, 0])
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def test_only_the_batch_is_free_and_what_follows_from_it_has_names_of_its_own():
    torch.manual_seed(0)
    model = Attention().eval()
    content = export.onnx(model, (1, 8, 8))
    for n in (1, 5):
        x = torch.randn(n, 1, 8, 8)
        with torch.no_grad():
            assert apart(export.outputs(export.session(content), x), model(x)) <= 1e-5
    graph = onnx.load_from_string(content).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    free = {dim.dim_param for value in values for dim in value.type.tensor_type.shape.dim}
    assert free == {"", "n", "2*n", "8*n"}
    [images] = graph.input
    assert [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim] == [
        "n",
        1,
        8,
        8,
    ]


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    """The card of a trained run."""
    from fairlth.workflow import experiments

    run = config.Run(
        dataset="digits", model="mlp", method="random", density=0.1, seed=0, preset="smoke"
    )
    return experiments.ticket(run, tmp_path_factory.mktemp("runs")).card


def metadata(content):
    return {prop.key: prop.value for prop in onnx.load_from_string(content).metadata_props}


def test_the_file_says_which_classes_what_input_and_which_card(card, tmp_path):
    named = card.model_copy(update={"classes": ["a", "b|\n", "ß"]})
    content = export.onnx(ticket("mlp"), SHAPES["mlp"], named)
    found = metadata(content)
    assert json.loads(found["classes"]) == ["a", "b|\n", "ß"]
    assert found["ticket"] == card.file
    assert found["card_sha256"] == hashlib.sha256(card_bytes(named)).hexdigest()
    assert json.loads(found["preprocessing"]) == {
        "layout": "float32 (images, 1, 8, 8)",
        "size": "8 x 8 pixels",
        "crop": "the largest square at the centre, then averaged down to the size",
        "colour": "grey",
        "scale": "each pixel of 0 to 255 divided by 127.5, minus 1",
    }
    assert found.items() <= metadata(export.int8(content)).items()
    seen = export.session(content).get_modelmeta().custom_metadata_map
    assert seen == found


def test_without_a_card_the_file_still_says_its_input(files):
    assert set(metadata(files["convnet"][1])) == {"preprocessing"}


def test_a_network_without_weights_in_a_layer_is_exported_only_on_asking_twice():
    model = ticket("mlp")
    with torch.no_grad():
        model.linear2.weight.zero_()
    for form in (export.onnx, export.program):
        with pytest.raises(
            ValueError, match="the ticket is dead. All weights of linear2.weight were"
        ):
            form(model, SHAPES["mlp"])
    content = export.onnx(model, SHAPES["mlp"], even_if_dead=True)
    found = export.outputs(export.session(content), torch.randn(3, 1, 8, 8))
    assert found.std(0).max() < 1e-6


def test_a_network_of_constant_outputs_is_dead_though_every_layer_has_weights(card):
    model = ticket("mlp")
    with torch.no_grad():
        model.linear1.bias.fill_(-100.0)
    with pytest.raises(ValueError, match="the ticket is dead. Its outputs are the same for every"):
        export.onnx(model, SHAPES["mlp"])
    with pytest.raises(ValueError, match="even_if_dead=True"):
        export.onnx(model, SHAPES["mlp"], card)


def test_what_the_card_says_of_death_counts(card):
    dead = card.model_copy(update={"dead": "It is gone."})
    with pytest.raises(ValueError, match="the ticket is dead. It is gone. Choose"):
        export.onnx(ticket("mlp"), SHAPES["mlp"], dead)
    assert export.onnx(ticket("mlp"), SHAPES["mlp"], dead, even_if_dead=True)


def test_a_smaller_network_may_have_empty_layers_where_its_ticket_has_none(card):
    """The first half of a block whose second half reads its constants alone."""
    model = ticket("resnet20", density=1.0)
    with torch.no_grad():
        model.block2.conv1.weight[:8] = 0
        model.block2.conv2.weight[:, 8:] = 0
    layers = [{"layer": name, "kept": 1} for name in prunable(model)]
    alive = card.model_copy(update={"layers": layers})
    small = compact(model)
    assert not small.block2.conv1.weight.any()
    assert export.onnx(small, SHAPES["resnet20"], alive)


@pytest.mark.parametrize("in_shape", [(1, 3, 3), (1, 0, 2)])
def test_images_that_the_network_was_not_made_for_are_one_sentence(in_shape):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"^the network fails on images of in_shape=") as caught:
        export.program(model, in_shape)
    assert str(caught.value).endswith(
        "give (channels, side, side) of the images that it was trained on."
    )
    assert "\n" not in str(caught.value)


class Branching(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1)) if float(x.sum()) > -1e9 else x


class Pooling(nn.Linear):
    """Torch exports it, ONNX has no such pooling."""

    def forward(self, x):
        return super().forward(nn.functional.adaptive_max_pool2d(x, 3).flatten(1))


@pytest.mark.parametrize(
    ("model", "where", "cause"),
    [
        (Branching(64, 3), "torch.export", "data-dependent expression"),
        (Pooling(9, 3), "ONNX", "adaptive_max_pool2d"),
    ],
)
def test_what_has_no_form_in_a_graph_is_one_sentence(model, where, cause):
    sentence = (
        rf"^{where} has no form of this network for any number of images \(.*{cause}.*\): let"
    )
    with pytest.raises(ValueError, match=sentence) as refused:
        export.onnx(model, (1, 8, 8))
    assert str(refused.value).isprintable()  # no colours of a terminal, no second line


def test_operations_of_attention_are_counted():
    """Projections of queries, keys, values and outputs, and two products of n x n."""
    n, width = 16, 8

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

        def forward(self, x):
            tokens = x.reshape(len(x), n, width)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    before = torch.backends.mha.get_fastpath_enabled()
    assert export.flops(Attending(), (2, 8, 8)) == 2 * (4 * n * width**2 + 2 * n**2 * width)
    assert torch.backends.mha.get_fastpath_enabled() == before
