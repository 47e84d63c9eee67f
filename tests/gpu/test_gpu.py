"""What needs a GPU: the same numbers as on the CPU, the same bits twice, no waiting in a step.

    pytest -m gpu tests/gpu

Without a GPU they are skipped, and say so.
"""

import copy
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from fairlth import config, metrics
from fairlth.analysis import records
from fairlth.config import PRESETS, Schedule
from fairlth.conflict import ConflictMeter
from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.models import build
from fairlth.selection import magnitude
from fairlth.training import Trainer, fit, in_turn, logits, snapshot
from fairlth.workflow import experiments
from fairlth.workflow.cost import random_images

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False"
    ),
]

ONE = {
    "dataset": "cifar10",
    "model": "convnet",
    "density": 0.05,
    "seed": 0,
    "preset": "few",
    "target": None,
    "group_by": None,
    "pressure": None,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of results with a preset of 2 000 images and two epochs."""
    folder = tmp_path_factory.mktemp("gpu")
    few = {"like": "small", "n_train": 2000, "n_val": 500, "schedule": {"epochs": 2}}
    (folder / "presets.json").write_text(json.dumps({"few": few}))
    return folder


def environment(home, name, **own):
    return os.environ | {
        "FAIRLTH_HOME": str(home / name),
        "FAIRLTH_PRESETS": str(home / "presets.json"),
        **own,
    }


CODE = """
import json, sys
from fairlth.config import Run
from fairlth.workflow import experiments
[record] = experiments.run_or_load(Run(**json.loads(sys.argv[1])))
print(record.split("test").correct.sum(), record.conditions["device"])
"""


def make(home, name, method, **own):
    """A run in a process of its own: its record as it is on disk."""
    run = ONE | {"method": method, "density": 1.0 if method == "dense" else 0.05}
    command = [sys.executable, "-c", CODE, json.dumps(run)]
    done = subprocess.run(
        command, env=environment(home, name, **own), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [path] = (home / name / "runs/few/records").glob(f"*_{method}_*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("method", ["dense", "lth_long", "ballot"])
def test_cifar10_gives_the_same_accuracy_as_on_the_cpu(home, real_data, method):
    shares = []
    for name, devices in (("gpu", {}), ("cpu", {"CUDA_VISIBLE_DEVICES": ""})):
        record = make(home, name, method, **devices)
        right = sum(map(sum, record["counts"]["test"]["correct"]))
        shares.append(right / sum(map(sum, record["counts"]["test"]["total"])))
    assert shares[0] == pytest.approx(shares[1], abs=0.03)


def test_deterministic_mode_gives_the_same_bits_twice(home, real_data):
    first, second = (
        make(home, name, "ballot", FAIRLTH_DETERMINISTIC="1") for name in ("once", "twice")
    )
    assert first["predictions"] == second["predictions"]
    assert first["counts"] == second["counts"] and first["trace"] == second["trace"]


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(home, real_data):
    whole = make(home, "whole", "lth_long", FAIRLTH_DETERMINISTIC="1")
    run = ONE | {"method": "lth_long"}
    own = environment(home, "killed", FAIRLTH_DETERMINISTIC="1")
    process = subprocess.Popen([sys.executable, "-c", CODE, json.dumps(run)], env=own)
    shared = home / "killed/runs/few/shared"
    deadline = time.monotonic() + 300
    while not list(shared.glob("dense_*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = make(home, "killed", "lth_long", FAIRLTH_DETERMINISTIC="1")
    assert again["predictions"] == whole["predictions"]


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet20"])
def test_outputs_and_conflict_are_those_of_the_cpu(name):
    sample = random_images(256, 32)
    model = build(name, sample.in_shape, 10, torch.Generator().manual_seed(0))
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        own = copy.deepcopy(model).to(device)
        split = sample.train.to(device)
        meter = ConflictMeter(split, seed=0, every=1, batch_size=64)
        for _ in range(4):
            meter.observe(own)
        outputs = logits(own, split).cpu()
        conflict = {layer: value.cpu() for layer, value in meter.conflict().items()}
        found.append((outputs, conflict))
    (outputs, conflict), (others, other) = found
    assert torch.allclose(outputs, others, atol=2e-2, rtol=1e-2)
    for layer, value in conflict.items():
        assert (value - other[layer]).abs().median() < 0.05


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("watched", [False, True])
def test_a_step_does_not_wait_for_the_gpu(watched):
    """Nor does a reading of conflict after it."""
    schedule = PRESETS["paper"].schedule.model_copy(update={"batch_size": 64})
    sample = random_images(256, 32)
    model = build("resnet20", sample.in_shape, 10, torch.Generator().manual_seed(0)).cuda()
    mask = MaskSet.full(prunable(model))
    meter = ConflictMeter(sample.train, seed=0, every=1)
    after_step = in_turn(mask.apply, meter) if watched else mask.apply
    trainer = Trainer(model, sample, schedule, seed=0, after_step=after_step)
    trainer.epoch(0)
    batch = next(trainer._batches(1))
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            trainer._step(batch, lambda outputs, one: outputs.square().mean(), 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("default")  # torch's compiler warns of torch itself and of TF32
def test_compiled_training_ends_where_the_other_does():
    """Kernels launched as CUDA graphs: a mask that is kept, readings of conflict between steps, a
    rewind in place, and a second copy of the network.
    """
    sample = random_images(512, 32)
    ends = []
    for compile_it in (False, True):
        schedule = Schedule(epochs=4, batch_size=64, lr=0.05, compile=compile_it)
        first = build("resnet20", sample.in_shape, 10, torch.Generator().manual_seed(0)).cuda()
        start = snapshot(first)
        mask = MaskSet.from_scores(magnitude(prunable(first)), count_kept(0.1, prunable(first)))
        for model in (first, copy.deepcopy(first)):
            meter = ConflictMeter(sample.train, seed=0, every=4)
            for _ in range(2):
                model.load_state_dict(start)
                mask.apply(model)
                history = fit(
                    model, sample, schedule, seed=0, after_step=in_turn(mask.apply, meter)
                )
                ends.append(history)
            weights = prunable(model)
            assert all((weights[name][~own] == 0).all() for name, own in mask.items())
    assert ends[0][-1] < ends[0][0] - 0.05  # it learns its images by heart
    for end in ends[1:]:
        assert end == pytest.approx(ends[0], rel=0.02)


def test_masks_are_exact_over_more_scores_than_32_bits_count():
    n = 2**31 + 1000
    if torch.cuda.get_device_properties(0).total_memory < 60e9:
        pytest.skip("needs 60 GB of GPU memory")
    generator = torch.Generator("cuda").manual_seed(0)
    scores = {"w": torch.rand(n, generator=generator, device="cuda", dtype=torch.float32)}
    mask = MaskSet.from_scores(scores, n // 50)
    assert mask.n_kept == n // 50
    kept = mask["w"]
    lowest_kept = scores["w"][kept].min()
    assert not (scores["w"][~kept] > lowest_kept).any()


def test_digits_are_trained_on_the_cpu_and_say_so(smoke_run, tmp_path):
    record = experiments.run(smoke_run, tmp_path)
    assert record.conditions["device"] != torch.cuda.get_device_name()
    again = records.read(config.record_path(smoke_run, tmp_path), smoke_run)
    assert metrics.accuracy(*again.split("test")) > 0.5
