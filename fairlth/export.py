"""A ticket for other programs: torch.export and ONNX, both checked against the network, and ONNX in int8."""

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fairlth import config
from fairlth.images import Split, as_float
from fairlth.training import PREDICT_BATCH

TOLERANCE = 1e-5  # of the largest output, or of 1 where all are smaller: what float32 sums in another order differ by
INPUT, OUTPUT = "images", "logits"  # names in ONNX
CHECKED = (1, 2, 7)  # batch sizes that a form is checked with


def program(model: nn.Module, in_shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """The network in evaluation mode as torch.export's graph, for any number of images.

    It stays in memory: torch's own file format for it holds parts that run code when read. On disk it is `onnx`.

    Args:
        model: its pruned weights exactly 0, as in a loaded ticket, so that the mask is part of its weights.
        in_shape: (channels, side, side) of one image.

    Raises:
        ValueError: its outputs differ from the network's by more than TOLERANCE.
    """
    plain = copy.deepcopy(model).eval().cpu()
    images = {0: torch.export.Dim("images")}
    exported = torch.export.export(plain, (torch.zeros(2, *in_shape),), dynamic_shapes=(images,))
    _check("the exported program", exported.module(), plain, in_shape)
    return exported


def onnx(model: nn.Module, in_shape: tuple[int, ...]) -> bytes:
    """The network in evaluation mode as an ONNX file, from `images` (n, *in_shape) float32 to `logits` (n, classes).

    Nothing in it tells of the machine that wrote it. Images are scaled as by `images.as_float`.

    Args:
        model, in_shape: as in `program`.

    Raises:
        ValueError: the outputs of ONNX Runtime differ from the network's by more than TOLERANCE.
    """
    from onnx import checker

    written: Any = torch.onnx.export(program(model, in_shape), (), input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    proto = written.model_proto
    _strip(proto.graph)
    checker.check_model(proto, full_check=True)
    content = proto.SerializeToString()
    ours = session(content)
    _check("the ONNX file", lambda x: torch.from_numpy(outputs(ours, x)), copy.deepcopy(model).eval().cpu(), in_shape)
    return content


def int8(content: bytes) -> bytes:
    """An ONNX file with its weights as 8-bit integers; inputs of each layer are rounded to as many while it runs.

    This is ONNX Runtime's dynamic quantisation: nothing is calibrated, no image is seen. Outputs differ from the network's, so
    that a ticket's fairness has to be measured again.
    """
    from onnx import load_from_string
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet_quantisation():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(load_from_string(content), path, weight_type=QuantType.QInt8)
        return path.read_bytes()


def session(content: bytes, threads: int = config.THREADS) -> Any:
    """ONNX Runtime's session of an ONNX file, on CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def outputs(session: Any, x: Tensor) -> Any:
    """The logits, a numpy array (n, classes), of float images x (n, channels, side, side)."""
    return session.run([OUTPUT], {INPUT: x.contiguous().numpy()})[0]


def logits(session: Any, split: Split) -> Tensor:
    """A session's outputs on a split: (n, classes), as `training.logits` gives a network's."""
    return torch.cat([torch.from_numpy(outputs(session, as_float(x.cpu()))) for x in split.x.split(PREDICT_BATCH)])


def flops(model: nn.Module, in_shape: tuple[int, ...]) -> int:
    """Floating-point operations on one image, a product and its addition being two; zeros are multiplied like any weight."""
    model = copy.deepcopy(model).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *in_shape))
    return counter.get_total_flops()


def _check(what: str, ours: Any, model: nn.Module, in_shape: tuple[int, ...]) -> None:
    """Compares outputs on random images in batches of several sizes; ValueError where they differ."""
    generator = torch.Generator().manual_seed(0)
    for n in CHECKED:
        x = 2 * torch.rand(n, *in_shape, generator=generator) - 1
        with torch.no_grad():
            expected, found = model(x), ours(x)
        apart, allowed = float((found - expected).abs().max()), TOLERANCE * max(1.0, float(expected.abs().max()))
        if not apart <= allowed:
            raise ValueError(f"outputs of {what} differ from the network's by {apart:.1e}, expected at most {allowed:.1e}.")


def _strip(graph: Any) -> None:
    """Takes out of an ONNX graph what the exporter noted of its origin, paths among it, and names the free dimension."""
    values = [*graph.input, *graph.output, *graph.value_info]
    for part in (graph, *graph.node, *graph.initializer, *values):
        part.ClearField("metadata_props")
    for value in values:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = "n"


@contextmanager
def _quiet_quantisation() -> Iterator[None]:
    """Without ONNX Runtime's advice to optimise first, which is done, and its file that is closed late."""
    advice = lambda record: "pre-processing before quantization" not in record.getMessage()  # noqa: E731
    logging.getLogger().addFilter(advice)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "unclosed file .*onnx", ResourceWarning)
            yield
    finally:
        logging.getLogger().removeFilter(advice)
