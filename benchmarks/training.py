"""Training throughput compared with the plain loop that people write instead.

    make bench

Images, network, batch, steps and threads are the same. The rival (`rivals.py`) is (a) the plain
loop at the settings of preset `small`; (b) the same at those of the field's reference
lottery-ticket code: ResNet-20, batch 128, images mirrored and cropped. A round is some training
steps and the evaluation of a third as many test images. Rounds take turns, each variant in a
process of its own. `studies/accuracy.py` shows that all variants end at the same accuracy.
"""

import statistics
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.rivals import Rival
from benchmarks.rounds import Apart, Way, ratio, time_in_turn
from fairlth.config import PRESETS, Schedule
from fairlth.images import Data
from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.metrics import Counts
from fairlth.models import build
from fairlth.selection import magnitude
from fairlth.training import Trainer, predict
from fairlth.workflow.cost import random_images

ROUNDS = 7
STEPS = 24  # per round
THREADS = 2
DENSITY = 0.05
SMALL = PRESETS["small"].schedule
REFERENCE = Schedule(epochs=160, batch_size=128, lr=0.1, shift=4)
CASES = {
    "(a) convnet, batch 64": ("convnet", SMALL),
    "(a) resnet20, batch 64": ("resnet20", SMALL),
    "(b) resnet20, batch 128, crops": ("resnet20", REFERENCE),
}
OURS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "float32"},
    "bfloat16": {"precision": "bfloat16"},
    "float32, compiled": {"precision": "float32", "compile": True},
    "bfloat16, compiled": {"precision": "bfloat16", "compile": True},
}


class Ours:
    """The package's trainer and prediction, with the rival's two verbs."""

    def __init__(
        self, model: nn.Module, mask: MaskSet, data: Data, schedule: Schedule, seed: int = 0
    ) -> None:
        mask.apply(model)
        self.trainer = Trainer(model, data, schedule, seed, mask.apply)
        self.data = data
        self.model = model
        self.epochs = 0

    def epoch(self) -> None:
        """Trains on all images once."""
        self.trainer.epoch(self.epochs)
        self.epochs += 1

    def evaluate(self) -> Counts:
        """Right predictions and images of each class."""
        return predict(self.model, self.data.test).by_group()


def masked(model_name: str, data: Data, seed: int = 0) -> tuple[nn.Module, MaskSet]:
    """A fresh network and the mask of its largest weights."""
    model = build(model_name, data.in_shape, 10, torch.Generator().manual_seed(seed))
    model.to(data.train.y.device)
    weights = prunable(model)
    return model, MaskSet.from_scores(magnitude(weights), count_kept(DENSITY, weights))


def contender(name: str, model_name: str, schedule: Schedule) -> Way:
    """A round of one variant: some training steps, and the evaluation of a third as many images."""
    torch.set_num_threads(THREADS)
    images = random_images(STEPS * schedule.batch_size, 32)
    test = images.train.take(torch.arange(len(images.train) // 3))
    data = replace(images, val=test, test=test)
    model, mask = masked(model_name, data)
    if name == "rival":
        return partial(one_round, Rival(model, mask, data, schedule))
    own_schedule = schedule.model_copy(update=OURS[name])
    return partial(one_round, Ours(model, mask, data, own_schedule))


def one_round(loop: Rival | Ours) -> None:
    """An epoch and an evaluation."""
    loop.epoch()
    loop.evaluate()


def main() -> None:
    """Prints one line per rival, network and variant of ours."""
    print(
        f"rival's time over ours, {THREADS} threads, medians and quartiles of {ROUNDS} rounds of "
        f"{STEPS} steps in turn"
    )
    for title, (model_name, schedule) in CASES.items():
        ways: dict[str, Way] = {
            name: Apart(contender, name, model_name, schedule) for name in ("rival", *OURS)
        }
        seconds = time_in_turn(ways, ROUNDS, title)
        for name in OURS:
            gain = ratio(seconds, "rival", name)
            images = STEPS * schedule.batch_size / statistics.median(seconds[name])
            print(f"{title:31s} {name:19s} {gain}   ours {images:.0f} images/s")


if __name__ == "__main__":
    main()
