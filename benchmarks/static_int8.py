"""Static int8 beside float32 and dynamic int8: bytes and latency in ONNX Runtime.

    python -m benchmarks.static_int8

Networks are trained for a few steps on random images. Rounds of the forms take turns; a ratio is a
median over rounds with its quartiles.
"""

import statistics

import torch
from tqdm.auto import tqdm

from benchmarks.export import IMAGES, IN_SHAPE, ROUNDS, timed, trained
from benchmarks.rounds import ratio
from fairlth.config import paths
from fairlth.shipping.export import int8, onnx
from fairlth.shipping.static_int8 import METHODS, static_int8
from fairlth.workflow.cost import random_images

NETWORKS = ("vgg11_small", "resnet20", "resnet18")
CALIBRATED_ON = 128  # images
ROW = "{:12s} {:22s} {:>6s}  {:26s} {:26s}"


def forms(name: str) -> dict[str, bytes]:
    """A network's ONNX files by form; `dense` is float32."""
    content = onnx(trained(name), IN_SHAPE)
    images = random_images(CALIBRATED_ON, IN_SHAPE[1]).train.x
    found = {"dense": content, "dynamic int8": int8(content)}
    for method in METHODS:
        found[f"static int8, {method}"] = static_int8(content, images, method)
    return found


def main() -> None:
    """Prints one line per network and form."""
    torch.set_num_threads(paths.THREADS)
    print(
        f"over float32, {paths.THREADS} thread(s); latencies: medians and quartiles of {ROUNDS} "
        "rounds in turn"
    )
    print(ROW.format("network", "form", "bytes", *(f"{n} per call" for n in IMAGES)))
    for name in tqdm(NETWORKS, unit="network"):
        found = forms(name)
        seconds_of = {n: timed(found, n) for n in IMAGES}
        for form, content in found.items():
            share = f"{len(content) / len(found['dense']):.2f}"
            if form != "dense":
                ratios = [ratio(seconds, form, "dense") for seconds in seconds_of.values()]
                print(ROW.format(name, form, share, *ratios), flush=True)
        calls = [
            f"{1000 * statistics.median(spent['dense']):.2f} ms" for spent in seconds_of.values()
        ]
        print(f"{name}: float32 takes {' and '.join(calls)}")


if __name__ == "__main__":
    main()
