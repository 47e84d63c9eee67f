"""Would several seeds of one network train faster together? Four stacked against one by one.

    python benchmarks/stacked.py

Networks are stacked by `torch.func.stack_module_state` and `vmap` over weights and images; both
ways take an SGD step on batches of 64.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from benchmarks.rounds import Way, ratio, time_in_turn
from fairlth.models import build

SEEDS = 4
BATCH = 64
ROUNDS = 5
STEPS = 8  # per round


def networks(name: str) -> list[nn.Module]:
    """One network per seed."""
    built = [
        build(name, (3, 32, 32), 10, torch.Generator().manual_seed(seed)) for seed in range(SEEDS)
    ]
    return [model.to(memory_format=torch.channels_last).train() for model in built]


def batches(n: int) -> tuple[Tensor, Tensor]:
    """(n, batch, 3, 32, 32) images and their classes."""
    return torch.rand(n, BATCH, 3, 32, 32), torch.arange(BATCH).remainder(10).expand(n, BATCH)


def one_by_one(name: str) -> Callable[[], None]:
    """A step of each network in turn."""
    models = networks(name)
    images_of_all, y = batches(SEEDS)
    x = [images.contiguous(memory_format=torch.channels_last) for images in images_of_all]
    optimizers = [
        torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True) for model in models
    ]

    def step() -> None:
        for model, optimizer, images, labels in zip(models, optimizers, x, y, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()

    return step


def stacked(name: str) -> Callable[[], None]:
    """A step of all networks at once.

    Batch norm keeps no running statistics, which favours this side.
    """
    models = networks(name)
    x, y = batches(SEEDS)
    for model in models:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = module.running_var = module.num_batches_tracked = None
            elif isinstance(module, nn.ReLU):
                module.inplace = False
    weights, _ = stack_module_state(models)
    weights = {key: value.detach() for key, value in weights.items()}

    def loss(one: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(models[0], one, (images,)), labels)

    gradients = vmap(grad(loss))
    optimizer = torch.optim.SGD(weights.values(), lr=0.01, momentum=0.9, fused=True)

    def step() -> None:
        for key, gradient in gradients(weights, x, y).items():
            weights[key].grad = gradient
        optimizer.step()

    return step


def main() -> None:
    """Prints how much faster the stack is."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ways: dict[str, Way] = {
            "one by one": partial(repeat, one_by_one("convnet")),
            "stacked": partial(repeat, stacked("convnet")),
        }
        seconds = time_in_turn(ways, ROUNDS, f"{threads} thread(s)")
        each = 1000 * statistics.median(seconds["one by one"]) / STEPS / SEEDS
        gain = ratio(seconds, "one by one", "stacked")
        print(
            f"convnet, {SEEDS} seeds, float32, {threads} thread(s): one by one / stacked {gain}   "
            f"one by one {each:.1f} ms per step and seed"
        )


def repeat(step: Callable[[], None]) -> None:
    """A round: STEPS steps."""
    for _ in range(STEPS):
        step()


if __name__ == "__main__":
    main()
