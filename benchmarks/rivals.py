"""The loop that people write instead of using a package: what the package is compared with.

Nothing here is used by `fairlth`. It is a `DataLoader` over PIL images with torchvision's
transforms, `torch.nn.utils.prune` masks, SGD with a schedule of learning rates, and an evaluation
whose per-class accuracies are counted by a Python loop.
"""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fairlth.config import Schedule
from fairlth.images import Data, Split
from fairlth.masks import MaskSet
from fairlth.training import learning_rate


class Pictures(Dataset):
    """Images as arrays, handed out as by torchvision's CIFAR10: one PIL image, transformed."""

    def __init__(self, split: Split, transform: Callable) -> None:
        self.images = split.x.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = split.y.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


class Rival:
    """The plain loop on a model and a mask."""

    def __init__(
        self, model: nn.Module, mask: MaskSet, data: Data, schedule: Schedule, seed: int = 0
    ) -> None:
        normalize = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
        moves = [transforms.RandomCrop(32, padding=schedule.shift)] if schedule.shift else []
        moves += [transforms.RandomHorizontalFlip()] if data.mirror else []
        torch.manual_seed(seed)
        training = Pictures(data.train, transforms.Compose(moves + normalize))
        self.train = DataLoader(training, schedule.batch_size, shuffle=True, drop_last=True)
        self.test = DataLoader(
            Pictures(data.test, transforms.Compose(normalize)), schedule.batch_size
        )
        self.model = model
        self.n_classes = data.test.n_classes
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=1.0,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
        )
        self.rates = LambdaLR(
            self.optimizer, lambda step: learning_rate(schedule, step / len(self.train))
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
            self.rates.step()
            running += loss.item()

    def evaluate(self) -> tuple[list[int], list[int]]:
        """Right predictions and images of each class."""
        self.model.eval()
        right = [0] * self.n_classes
        total = [0] * self.n_classes
        with torch.no_grad():
            for images, labels in self.test:
                for label, guess in zip(labels, self.model(images).argmax(1), strict=True):
                    right[label] += int(label == guess)
                    total[label] += 1
        return right, total
