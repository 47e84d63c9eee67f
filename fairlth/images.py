"""Images on a device: a split, the three splits of a run, pixels as floats, augmentation."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Split:
    """Images and their labels, all on one device.

    `x` (n, channels, side, side) uint8; `y` (n,) class in 0 ... n_classes - 1 and `group` (n,) in
    0 ... n_groups - 1, int64.
    """

    x: Tensor
    y: Tensor
    group: Tensor
    n_classes: int
    n_groups: int

    def __len__(self) -> int:
        return len(self.y)

    @property
    def cells(self) -> Tensor:
        """(n,) the (class, group) cell of each image: class * n_groups + group."""
        return self.y * self.n_groups + self.group

    @property
    def n_cells(self) -> int:
        """How many (class, group) cells there could be."""
        return self.n_classes * self.n_groups

    def to(self, device: torch.device) -> "Split":
        """The same split on a device, the images channels last."""
        x = self.x.to(device).contiguous(memory_format=torch.channels_last)
        return replace(self, x=x, y=self.y.to(device), group=self.group.to(device))

    def take(self, rows: Tensor) -> "Split":
        """The images with these numbers (k,), in this order."""
        return replace(self, x=self.x[rows], y=self.y[rows], group=self.group[rows])


@dataclass(frozen=True)
class Data:
    """What a run learns from (`train`), chooses by (`val`) and reports on (`test`)."""

    train: Split
    val: Split
    test: Split
    classes: list[str]
    groups: list[str]
    mirror: bool

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(channels, side, side)."""
        return tuple(self.train.x.shape[1:])


def as_float(x: Tensor) -> Tensor:
    """uint8 pixels 0..255 to float32 in [-1, 1], the scale that every model expects."""
    return x.float().div_(127.5).sub_(1.0)


def augment(x: Tensor, shift: int, mirror: bool, generator: torch.Generator) -> Tensor:
    """Mirrors half of the images and moves each by up to `shift` pixels both ways.

    The standard augmentation of CIFAR training: mirror, crop from a zero-padded image (He et al.,
    2016, section 4.2). Images (b, c, h, w) in, the same shape out.
    """
    if mirror:
        coin = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
        x = torch.where(coin, x.flip(3), x)
    return _move(x, shift, generator) if shift else x


def _move(x: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Each image moved by its own number of rows and columns, what comes in is 0."""
    b, _, h, w = x.shape
    high = 2 * shift + 1
    first_row = torch.randint(0, high, (b, 1, 1), generator=generator, device=x.device)
    first_column = torch.randint(0, high, (b, 1, 1), generator=generator, device=x.device)
    rows = first_row + torch.arange(h, device=x.device)[:, None]
    columns = first_column + torch.arange(w, device=x.device)
    images = torch.arange(b, device=x.device)[:, None, None]
    padded = torch.nn.functional.pad(x, (shift,) * 4).permute(0, 2, 3, 1)
    return padded[images, rows, columns].permute(0, 3, 1, 2)


def lay_like_images(model: nn.Module) -> nn.Module:
    """Lays a network's tensors of four dimensions out as `Split` does its images, channels last, in
    place. Others, such as kernels of three-dimensional convolutions, have no such form.
    """
    for value in (*model.parameters(), *model.buffers()):
        if value.dim() == 4:
            value.data = value.data.to(memory_format=torch.channels_last)
    return model
