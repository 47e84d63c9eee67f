"""What leaves the project says the same as the network that stayed; timings and sizes are measured in benchmarks/export.py."""

import logging
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from fairlth import config, export
from fairlth.compact import compact
from fairlth.masks import MaskSet, count_kept
from fairlth.models import build, prunable
from fairlth.selection import magnitude
from fairlth.training import logits

SHAPES = {"mlp": (1, 8, 8), "convnet": (1, 8, 8), "resnet20": (1, 8, 8)}


def ticket(name, density=0.1):
    """A network with its pruned weights at 0; left in training mode, which an export must not mind."""
    model = build(name, SHAPES[name], 3, torch.Generator().manual_seed(0))
    weights = prunable(model)
    MaskSet.from_scores(magnitude(weights), count_kept(density, weights)).apply(model)
    model.train()(torch.rand(16, *SHAPES[name], generator=torch.Generator().manual_seed(1)))  # moves running statistics
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
    arrays = [numpy_helper.to_array(array) for array in onnx.load_from_string(content).graph.initializer]
    weights = [array for array in arrays if array.ndim >= 2]
    assert sum(int(np.count_nonzero(array)) for array in weights) == kept == count_kept(0.1, prunable(model))
    assert sorted(array.size for array in weights) == sorted(weight.numel() for weight in prunable(model).values())


@pytest.mark.parametrize("name", SHAPES)
def test_the_file_tells_nothing_of_the_machine(files, name):
    content = files[name][1]
    for secret in (str(config.ROOT), sys.prefix, "site-packages", ".py", "torch.nn"):
        assert secret.encode() not in content, secret
    [images], [outputs] = (getattr(onnx.load_from_string(content).graph, part) for part in ("input", "output"))
    assert (images.name, outputs.name) == ("images", "logits")
    assert [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim] == ["n", *SHAPES[name]]


def test_the_same_network_gives_the_same_bytes(files):
    assert export.onnx(ticket("mlp"), SHAPES["mlp"]) == files["mlp"][1]


def test_the_exported_program_takes_any_number_of_images_and_leaves_the_network_as_it_was(files):
    model = ticket("convnet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = export.program(model, SHAPES["convnet"]).module()
    x = torch.randn(5, *SHAPES["convnet"])
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
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
    with pytest.raises(ValueError, match=r"outputs of the ONNX file differ from the network's by \S+, expected at most \S+\."):
        export.onnx(ticket("mlp"), SHAPES["mlp"])


def test_outputs_that_are_not_numbers_are_refused():
    model = ticket("mlp")
    model.linear1.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match="outputs of the exported program differ from the network's by nan"):
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
    weights = [array for array in onnx.load_from_string(small).graph.initializer if len(array.dims) >= 2]
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
    code = "import sys; import fairlth.export, fairlth.compact, fairlth.tickets, fairlth.experiments; "
    code += "print(sorted({'onnx', 'onnxruntime', 'onnxscript', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=config.ROOT)
    assert done.stdout.strip() == "[]"
