import re

import pytest
import torch

from fairlth.images import Split, as_float
from fairlth.models import build
from fairlth.shipping import export
from fairlth.shipping.static_int8 import calibration_rows, static_int8

SHAPE = (3, 16, 16)


def split(groups):
    group = torch.tensor(groups)
    x = torch.zeros(len(group), 1, 2, 2, dtype=torch.uint8)
    return Split(x, torch.zeros_like(group), group, 1, int(group.max()) + 1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_balanced_rows_are_equally_many_of_each_group():
    images = split([0] * 50 + [1] * 5 + [2] * 45)
    rows = calibration_rows(images, 13, generator(), balanced=True)
    assert images.group[rows].bincount().tolist() == [5, 4, 4]
    assert rows.tolist() == sorted(set(rows.tolist()))
    plain = calibration_rows(images, 50, generator())
    assert len(set(plain.tolist())) == 50 and plain.tolist() == sorted(plain.tolist())


def test_rows_follow_their_generator():
    images = split([0, 1] * 50)
    for balanced in (False, True):
        first, again, other = (
            calibration_rows(images, 20, generator(seed), balanced).tolist() for seed in (0, 0, 1)
        )
        assert first == again != other


@pytest.mark.parametrize(
    ("groups", "n", "balanced", "sentence"),
    [
        ([0] * 3 + [1], 4, True, "group 1 has 1 validation images, 2 are wanted to calibrate on"),
        ([0] * 3 + [2], 3, True, "group 1 has 0 validation images, 1 are wanted to calibrate on"),
        ([0] * 3, 4, False, "the split has 3 validation images, 4 are wanted to calibrate on"),
    ],
)
def test_too_few_images_are_refused(groups, n, balanced, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        calibration_rows(split(groups), n, generator(), balanced)


@pytest.fixture(scope="module")
def shipped():
    """A network with batch statistics of its own, as ONNX, and images."""
    model = build("convnet", SHAPE, 5, generator())
    images = torch.randint(0, 256, (64, *SHAPE), generator=generator(1), dtype=torch.uint8)
    with torch.no_grad():
        for _ in range(10):
            model(as_float(images))
    return export.onnx(model.eval(), SHAPE), images


def logits(content, images):
    return torch.from_numpy(export.outputs(export.session(content), as_float(images)))


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_int8_weighs_little_and_says_nearly_the_same(shipped, method, capfd):
    content, images = shipped
    found = static_int8(content, images, method)
    assert capfd.readouterr().out == ""
    assert len(found) < 0.45 * len(content)
    exact = logits(content, images)
    rounded = logits(found, images)
    assert 0 < (rounded - exact).abs().max() < 0.25 * exact.abs().max()
    assert static_int8(content, images, method) == found


def test_weights_and_inputs_of_convolutions_are_integers(shipped):
    import onnx

    content, images = shipped
    graph = onnx.load_from_string(static_int8(content, images)).graph
    made_by = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 4
    for node in convolutions:
        assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2


def test_what_the_images_show_and_the_method_change_the_file(shipped):
    content, images = shipped
    found = static_int8(content, images)
    assert static_int8(content, images // 4) != found
    assert static_int8(content, images, "percentile") != found


def test_bad_input_is_one_sentence(shipped):
    content, images = shipped
    with pytest.raises(ValueError, match="method='minmax' is unknown: choose one of entropy, perc"):
        static_int8(content, images, "minmax")
    with pytest.raises(ValueError, match="there is no image to calibrate on: give some hundreds"):
        static_int8(content, images[:0])


def test_forms_are_timed_in_turn(shipped, monkeypatch):
    content, images = shipped
    asked = []
    monkeypatch.setattr(export, "_called", lambda own, x, calls: asked.append(calls) or 0.01)
    found = export.latency({"dense": content, "again": content}, images[:4], rounds=3)
    assert found == {"dense": [0.01] * 3, "again": [0.01] * 3}
    assert asked == [2, 2, 3] + [5] * 6  # 0.05 s a round


@pytest.mark.parametrize("content", [b"", b"not onnx", bytes(100)])
def test_bytes_that_are_no_onnx_file_are_one_sentence(shipped, content):
    _, images = shipped
    told = f"^these {len(content)} bytes are no ONNX file: give what `export.onnx` has written.$"
    for use in (export.session, export.int8, lambda one: static_int8(one, images)):
        with pytest.raises(ValueError, match=told):
            use(content)
