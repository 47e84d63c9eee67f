"""A ticket for other programs: torch.export and ONNX, both checked, and ONNX in int8."""

import copy
import hashlib
import json
import logging
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fairlth.config import paths
from fairlth.images import Split, as_float
from fairlth.masks import prunable
from fairlth.models.checks import check_no_masks, first_line
from fairlth.shipping.card import Card, card_bytes, preprocessing, why_dead
from fairlth.training import PREDICT_BATCH

TOLERANCE = 1e-5  # of the largest output, or of 1 where all are smaller
INPUT, OUTPUT = "images", "logits"  # names in ONNX
CHECKED = (1, 2, 7)  # batch sizes that a form is checked with
ROUND = 0.05  # seconds of a round of calls, about
_NO_ONNX = "these {:,} bytes are no ONNX file: give what `export.onnx` has written."
LOOKED_AT = 16  # images of noise whose outputs tell a dead network


def program(
    model: nn.Module,
    in_shape: tuple[int, ...],
    card: Card | None = None,
    *,
    even_if_dead: bool = False,
) -> torch.export.ExportedProgram:
    """The network in evaluation mode as torch.export's graph, for any number of images.

    It stays in memory: torch's own file format for it has parts that run code when they are read.
    The form for files is `onnx`.

    Args:
        model: its pruned weights exactly 0, as in a loaded ticket: the mask is part of its weights.
        in_shape: (channels, side, side) of one image.
        card: of the ticket, if there is one; it knows which layers lost all their weights.
        even_if_dead: exports a dead ticket, too.

    Raises:
        ValueError: the network has masks of `torch.nn.utils.prune`, fails on images of `in_shape`
            or does what has no form in the graph; the ticket is dead (see `card.why_dead`); or the
            graph's outputs differ from the network's by more than TOLERANCE.
    """
    check_no_masks(type(model).__name__, model)
    plain = copy.deepcopy(model).eval().cpu()
    try:
        plain(torch.zeros(2, *in_shape))
    except Exception as error:
        raise ValueError(
            f"the network fails on images of in_shape={tuple(in_shape)} ({first_line(error)}): "
            "give (channels, side, side) of the images that it was trained on."
        ) from error
    dead = _why_dead(plain, in_shape, card)
    if dead and not even_if_dead:
        raise ValueError(
            f"the ticket is dead. {dead} Choose a higher density, "
            "or pass even_if_dead=True to export it all the same."
        )
    images = {0: torch.export.Dim("images")}
    example = torch.zeros(2, *in_shape)
    try:
        exported = torch.export.export(plain, (example,), dynamic_shapes=(images,))
    except Exception as error:
        raise _no_form("torch.export", error) from error
    check_same("the exported program", exported.module(), plain, in_shape)
    return exported


def onnx(
    model: nn.Module,
    in_shape: tuple[int, ...],
    card: Card | None = None,
    *,
    even_if_dead: bool = False,
) -> bytes:
    """The network in evaluation mode as an ONNX file, for any number of images.

    Its input is `images` (n, *in_shape) float32, its output `logits` (n, classes). Its metadata say
    how pixels become numbers (`preprocessing`, JSON) and, from the card, which `classes` the logits
    are of (JSON), which `ticket` it is, and the card's hash (`card_sha256`). It names no path and
    nothing else of the machine that wrote it.

    Args:
        model, in_shape, card, even_if_dead: as in `program`.

    Raises:
        ValueError: as in `program`, also for the outputs of ONNX Runtime.
    """
    from onnx import checker, helper

    exported = program(model, in_shape, card, even_if_dead=even_if_dead)
    try:
        written: Any = torch.onnx.export(
            exported, (), input_names=[INPUT], output_names=[OUTPUT], verbose=False
        )
    except Exception as error:
        raise _no_form("ONNX", error) from error
    proto = written.model_proto
    _strip(proto.graph)
    _name_batch(proto.graph)
    helper.set_model_props(proto, _metadata(in_shape, card))
    checker.check_model(proto, full_check=True)
    content = proto.SerializeToString()
    ours = session(content)
    plain = copy.deepcopy(model).eval().cpu()
    check_same("the ONNX file", lambda x: torch.from_numpy(outputs(ours, x)), plain, in_shape)
    return content


def int8(content: bytes) -> bytes:
    """An ONNX file with its weights as 8-bit integers; inputs of layers are rounded while it runs.

    This is ONNX Runtime's dynamic quantisation: nothing is calibrated and no image is seen. Outputs
    differ from the network's, so a ticket's fairness has to be measured again.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, quiet_quantisation():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(proto_of(content), path, weight_type=QuantType.QInt8)
        return path.read_bytes()


def proto_of(content: bytes) -> Any:
    """An ONNX file as onnx has it; ValueError where it is none."""
    from onnx import load_from_string

    try:
        proto = load_from_string(content)
    except Exception as error:
        raise ValueError(_NO_ONNX.format(len(content))) from error
    if not proto.graph.node:
        raise ValueError(_NO_ONNX.format(len(content)))
    return proto


def session(content: bytes) -> Any:
    """ONNX Runtime's session of an ONNX file, on CPU.

    Raises:
        ValueError: it is no ONNX file.
    """
    import onnxruntime

    proto_of(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = paths.THREADS
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def outputs(session: Any, x: Tensor) -> Any:
    """The logits, a numpy array (n, classes), of float images x (n, channels, side, side)."""
    return session.run([OUTPUT], {INPUT: x.contiguous().numpy()})[0]


def logits(session: Any, split: Split) -> Tensor:
    """A session's outputs on a split: (n, classes), as `training.logits` gives a network's."""
    batches = split.x.split(PREDICT_BATCH)
    found = [torch.from_numpy(outputs(session, as_float(x.cpu()))) for x in batches]
    return torch.cat(found)


def latency(forms: Mapping[str, bytes], x: Tensor, rounds: int = 9) -> dict[str, list[float]]:
    """Seconds per call in each round of some ONNX files, by form; the forms take turns.

    Args:
        forms: ONNX files; the first decides how many calls a round has, ROUND seconds' worth.
        x: images (n, channels, side, side) uint8 of one call.
        rounds: how many; two more calls of each warm up.
    """
    images = as_float(x.cpu())
    sessions = {name: session(content) for name, content in forms.items()}
    for own in sessions.values():
        _called(own, images, 2)
    first = next(iter(sessions.values()))
    calls = max(1, round(ROUND / _called(first, images, 3)))
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, own in sessions.items():
            seconds[name].append(_called(own, images, calls))
    return seconds


def _called(own: Any, images: Tensor, calls: int) -> float:
    """Seconds per call, over so many calls."""
    started = time.perf_counter()
    for _ in range(calls):
        outputs(own, images)
    return (time.perf_counter() - started) / calls


def flops(model: nn.Module, in_shape: tuple[int, ...]) -> int:
    """Floating-point operations on one image; a product and its addition are two.

    Zeros are multiplied like any weight. Of an LSTM or another recurrent layer torch counts
    nothing. Raises ValueError for a network with masks of `torch.nn.utils.prune`.
    """
    check_no_masks(type(model).__name__, model)
    model = copy.deepcopy(model).eval()
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # torch does not count inside fused attention
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, *in_shape))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops()


def _no_form(where: str, error: Exception) -> ValueError:
    """What to say of a network that an exporter has no form for, with the first cause."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return ValueError(
        f"{where} has no form of this network for any number of images ({first_line(error)}): let "
        "its forward do this by other operations on tensors, without a branch on their values or a "
        "loop over images."
    )


def _why_dead(model: nn.Module, in_shape: tuple[int, ...], card: Card | None) -> str:
    """Why the network is dead, from its card or else its layers, and from its outputs."""
    if card is not None and card.dead:
        return card.dead
    layers = [
        {"layer": name, "kept": int(weight.count_nonzero())}
        for name, weight in prunable(model).items()
    ]
    with torch.no_grad():
        found = model(_random_images(LOOKED_AT, in_shape))
    return why_dead(layers if card is None else card.layers, found)


def _random_images(n: int, in_shape: tuple[int, ...]) -> Tensor:
    """Images (n, *in_shape) of noise in [-1, 1]."""
    generator = torch.Generator().manual_seed(n)
    return 2 * torch.rand(n, *in_shape, generator=generator) - 1


def check_same(
    what: str, ours: Any, model: nn.Module, in_shape: tuple[int, ...], cure: str = ""
) -> None:
    """Compares outputs in batches of several sizes; ValueError where they differ."""
    device = next(model.parameters()).device
    for n in CHECKED:
        x = _random_images(n, in_shape).to(device)
        with torch.no_grad():
            expected = model(x)
            found = ours(x)
        apart = float((found - expected).abs().max())
        allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
        if not apart <= allowed:  # nan is no better
            raise ValueError(
                f"outputs of {what} differ from the network's by {apart:.1e}, "
                f"expected at most {allowed:.1e}{cure}."
            )


def _metadata(in_shape: tuple[int, ...], card: Card | None) -> dict[str, str]:
    """What a program has to know to use the file, as ONNX keeps it: text by name."""
    found = {"preprocessing": json.dumps(preprocessing(in_shape), ensure_ascii=False)}
    if card is not None:
        found["classes"] = json.dumps(card.classes, ensure_ascii=False)
        found["ticket"] = card.file
        found["card_sha256"] = hashlib.sha256(card_bytes(card)).hexdigest()
        found["intended_use"] = card.intended_use
    return found


def _values(graph: Any) -> list[Any]:
    return [*graph.input, *graph.output, *graph.value_info]


def _strip(graph: Any) -> None:
    """Takes out of an ONNX graph what the exporter noted of its origin, paths among it."""
    for part in (graph, *graph.node, *graph.initializer, *_values(graph)):
        part.ClearField("metadata_props")


def _name_batch(graph: Any) -> None:
    """Names the number of images `n`, and what is derived from it by its formula, as in `2*n`."""
    [images] = graph.input
    symbol = re.compile(rf"\b{re.escape(images.type.tensor_type.shape.dim[0].dim_param)}\b")
    for value in _values(graph):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = symbol.sub("n", dimension.dim_param)


@contextmanager
def quiet_quantisation() -> Iterator[None]:
    """Without ONNX Runtime's advice to optimise first, which is done, and its file closed late."""
    logging.getLogger().addFilter(_is_no_advice)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "unclosed file .*onnx", ResourceWarning)
            yield
    finally:
        logging.getLogger().removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()
