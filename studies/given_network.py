"""A trained network and the tickets that come out of it: what do they lose against it as given?

    python studies/given_network.py train resnet18                    by a plain loop
    python studies/given_network.py choose resnet18                   the learning rate
    python studies/given_network.py prune resnet18 --seeds 0 1 2      tickets
    python studies/given_network.py table                             all into given_network.md

The networks are torchvision's resnet18 and a small vision transformer, on fer2013 at its 48 pixels,
whose validation and test splits are fixed. The loop is torch alone, on training images only, and
saves a state dict. Tickets start from these weights (`trained=True`) with preset `finetune`; its
images, epochs, learning rate, precision, size of images and densities are those at the top of this
file. The learning rate was chosen by `lth_rate`'s ticket of seed 0 at density 0.2 on validation
images: of 5e-5 and 2e-4 for resnet18, of RATES for the transformer.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from fairlth import config, data, metrics, models
from fairlth.analysis import records, summaries
from fairlth.config import PRESETS, Run, Task, paths
from fairlth.images import Data, Split
from fairlth.metrics import Interval
from fairlth.workflow import cost, experiments

N_CLASSES = 7
SIDE = 48
EPOCHS = {"resnet18": 12, "vit_small": 30}
LR = {"resnet18": 2e-3, "vit_small": 1e-3}  # of AdamW, at its top
LOW = {"resnet18": True, "vit_small": False}  # products in bfloat16, where that is faster here
BATCH = 128
MOVED = 4  # pixels that a training image is moved at most, each way
N_TRAIN = {"resnet18": 6000, "vit_small": 12000}  # images that tickets are trained on
EPOCHS_AFTER = 3  # of a ticket's plain training
RATES = (5e-5, 2e-4, 1e-3)  # of AdamW; the first is that of the preset
CHOSEN = {"resnet18": 5e-5, "vit_small": 1e-3}
DENSITIES = (0.2, 0.1)
SHIFT = 0.25  # of the recipe: the long ticket, its biases shifted so far of the way
METHODS = ("magnitude", "lth_rate", "lth_long", "ballot")
PAGE = Path(__file__).resolve().parent / "given_network.md"
HEAD = """\
# Tickets of a trained network

Written by `given_network.py`. A network was trained on fer2013 (7 classes, 48 pixels) by a plain
loop on all training images, and given to the package with `trained=True`. Tickets are compared with
it on test images: points of accuracy above or below it, and their CWV over its own (below 1 is
fairer). Means over three seeds with 95 % t intervals, all from the one given network. `lth_long,
shift 0.25` is the recipe of the main page: the long ticket, its class biases shifted a quarter of
the way that would be fairest on validation images.
"""


def resnet18() -> nn.Module:
    """torchvision's, for one channel."""
    from torchvision.models import resnet18

    network = resnet18(num_classes=N_CLASSES)
    network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return network


class Grey(nn.Module):
    """Grey images for a network that reads three channels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.network(x.expand(-1, 3, -1, -1))


def vit_small() -> nn.Module:
    """torchvision's vision transformer, small: four layers of four heads, patches of 8 pixels."""
    from torchvision.models import VisionTransformer

    sizes = {"num_layers": 4, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 128}
    return Grey(VisionTransformer(SIDE, 8, dropout=0.1, num_classes=N_CLASSES, **sizes))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"resnet18": resnet18, "vit_small": vit_small}


def images() -> Data:
    """fer2013 at 48 pixels: all of its three splits."""
    scale = PRESETS["finetune"].model_copy(update={"image_size": SIDE})
    PRESETS["given"] = scale
    run = Run(
        dataset="fer2013", model="convnet", method="dense", density=1.0, seed=0, preset="given"
    )
    loaded = data.load(run)
    cpu = torch.device("cpu")  # the plain loop stays there
    return replace(loaded, train=loaded.train.to(cpu), val=loaded.val.to(cpu))


def weights_of(name: str) -> Path:
    """Where the plain loop leaves the weights."""
    return paths.RUNS / "given" / f"{name}.pt"


def train(name: str) -> None:
    """Trains a network by a plain loop and saves its state dict."""
    torch.manual_seed(0)
    network = NETWORKS[name]().to(memory_format=torch.channels_last)
    loaded = images()
    x = loaded.train.x
    y = loaded.train.y
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    steps = len(x) // BATCH
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR[name], epochs=EPOCHS[name], steps_per_epoch=steps, pct_start=0.2
    )
    for epoch in range(EPOCHS[name]):
        started = time.perf_counter()
        network.train()
        for rows in torch.randperm(len(x))[: steps * BATCH].split(BATCH):
            batch = moved(x[rows].float() / 127.5 - 1)
            with torch.autocast("cpu", torch.bfloat16, enabled=LOW[name]):
                outputs = network(batch)
            loss = F.cross_entropy(outputs.float(), y[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
        spent = time.perf_counter() - started
        print(
            f"epoch {epoch}: validation {accuracy(network, loaded.val):.4f}, {spent:.0f} s",
            flush=True,
        )
    weights_of(name).parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), weights_of(name))


def moved(x: torch.Tensor) -> torch.Tensor:
    """Images mirrored by a coin each and moved together by some pixels."""
    coin = torch.rand(len(x), 1, 1, 1) < 0.5
    x = torch.where(coin, x.flip(3), x)
    down, right = torch.randint(2 * MOVED + 1, (2,)).tolist()
    padded = F.pad(x, [MOVED] * 4)
    return padded[:, :, down : down + SIDE, right : right + SIDE].contiguous(
        memory_format=torch.channels_last
    )


def accuracy(network: nn.Module, split: Split) -> float:
    """The share of a split's images that a network has right."""
    network.eval()
    with torch.no_grad():
        found = [network(x.float() / 127.5 - 1).argmax(1) for x in split.x.split(256)]
    return float((torch.cat(found) == split.y).float().mean())


def add(name: str) -> None:
    """Makes the trained network known, as a user's own code does.

    Raises:
        ValueError: it has not been trained.
    """
    if not weights_of(name).exists():
        raise ValueError(f"{name} is not trained: call this with `train {name}` first.")
    network = NETWORKS[name]()
    network.load_state_dict(torch.load(weights_of(name), weights_only=True))
    shape = (1, SIDE, SIDE)
    models.add(f"given_{name}", network, shape, N_CLASSES, trained=True)


def preset(name: str, lr: float) -> str:
    """The preset of a network's tickets, known by a name that says the learning rate."""
    scale = PRESETS["finetune"]
    precision = "bfloat16" if LOW[name] else "float32"
    changes = {"epochs": EPOCHS_AFTER, "lr": lr, "precision": precision}
    own = {
        "tasks": (Task(dataset="fer2013", model=f"given_{name}"),),
        "densities": DENSITIES,
        "schedule": scale.schedule.model_copy(update=changes),
        "n_train": N_TRAIN[name],
        "image_size": SIDE,
    }
    known = f"given-{name}-{lr:g}"
    PRESETS[known] = scale.model_copy(update=own)
    return known


def choose(name: str) -> None:
    """Prints the validation accuracy of `lth_rate`'s ticket of seed 0 by learning rate."""
    add(name)
    for lr in RATES:
        runs = config.grid(preset(name, lr), ("dense", "lth_rate"), DENSITIES[:1], (0,))
        for record in experiments.run_or_load(runs):
            reached = metrics.accuracy(*record.split("val"))
            print(f"{name} {lr:g} {record.run['method']}: validation {reached:.4f}", flush=True)


def prune(name: str, seeds: tuple[int, ...]) -> None:
    """Makes the tickets of some seeds."""
    add(name)
    known = preset(name, CHOSEN[name])
    for seed in seeds:
        experiments.run_or_load(config.grid(known, ("dense", *METHODS), DENSITIES, (seed,)))


def table() -> str:
    """All tickets against their network as given, as Markdown.

    Raises:
        ValueError: a network or a ticket is missing; nothing is written.
    """
    text = HEAD
    for name in NETWORKS:
        add(name)
        text += f"\n## {name}\n\n{_rows(name)}\n"
    paths.write_atomically(PAGE, text.encode())
    return text


def _rows(name: str) -> str:
    """What one network lost as each kind of ticket, and what it was."""
    known = preset(name, CHOSEN[name])
    runs = config.grid(known, ("dense", *METHODS), DENSITIES, PRESETS[known].seeds)
    found = [experiments.usable(run, paths.RUNS) for run in runs]
    there = [record for record in found if record is not None]
    if len(there) < len(runs):
        missing = len(runs) - len(there)
        raise ValueError(f"{missing} of {len(runs)} runs of {name} are missing: prune first.")
    frame = records.table(there)
    as_trained = summaries.per_run(frame)
    shifted = summaries.per_run(frame, f"test+{SHIFT:g}")
    recipe = shifted[shifted["method"] == "lth_long"].assign(method=f"lth_long, shift {SHIFT:g}")
    given = as_trained[as_trained["method"] == "dense"].iloc[0]
    tickets = pd.concat([as_trained[as_trained["method"] != "dense"], recipe])
    rows = []
    for (density, method), own in tickets.groupby(["density", "method"], sort=False):
        log = metrics.mean_interval(np.log(own["cwv"] / given["cwv"]))
        ratio = Interval(np.exp(log.mean), np.exp(log.low), np.exp(log.high), log.n)
        rows.append(
            {
                "density": density,
                "ticket": method,
                "accuracy, points": f"{_points(own, given, 'accuracy'):.1f}",
                "worst class, points": f"{_points(own, given, 'worst_accuracy'):.1f}",
                "CWV, ratio": f"{ratio:.2f}",
                "n": ratio.n,
            }
        )
    rows.sort(key=lambda row: -row["density"])
    seen = (
        f"As given: accuracy {100 * given['accuracy']:.1f} %, worst class "
        f"{100 * given['worst_accuracy']:.1f} %, CWV {1e4 * given['cwv']:.0f} x 1e-4 on "
        f"{given['images']} test images. Tickets: {N_TRAIN[name]} training images, learning rate "
        f"{CHOSEN[name]:g}, {PRESETS[known].schedule.precision}, {cost.device_name()}."
    )
    return f"{seen}\n\n{pd.DataFrame(rows).to_markdown(index=False)}"


def _points(own: pd.DataFrame, given: pd.Series, name: str) -> Interval:
    """How many points a measure is above the given network's: mean over seeds."""
    return metrics.mean_interval(100 * (own[name] - given[name]))


def main() -> None:
    """Does what the first argument says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "choose", "prune", "table"))
    parser.add_argument("network", nargs="?", choices=NETWORKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(paths.THREADS)
    try:
        do(arguments.what, arguments.network, tuple(arguments.seeds))
    except ValueError as error:
        parser.error(str(error))


def do(what: str, network: str | None, seeds: tuple[int, ...]) -> None:
    """One of the four things; ValueError where it needs a network and none is named."""
    if what == "table":
        print(table())
    elif network is None:
        raise ValueError(f"{what} needs the name of a network: {', '.join(NETWORKS)}.")
    elif what == "train":
        train(network)
    elif what == "choose":
        choose(network)
    else:
        prune(network, seeds)


if __name__ == "__main__":
    main()
