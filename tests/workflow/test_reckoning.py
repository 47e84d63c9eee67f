import pytest
import torch
from torch import nn

from fairlth import config
from fairlth.config import workload
from fairlth.models import own, registry
from fairlth.workflow import plan, reckoning
from fairlth.workflow.cost import Step
from fairlth.workflow.reckoning import H100, Card, Reckoned

SLOW = Card("slow", {"float32": 2e9, "bfloat16": 4e9}, memory=1e9)


def linear(in_shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, n_classes, bias=False))


def test_a_kernel_takes_the_slower_of_operations_and_bytes_and_at_least_its_launch():
    reckoned = Reckoned()
    reckoned.add(1e9, 0.35e9, SLOW, "float32")  # 1 s of products, 0.5 s of memory
    assert reckoned.seconds == pytest.approx(1.0)
    reckoned.add(1e9, 1.4e9, SLOW, "bfloat16")  # 0.5 s of products, 2 s of memory
    assert reckoned.seconds == pytest.approx(3.0)
    reckoned.add(0, 1, SLOW, "float32")
    assert reckoned.seconds == pytest.approx(3.0 + 8e-6) and reckoned.kernels == 3


def test_operations_are_those_of_forward_and_backward(monkeypatch):
    monkeypatch.setitem(registry.MODELS, "line", linear)
    found = reckoning.step(Step("line", 2, 5, "float32"), SLOW, n_classes=7)
    assert found.flops == 2 * (2 * 5 * 12 * 7)  # y = xw, dw = x'dy; no image needs a gradient


def test_views_of_a_tensor_are_no_kernels(monkeypatch):
    """Two products, softmax and loss, forward and backward, a gradient of 1, and the update."""
    monkeypatch.setitem(registry.MODELS, "line", linear)
    assert reckoning.step(Step("line", 2, 5, "float32"), SLOW, n_classes=7).kernels == 8


def test_low_precision_moves_half_the_bytes_and_a_larger_batch_more():
    low = reckoning.step(Step("convnet", 32, 64, "bfloat16"))
    high = reckoning.step(Step("convnet", 32, 64, "float32"))
    more = reckoning.step(Step("convnet", 32, 128, "bfloat16"))
    assert low.flops == high.flops and more.flops == 2 * low.flops
    assert low.bytes < high.bytes < 2 * low.bytes and low.bytes < more.bytes < 2 * low.bytes
    assert low.kernels == high.kernels == more.kernels


def test_preset_paper_is_a_night_on_one_card():
    runs = config.every_run("paper")
    table = plan.table("paper", {})
    total = table.iloc[-1]
    assert total["runs"] == len(runs) == 5 * 3 * 3 * (1 + 2 * 7)
    assert total["dense trainings"] == pytest.approx(sum(workload.work(runs).values()))
    assert total["dense trainings"] <= 1500
    assert 0 < total["H100 hours"] <= 30
    row = table[(table["task"] == "celeba Smiling by Male") & (table["model"] == "vgg16")].iloc[0]
    step = reckoning.step(Step("vgg16", 64, 512, "bfloat16"), H100)
    n_steps = row["dense trainings"] * 20 * (50_000 // 512)
    assert row["H100 hours"] == pytest.approx(n_steps * step.seconds / 3600)


def test_a_plan_counts_no_dense_training_of_a_network_given_as_trained(monkeypatch):
    usual = plan.table("smoke", {}).iloc[0]
    monkeypatch.setattr(plan, "given_as_trained", lambda name: name == "mlp")
    given = plan.table("smoke", {}).iloc[0]
    assert usual["dense trainings"] - given["dense trainings"] == pytest.approx(3)  # seeds


def test_the_plan_says_what_its_hours_rest_on():
    told = plan.text("smoke", plan.table("smoke", {}), "a device")
    assert reckoning.ASSUMED in told and reckoning.MEASURED in told
    row = next(line for line in told.splitlines() if line.split()[:3] == ["mlp", "8", "64"])
    assert row.split()[3] == "float32"


def test_nothing_of_a_reckoned_network_has_values():
    before = torch.get_rng_state()
    reckoning.step(Step("vgg16", 64, 512, "bfloat16"))
    assert torch.equal(torch.get_rng_state(), before)


def test_peak_memory_is_that_of_the_larger_of_step_and_prediction(monkeypatch):
    """Bytes of the prediction of 2048 images: they, the outputs, weights and momentum."""
    monkeypatch.setitem(registry.MODELS, "line", linear)
    found = reckoning.peak_memory(Step("line", 2, 5, "float32"), n_classes=7)
    own = 4 * 12 * 5 + 8 * 5  # images and labels of the step
    assert found == 4 * 2048 * (12 + 7) + 2 * 4 * 12 * 7 + own
    larger = reckoning.peak_memory(Step("line", 2, 50_000, "float32"), n_classes=7)
    assert larger > 4 * 50_000 * (12 + 7)


@pytest.mark.parametrize("weights", ["draw", "keep"])
def test_a_network_of_your_own_is_reckoned_too(monkeypatch, weights):
    def build(in_shape, n_classes):
        rate = torch.linspace(0, 0.2, 3)[1].item()  # as stochastic depth has it
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(rate), nn.Flatten(), nn.Linear(16, 10)
        )

    monkeypatch.setattr(registry, "OWN", dict(registry.OWN))
    monkeypatch.setattr(own, "OWN", registry.OWN)
    network = build if weights == "draw" else build((3, 4, 4), 10)
    own.add("mine", network, (3, 4, 4), 10, weights=weights)
    images = 4 * 3 * 4 * 4 * 2048
    assert reckoning.peak_memory(Step("mine", 4, 8, "float32")) > images
    del registry.MODELS["mine"]


def test_four_runs_of_preset_paper_fit_on_one_card():
    steps = dict.fromkeys(plan.step_on_card(run) for run in config.grid("paper", ("dense",)))
    assert len(steps) == 6  # three networks, images of 32 and of 64 pixels
    peak = max(reckoning.peak_memory(step) for step in steps)
    assert 4 * (peak + 2e9) < 80e9  # the largest data set, tiny_imagenet, takes 1.5 GB
