import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.profiler import profile

from fairlth import training
from fairlth.config import Schedule
from fairlth.conflict import ConflictMeter
from fairlth.masks import MaskSet, prunable
from fairlth.models import build
from fairlth.training import (
    Trainer,
    count,
    fit,
    in_turn,
    learning_rate,
    logits,
    low_precision,
    predict,
    snapshot,
    weighted_by_group,
)

LOW = Schedule(epochs=1, batch_size=32, lr=0.1, precision="bfloat16")

SCHEDULE = Schedule(epochs=3, batch_size=32, lr=0.05)


def net(name="convnet", seed=0):
    return build(name, (1, 8, 8), 3, torch.Generator().manual_seed(seed))


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_same_seed_same_bits_another_seed_other_bits(random_data, optimizer):
    schedule = SCHEDULE.model_copy(update={"optimizer": optimizer, "shift": 1, "lr": 0.01})
    states = []
    for seed in (0, 0, 1):
        model = net()
        fit(model, random_data, schedule, seed=seed)
        states.append(snapshot(model))
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.04},
        {"momentum": 0.0},
        {"weight_decay": 0.0},
        {"batch_size": 16},
        {"warmup": 0.0},
        {"optimizer": "adamw"},
        {"shift": 1},
    ],
)
def test_every_switch_of_the_schedule_changes_something(random_data, change):
    one, other = net(), net()
    fit(one, random_data, SCHEDULE, seed=0)
    fit(other, random_data, SCHEDULE.model_copy(update=change), seed=0)
    assert not same(one.state_dict(), other.state_dict())


def test_mirroring_needs_schedule_and_data(random_data):
    states = []
    for schedule, allowed in ((True, False), (False, True), (True, True)):
        model = net()
        data = type(random_data)(**vars(random_data) | {"mirror": allowed})
        fit(model, data, SCHEDULE.model_copy(update={"mirror": schedule}), seed=0)
        states.append(snapshot(model))
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_rewinding_restores_every_bit_of_the_state(random_data):
    model = net()
    fit(model, random_data, SCHEDULE, seed=0, stop=1)
    rewind = snapshot(model)
    assert int(rewind["norm1.num_batches_tracked"]) == 3
    fit(model, random_data, SCHEDULE, seed=0, start=1)
    assert int(model.norm1.num_batches_tracked) == 9
    assert not same(rewind, model.state_dict())
    model.load_state_dict(rewind)
    assert same(rewind, model.state_dict())


def test_without_momentum_two_calls_are_one(random_data):
    schedule = SCHEDULE.model_copy(update={"momentum": 0.0})
    one, other = net(), net()
    fit(one, random_data, schedule, seed=0)
    fit(other, random_data, schedule, seed=0, stop=2)
    fit(other, random_data, schedule, seed=0, start=2)
    assert same(one.state_dict(), other.state_dict())


def test_after_step_is_called_after_every_step(random_data):
    calls = []
    fit(net(), random_data, SCHEDULE, seed=0, after_step=lambda model: calls.append(model))
    assert len(calls) == 3 * (96 // 32)


def test_group_weights_are_weights_of_the_loss(random_data):
    plain, ones, other = net(), net(), net()
    Trainer(plain, random_data, SCHEDULE, 0).epoch(0)
    for model, weights in ((ones, torch.ones(2)), (other, torch.tensor([0.5, 1.5]))):
        Trainer(model, random_data, SCHEDULE, 0).epoch(0, weighted_by_group(weights))
    assert same(plain.state_dict(), ones.state_dict())
    assert not same(plain.state_dict(), other.state_dict())


def test_an_epoch_in_two_parts_is_the_epoch(random_data):
    whole, parts = net(), net()
    Trainer(whole, random_data, SCHEDULE, 0).epoch(1)
    trainer = Trainer(parts, random_data, SCHEDULE, 0)
    trainer.epoch(1, last=1)
    halfway = snapshot(parts)
    trainer.epoch(1, first=1)
    assert same(whole.state_dict(), parts.state_dict()) and not same(whole.state_dict(), halfway)


def test_what_is_frozen_stays(random_data):
    model = net()
    frozen = next(model.parameters()).requires_grad_(False)
    before = frozen.clone()
    fit(model, random_data, SCHEDULE, seed=0)
    assert torch.equal(frozen, before)


def test_a_loss_that_is_not_finite_stops_with_one_sentence(random_data):
    model = net()
    with torch.no_grad():
        model.conv1.weight.fill_(math.nan)
    with pytest.raises(
        FloatingPointError,
        match=r"the training loss became nan in epoch 1 at learning rate .*lower",
    ):
        fit(model, random_data, SCHEDULE, seed=0)


def test_the_learning_rate_warms_up_and_ends_at_zero():
    schedule = Schedule(epochs=10, lr=0.2, warmup=2.0)
    assert learning_rate(schedule, 1.0) == pytest.approx(0.1)
    assert learning_rate(schedule, 2.0) == pytest.approx(0.2)
    assert learning_rate(schedule, 6.0) == pytest.approx(0.1)
    assert learning_rate(schedule, 10.0) == pytest.approx(0.0)
    assert learning_rate(Schedule(epochs=10, lr=0.2, warmup=0.0), 0.0) == pytest.approx(0.2)
    assert learning_rate(Schedule(epochs=10, lr=0.2, warmup=0.001), 0.0) == 0.2  # and no more


def test_counts_agree_with_a_loop_over_images(random_data):
    model, split = net(), random_data.test
    outputs = logits(model, split)
    correct, total = np.zeros((3, 2), int), np.zeros((3, 2), int)
    for y, group, guess in zip(
        split.y.tolist(), split.group.tolist(), outputs.argmax(1).tolist(), strict=True
    ):
        total[y, group] += 1
        correct[y, group] += y == guess
    counts = predict(model, split)
    assert (counts.correct == correct).all() and (counts.total == total).all()
    assert (count(outputs, split).correct == correct).all()


def test_predicting_changes_nothing_and_keeps_the_mode(random_data):
    model = net()
    before = snapshot(model)
    for mode in (True, False):
        model.train(mode)
        predict(model, random_data.test)
        assert model.training is mode
    assert same(before, model.state_dict())


def test_bfloat16_changes_the_training_and_leaves_weights_and_outputs_float32(random_data):
    if not low_precision(LOW, torch.device("cpu")):
        pytest.skip("this processor does not multiply bfloat16 numbers")
    trained = {}
    for schedule in (LOW, LOW.model_copy(update={"precision": "float32"})):
        model = build("convnet", (1, 8, 8), 3, torch.Generator().manual_seed(0))
        fit(model, random_data, schedule, seed=0)
        trained[schedule.precision] = model.conv1.weight.detach()
        assert logits(model, random_data.test).dtype == torch.float32
    assert trained["bfloat16"].dtype == torch.float32
    assert not torch.equal(trained["bfloat16"], trained["float32"])
    torch.testing.assert_close(trained["bfloat16"], trained["float32"], atol=0.02, rtol=0.0)


def test_bfloat16_is_used_only_where_the_processor_has_it(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert low_precision(LOW, cpu) and not low_precision(Schedule(epochs=1), cpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not low_precision(LOW, cpu)


def test_the_network_is_compiled_where_the_schedule_says_so(random_data, monkeypatch):
    compiled = []

    def remember(model, **how):
        compiled.append((model, how))
        return model

    monkeypatch.setattr(torch, "compile", remember)
    model = net()
    once = [(model, {"mode": "default", "dynamic": False})]
    for compile_it in (False, True):
        Trainer(model, random_data, SCHEDULE.model_copy(update={"compile": compile_it}), 0).epoch(0)
        assert compiled == (once if compile_it else [])
    training.compiled(model, torch.device("cuda"))
    assert compiled[-1][1]["mode"] == "reduce-overhead"


def test_networks_of_the_same_layers_are_compiled_once(monkeypatch):
    """A ticket has many levels, each with a copy of the network."""
    compile_it = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda model, **how: compile_it(model, backend="eager", dynamic=how["dynamic"]),
    )
    torch.compiler.reset()
    before = counters["stats"]["unique_graphs"]
    for seed in range(10):
        model = build("mlp", (1, 8, 8), 10, torch.Generator().manual_seed(seed))
        images = torch.zeros(4, 1, 8, 8)
        outputs = training.compiled(model, torch.device("cpu"))(images)
        assert torch.equal(outputs, model(images))
    assert counters["stats"]["unique_graphs"] == before + 1
    for width in range(1, 12):  # as tickets of whole units have; torch's own limit is 8
        small = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width))
        training.compiled(small, torch.device("cpu"))(images)
    assert counters["stats"]["unique_graphs"] == before + 1 + 11


@pytest.mark.parametrize(("shown", "bars"), [(60.0, 0), (-1.0, 1)])
def test_only_a_training_that_takes_long_shows_a_bar(shown, bars, monkeypatch):
    made = []
    show = training.tqdm
    monkeypatch.setattr(training, "tqdm", lambda **how: made.append(how) or show(**how))
    monkeypatch.setattr(training, "SHOWN", shown)
    assert list(training.epochs(2, 6, "dense")) == [2, 3, 4, 5]
    assert len(made) == bars
    assert all(how["total"] == 4 and how["initial"] == 1 for how in made)


def test_a_gpu_predicts_more_images_together():
    assert training.predict_batch(torch.device("cuda")) == 2048
    assert training.predict_batch(torch.device("cpu")) == 128


@pytest.mark.parametrize("watched", ["", "mask", "mask and conflict"])
def test_an_epoch_reads_one_number_from_the_device(random_data, watched, monkeypatch):
    """Each reading of a number would let a GPU wait for its processor."""
    monkeypatch.setattr(Tensor, "is_cuda", True)  # what is done there
    model = net()
    mask = MaskSet.full(prunable(model)).apply
    meter = ConflictMeter(random_data.train, seed=0, every=1)
    steps = {"": training.nothing, "mask": mask, "mask and conflict": in_turn(mask, meter)}
    trainer = Trainer(model, random_data, SCHEDULE, 0, steps[watched])
    assert trainer.steps_per_epoch == 3
    with profile() as seen:
        trainer.epoch(0)
    counts = {event.key: event.count for event in seen.key_averages()}
    assert counts["aten::_local_scalar_dense"] == 1 and "aten::nonzero" not in counts
