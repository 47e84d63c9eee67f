"""Static int8: an ONNX file whose layers compute in 8-bit integers, calibrated on images.

On a processor with 8-bit products (AVX-512 VNNI) it is several times faster than float32, where
dynamic int8 (`export.int8`) is slower. What calibration images show decides how numbers are
rounded, so it decides for whom: they can be drawn as they come, or as many of each group.
"""

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from fairlth.images import Split, as_float
from fairlth.shipping.export import INPUT, proto_of, quiet_quantisation

METHODS = ("entropy", "percentile")


def calibration_rows(
    split: Split, n: int, generator: torch.Generator, balanced: bool = False
) -> Tensor:
    """Numbers (n,) of images to calibrate on, each at most once, in their order in the split.

    Args:
        split: validation images.
        n: how many.
        generator: draws them, on CPU.
        balanced: equally many of each group, and one more of the first groups where n is no
            multiple of their number; False: as they come.

    Raises:
        ValueError: there are fewer images than that, in a group or in all.
    """
    order = torch.randperm(len(split), generator=generator)
    if not balanced:
        _check_enough("the split", n, len(split))
        return order[:n].sort().values
    chosen = []
    groups = split.group.cpu()[order]
    for group in range(split.n_groups):
        share = n // split.n_groups + (group < n % split.n_groups)
        own = order[groups == group]
        _check_enough(f"group {group}", share, len(own))
        chosen.append(own[:share])
    return torch.cat(chosen).sort().values


def static_int8(content: bytes, images: Tensor, method: str = "entropy") -> bytes:
    """An ONNX file with weights and inputs of its layers as 8-bit integers.

    This is ONNX Runtime's static quantisation: weights per channel, inputs by what they were on
    calibration images. Outputs differ from the network's, so its fairness has to be measured again.

    Args:
        content: an ONNX file as `export.onnx` writes it.
        images: (n, channels, side, side) uint8, to calibrate on; some hundreds are enough.
        method: how the range of an input is chosen: "entropy" (Migacz, 2017, "8-bit inference with
            TensorRT": the one that loses least information) or "percentile" (all but the largest
            one in 100 000 values).

    Raises:
        ValueError: there is no image, or no such method, or it is no ONNX file.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown: choose one of {', '.join(METHODS)}.")
    if not len(images):
        raise ValueError("there is no image to calibrate on: give some hundreds.")
    chosen = getattr(CalibrationMethod, method.capitalize())
    # one by one: ONNX Runtime takes batches of one size alone
    inputs = ({INPUT: as_float(one.cpu()).contiguous().numpy()} for one in images.split(1))
    reader = SimpleNamespace(get_next=lambda: next(inputs, None))
    silent = redirect_stdout(io.StringIO())  # it prints what it collects
    with tempfile.TemporaryDirectory() as folder, quiet_quantisation(), silent:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            proto_of(content),
            path,
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=chosen,
        )
        return path.read_bytes()


def _check_enough(where: str, wanted: int, there: int) -> None:
    if wanted > there:
        raise ValueError(
            f"{where} has {there} validation images, {wanted} are wanted to calibrate on: "
            "take fewer, or do without balance."
        )
