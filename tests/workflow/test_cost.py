"""What a step costs at least, by hand."""

import pytest
import torch

from fairlth.config import Schedule
from fairlth.models import build
from fairlth.training import Trainer
from fairlth.workflow import cost


def test_operations_of_a_step_by_hand():
    """Forward 2 n in out for each layer; backward the same for the weights, and for the inputs of all but the first layer."""
    data = cost.random_images(4, 8)
    trainer = Trainer(
        build("mlp", data.in_shape, 10, torch.Generator().manual_seed(0)),
        data,
        Schedule(epochs=1, batch_size=4),
        0,
    )
    layers = [
        module.weight.shape
        for module in trainer.model.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    products = [4 * a * b for a, b in layers]
    assert cost.step_flops(trainer, data.train.x) == 2 * (3 * sum(products) - products[0])


def test_a_row_says_how_much_of_the_step_the_floor_explains():
    row = cost.step_floor("mlp", Schedule(epochs=1, batch_size=4), side=8, steps=1, rounds=3)
    assert (row["model"], row["batch"], row["precision"]) == ("mlp", 4, "float32")
    assert row["floor ms"] == pytest.approx(1000 * row["GFLOP"] / row["GFLOP/s"])
    assert row["share"] == pytest.approx(row["floor ms"] / row["step ms"]) and row["share"] > 0
