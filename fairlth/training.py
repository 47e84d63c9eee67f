"""Training and prediction. Of masks it knows nothing: methods pass what follows each step."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from fairlth import config
from fairlth.config import Schedule
from fairlth.images import Data, Split, as_float, augment, lay_like_images
from fairlth.metrics import Counts

SHOWN = 2.0  # seconds before a training shows how far it is
SHAPES = 256  # networks that one process may compile
PREDICT_BATCH = 128  # images: what activations fit in cache by is faster than large batches
PREDICT_ON_GPU = 2048  # images: a GPU is busy with so many


class Batch(NamedTuple):
    """One step's images `x` as floats, their classes, groups, and rows of the training split."""

    x: Tensor
    y: Tensor
    group: Tensor
    rows: Tensor


AfterStep = Callable[[nn.Module], None]
# from the outputs (batch, classes) to the scalar that a step lowers
Loss = Callable[[Tensor, Batch], Tensor]
State = dict[str, Tensor]


def cross_entropy(outputs: Tensor, batch: Batch) -> Tensor:
    """The mean cross-entropy of a batch: plain training."""
    return F.cross_entropy(outputs, batch.y)


def weighted_by_group(weights: Tensor) -> Loss:
    """Cross-entropy with a weight for each image by its group: (1/n) sum_i w_{g(i)} loss_i; weights
    (groups,).
    """

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        return (F.cross_entropy(outputs, batch.y, reduction="none") * weights[batch.group]).mean()

    return loss


@dataclass
class Passes:
    """Images passed in this process, in training steps on one image; a forward pass is a third."""

    images: float = 0.0

    def trained(self, n: int) -> None:
        """Counts forward and backward passes of n images."""
        self.images += n

    def predicted(self, n: int) -> None:
        """Counts forward passes of n images."""
        self.images += n / 3


PASSES = Passes()  # whoever measures a run takes the difference


class Trainer:
    """An optimiser on a model and the epochs it can train; the order of images, their shifts and
    what the network draws depend on seed and epoch only.

    Args:
        model: trained in place.
        data: its training split is used, and whether its images may be mirrored.
        schedule: see `config.Schedule`.
        seed: of the run; one generator for the order of the images, another for their augmentation.
        after_step: called with the model after every optimiser step.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        schedule: Schedule,
        seed: int,
        after_step: AfterStep | None = None,
    ) -> None:
        self.model = lay_like_images(model)
        self.data = data
        self.schedule = schedule
        self.seed = seed
        self.after_step = after_step or nothing
        self.forward = compiled(model, data.train.y.device) if schedule.compile else model
        self.low = low_precision(schedule, data.train.y.device)
        self.optimizer = _optimizer(model, schedule)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return max(1, len(self.data.train) // self.schedule.batch_size)

    def epoch(
        self,
        number: int,
        loss: Loss = cross_entropy,
        lr_scale: float = 1.0,
        first: int = 0,
        last: int | None = None,
    ) -> tuple[float, float]:
        """Trains epoch `number`, or part of it; returns its mean loss and last learning rate.

        Args:
            number: 0 ... schedule.epochs - 1; sets learning rate, order, augmentation, and what the
                network itself draws, such as dropout.
            loss: what a step lowers.
            lr_scale: factor on the schedule's learning rate.
            first, last: trains the batches first ... last - 1 of the epoch, each as in the whole
                one, but for what the network draws, which starts anew with the part.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self.model.train()
        device = self.data.train.y.device
        total = torch.zeros((), device=device)
        steps = 0
        rate = 0.0
        with own_draws(self.seed, f"network/{number}/{first}", device):
            for steps, batch in enumerate(islice(self._batches(number), first, last), 1):
                done = number + (first + steps - 1) / self.steps_per_epoch
                rate = lr_scale * learning_rate(self.schedule, done)
                total += self._step(batch, loss, rate)
        mean = float(total) / max(steps, 1)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the training loss became {mean} in epoch {number + 1} at learning rate "
                f"{rate:.3g}: choose a lower one."
            )
        return mean, rate

    def _batches(self, number: int) -> Iterator[Batch]:
        """Batches of one epoch, images as floats; the last incomplete batch is left out unless it
        is the only one.
        """
        split = self.data.train
        size = self.schedule.batch_size
        mirror = self.schedule.mirror and self.data.mirror
        shuffle = _generator(self.seed, f"order/{number}")
        change = _generator(self.seed, f"augment/{number}", split.y.device)
        order = torch.randperm(len(split), generator=shuffle).to(split.y.device)
        whole_batches = max(size, len(split) // size * size)
        for rows in order[:whole_batches].split(size):
            x = augment(split.x[rows], self.schedule.shift, mirror, change)
            yield Batch(as_float(x), split.y[rows], split.group[rows], rows)

    def _step(self, batch: Batch, loss: Loss, rate: float) -> Tensor:
        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=self.low):
            outputs = self.forward(batch.x)
        value = loss(outputs.float(), batch)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        if not self.optimizer.state:
            self._prepare_layers_left_out()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        PASSES.trained(len(batch.y))
        self.after_step(self.model)
        return value.detach()

    def _prepare_layers_left_out(self) -> None:
        """Momentum for layers that a network leaves out of the first step by chance, as layer drop
        does: torch's fused SGD fails where they come later without it.
        """
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None and group.get("momentum"):
                    buffer = torch.zeros_like(parameter)
                    self.optimizer.state[parameter]["momentum_buffer"] = buffer


def fit(
    model: nn.Module,
    data: Data,
    schedule: Schedule,
    *,
    seed: int,
    start: int = 0,
    stop: int | None = None,
    after_step: AfterStep | None = None,
    loss: Loss = cross_entropy,
    label: str = "training",
) -> list[float]:
    """Trains epochs `start` ... `stop` - 1 in place, with a fresh optimiser; returns mean losses.

    Training in two calls differs from one only by the optimiser's momentum, which is not carried
    over: that is the rewind of a lottery ticket, with the learning rate and the order of images of
    the epoch it is rewound to.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    trainer = Trainer(model, data, schedule, seed, after_step)
    numbers = epochs(start, schedule.epochs if stop is None else stop, label)
    return [trainer.epoch(number, loss)[0] for number in numbers]


@contextmanager
def own_draws(seed: int, purpose: str, device: torch.device) -> Iterator[None]:
    """What a network draws inside, such as dropout, follows from seed and purpose.

    It draws from torch's global generators of the CPU and the device, which go on as before
    afterwards.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed_for(seed, purpose))
        yield


def epochs(start: int, stop: int, label: str) -> Iterator[int]:
    """The numbers start ... stop - 1, with a bar once the training has taken SHOWN seconds.

    Shorter trainings make no bar, since a notebook would have to keep hundreds of them.
    """
    began = time.monotonic()
    bar = None
    for number in range(start, stop):
        yield number
        done = number + 1 - start
        if bar is not None:
            bar.update()
        elif time.monotonic() - began > SHOWN:
            total = stop - start
            bar = tqdm(desc=label, total=total, initial=done, leave=False, unit="epoch")
    if bar is not None:
        bar.close()


def compiled(model: nn.Module, device: torch.device) -> Any:
    """The network by torch.compile, for images of one shape.

    On a GPU its kernels are recorded once and launched together, as CUDA graphs. Networks of the
    same layers share what was compiled, so that a ticket's levels do not compile anew.
    """
    torch._dynamo.config.recompile_limit = SHAPES  # beyond torch's 8 it would stop in silence
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(model, mode=mode, dynamic=False)


def nothing(model: nn.Module) -> None:
    """An `after_step` that does nothing."""


def low_precision(schedule: Schedule, device: torch.device) -> bool:
    """Whether a training is in bfloat16: the schedule asks for it, and the hardware can.

    Weights, gradients' sums, losses and all predictions stay float32 (torch's automatic mixed
    precision).
    """
    if schedule.precision != "bfloat16":
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def in_turn(*steps: AfterStep) -> AfterStep:
    """One `after_step` that calls several, in order."""

    def after_step(model: nn.Module) -> None:
        for step in steps:
            step(model)

    return after_step


def learning_rate(schedule: Schedule, epoch: float) -> float:
    """Linear warm-up over `warmup` epochs to `lr`, then a half cosine to 0 at the end."""
    if epoch < schedule.warmup:
        return min(schedule.lr, schedule.lr * max(epoch, 0.01) / schedule.warmup)
    done = (epoch - schedule.warmup) / max(schedule.epochs - schedule.warmup, 1e-9)
    return schedule.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def logits(model: nn.Module, split: Split) -> Tensor:
    """The model's outputs on a split in evaluation mode: (n, classes) float32."""
    training = model.training
    model.eval()
    with torch.inference_mode():
        outputs = [model(as_float(x)) for x in split.x.split(predict_batch(split.x.device))]
    model.train(training)
    PASSES.predicted(len(split))
    return torch.cat(outputs)


def predict_batch(device: torch.device) -> int:
    """Images that are predicted together on a device."""
    return PREDICT_ON_GPU if device.type == "cuda" else PREDICT_BATCH


def count(outputs: Tensor, split: Split) -> Counts:
    """Right and all predictions per class and group from outputs (n, classes)."""
    cells = split.cells
    right = outputs.argmax(1) == split.y
    correct = torch.bincount(cells[right], minlength=split.n_cells)
    total = torch.bincount(cells, minlength=split.n_cells)
    shape = (split.n_classes, split.n_groups)
    return Counts(correct.reshape(shape).cpu().numpy(), total.reshape(shape).cpu().numpy())


def predict(model: nn.Module, split: Split) -> Counts:
    """Counts of right predictions of a model on a split, per class and group."""
    return count(logits(model, split), split)


def snapshot(model: nn.Module) -> State:
    """A copy of parameters and buffers, the count of batches seen by batch norm included;
    `load_state_dict` restores it.
    """
    return {name: value.clone() for name, value in model.state_dict().items()}


def joined(parts: dict[str, State]) -> State:
    """Tensors of several parts, each named `<part>/<name>`."""
    return {
        f"{prefix}/{name}": value for prefix, part in parts.items() for name, value in part.items()
    }


def part(tensors: State, prefix: str) -> State:
    """The tensors whose names start with a prefix, without it."""
    own = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors[name] for name in own}


def _optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(
            trained, lr=schedule.lr, weight_decay=schedule.weight_decay, fused=True
        )
    return torch.optim.SGD(
        trained,
        lr=schedule.lr,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        fused=True,
    )


def _generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(config.seed_for(seed, purpose))
