"""Training throughput against the plain loop that people write instead, on the same images, network, batch, steps and threads.

    python benchmarks/training.py [--accuracy]

Two rivals, written as their users write them:
(a) `DataLoader` over PIL images with torchvision's transforms, `torch.nn.utils.prune` masks, SGD, and an evaluation whose
    per-class accuracies are counted by a Python loop;
(b) the same with the settings of the field's reference lottery-ticket code: ResNet-20, batch 128, mirrored and cropped images.

Rounds take turns; a round is some training steps and the evaluation of some test images. With --accuracy, both train for a
while on the same images, and their accuracies are printed with the noise of three seeds.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from overhead import random_images, ratio
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fairlth import progress
from fairlth.config import Schedule
from fairlth.data import Data, Split
from fairlth.masks import MaskSet, count_kept
from fairlth.models import build, prunable
from fairlth.selection import magnitude
from fairlth.training import Trainer, predict

ROUNDS, STEPS, TESTED, THREADS = 7, 24, 1000, 2
DENSITY = 0.05


class Pictures(Dataset):
    """Images as arrays, handed out as torchvision's CIFAR10 does: one PIL image at a time, transformed."""

    def __init__(self, split: Split, transform: Callable) -> None:
        self.images = split.x.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets, self.transform = split.y.tolist(), transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


class Rival:
    """The plain loop."""

    def __init__(self, model: nn.Module, mask: MaskSet, data: Data, schedule: Schedule) -> None:
        normalize = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
        moves = [transforms.RandomHorizontalFlip()] + ([transforms.RandomCrop(32, padding=4)] if schedule.shift else [])
        training = Pictures(data.train, transforms.Compose(moves + normalize))
        self.train = DataLoader(training, schedule.batch_size, shuffle=True, drop_last=True)
        self.test = DataLoader(Pictures(data.test, transforms.Compose(normalize)), schedule.batch_size)
        self.model, self.n_classes = model, data.test.n_classes
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
        )
        for name, module in model.named_modules():
            if f"{name}.weight" in mask:
                prune.custom_from_mask(module, "weight", mask[f"{name}.weight"])

    def epoch(self) -> None:
        """Trains on all images once."""
        self.model.train()
        running = 0.0
        for images, labels in self.train:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            running += loss.item()

    def evaluate(self) -> list[float]:
        """Accuracy of each class."""
        self.model.eval()
        right, total = [0] * self.n_classes, [0] * self.n_classes
        with torch.no_grad():
            for images, labels in self.test:
                for label, guess in zip(labels, self.model(images).argmax(1), strict=True):
                    right[label] += int(label == guess)
                    total[label] += 1
        return [r / max(t, 1) for r, t in zip(right, total, strict=True)]


class Ours:
    """The package's trainer and prediction."""

    def __init__(self, model: nn.Module, mask: MaskSet, data: Data, schedule: Schedule) -> None:
        mask.apply(model)
        self.trainer, self.data, self.model = Trainer(model, data, schedule, 0, mask.apply), data, model

    def epoch(self) -> None:
        """Trains on all images once."""
        self.trainer.epoch(0)

    def evaluate(self) -> list[float]:
        """Accuracy of each class."""
        counts = predict(self.model, self.data.test).by_group()
        return list(counts.correct / np.maximum(counts.total, 1))


def masked(model_name: str, data: Data) -> tuple[nn.Module, MaskSet]:
    """A fresh network and the mask of its largest weights."""
    model = build(model_name, data.in_shape, 10, torch.Generator().manual_seed(0))
    return model, MaskSet.from_scores(magnitude(prunable(model)), count_kept(DENSITY, prunable(model)))


def measure(model_name: str, schedule: Schedule) -> dict[str, list[float]]:
    """Seconds of each round, by variant; a first round warms up and is not counted."""
    data = random_images(STEPS * schedule.batch_size)
    test = Split(data.train.x[:TESTED], data.train.y[:TESTED], data.train.group[:TESTED], 10, 10)
    data = Data(data.train, test, test, data.classes, data.groups, mirror=True)
    low = schedule.model_copy(update={"precision": "bfloat16"})
    loops = {
        "rival": Rival(*masked(model_name, data), data, schedule),
        "float32": Ours(*masked(model_name, data), data, schedule),
        "bfloat16": Ours(*masked(model_name, data), data, low),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(ROUNDS + 1):
        for name, loop in loops.items():
            started = time.perf_counter()
            loop.epoch()
            loop.evaluate()
            if number:
                seconds[name].append(time.perf_counter() - started)
        progress.say(f"{model_name}: round {number} of {ROUNDS}")
    return seconds


CASES = {
    "(a) convnet, batch 64": ("convnet", Schedule(epochs=8, batch_size=64, lr=0.05)),
    "(a) resnet20, batch 64": ("resnet20", Schedule(epochs=8, batch_size=64, lr=0.05)),
    "(b) resnet20, batch 128, crops": ("resnet20", Schedule(epochs=8, batch_size=128, lr=0.1, shift=4)),
}


def main() -> None:
    """Prints one line per rival and network."""
    torch.set_num_threads(THREADS)
    for title, (model_name, schedule) in CASES.items():
        seconds = measure(model_name, schedule)
        for name in ("float32", "bfloat16"):
            images = STEPS * schedule.batch_size / statistics.median(seconds[name])
            print(f"{title:32s} rival / ours in {name:8s} {ratio(seconds, 'rival', name)}   ours {images:.0f} images/s")


if __name__ == "__main__":
    main()
