"""First contact with a GPU, in ten minutes: what works there, how fast, what a plan may count on.

    make gpu

Each stage has a process and a time limit of its own. One that fails is named with the end of what
it said, and the next one begins. Results go to benchmarks/results_<card>.md after every stage, and
timed steps to benchmarks/steps_<card>.csv, for `make plan PRESET=paper STEPS=...`.

    python -m benchmarks.gpu share      one stage alone, printed
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from benchmarks.rivals import Rival
from benchmarks.rounds import Way, ratio, time_in_turn
from benchmarks.run_all import HERE, machine
from benchmarks.training import REFERENCE, Ours, masked
from fairlth.config import PRESETS, Run, Schedule, paths
from fairlth.images import Data
from fairlth.masks import MaskSet
from fairlth.workflow import cost, experiments, plan, reckoning
from fairlth.workflow.cost import Step, random_images

SCHEDULE = PRESETS["paper"].schedule
MODELS = ("resnet18", "vgg16", "mobilenet_v2")
STEPS = 20  # per round
ROUNDS = 5
LIMITS = {  # seconds
    "tests": 100,
    "throughput": 130,
    "together": 50,
    "share": 30,
    "tickets": 230,
    "steps": 60,
}
CASES = {"preset paper": ("resnet18", SCHEDULE), "reference code": ("resnet20", REFERENCE)}
TOGETHER = (1, 2, 4)  # runs on one card
LONG = 5.0  # seconds that they train side by side
FEWER = 10  # epochs of the tickets here


class OnCard(Rival):
    """The plain loop as its users write it for a GPU: workers, pinned memory, autocast."""

    def __init__(
        self, model: torch.nn.Module, mask: MaskSet, data: Data, schedule: Schedule
    ) -> None:
        super().__init__(model, mask, data, schedule)
        self.device = next(model.parameters()).device
        self.low = schedule.precision == "bfloat16"
        self.train = DataLoader(
            self.train.dataset,
            schedule.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=min(8, os.cpu_count() or 1),
            persistent_workers=True,
            pin_memory=self.device.type == "cuda",
        )

    def epoch(self) -> None:
        """Trains on all images once."""
        self.model.train()
        for images, labels in self.train:
            x = images.to(self.device, non_blocking=True)
            y = labels.to(self.device, non_blocking=True)
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
                loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.rates.step()


def tests() -> None:
    """The marked tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-m", "gpu", "tests/gpu"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    print("\n".join(done.stdout.strip().splitlines()[-15:]))
    if done.returncode:
        sys.exit(done.returncode)


def throughput() -> None:
    """Training at preset paper and as the reference lottery-ticket code does: the package, the
    same compiled into CUDA graphs, the plain loop, and airbench's loader.
    """
    for case, (name, schedule) in CASES.items():
        data = random_images(STEPS * schedule.batch_size, 32)
        split = data.train.to(torch.device("cpu"))  # a DataLoader reads images there
        on_cpu = replace(data, train=split, val=split, test=split)
        compiled = schedule.model_copy(update={"compile": True})
        ways: dict[str, Way] = {
            "package": Ours(*masked(name, data), data, schedule).epoch,
            "package, compiled": Ours(*masked(name, data), data, compiled).epoch,
            "plain loop": OnCard(*masked(name, data), on_cpu, schedule).epoch,
        }
        print(f"{case}: {name}, batches of {schedule.batch_size}, {schedule.precision}")
        seconds = time_in_turn(ways, ROUNDS, case)
        for way, spent in seconds.items():
            images = STEPS * schedule.batch_size / statistics.median(spent)
            print(f"  {way:18s} {images:9.0f} images/s")
        for way in ("plain loop", "package, compiled"):
            print(f"  {way} over package: {ratio(seconds, way, 'package')}", flush=True)
    _airbench()


def _airbench() -> None:
    """The loader of airbench alone, where it is installed: what no training can be faster than."""
    try:
        from airbench import CifarLoader
    except ImportError:
        print("airbench's loader: not installed (pip install airbench)")
        return
    loader = CifarLoader(str(paths.CACHE / "airbench"), train=True, batch_size=SCHEDULE.batch_size)
    started = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    torch.cuda.synchronize()
    print(f"airbench's loader {images / (time.perf_counter() - started):9.0f} images/s")


def together() -> None:
    """Several runs on one card, each in a process: images a second of all of them, which is a
    little too high, since they do not start at the same moment.
    """
    command = [sys.executable, "-m", "benchmarks.gpu", "alone"]
    for n in TOGETHER:
        own = [subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE) for _ in range(n)]
        told = [process.communicate()[0].decode() for process in own]
        if any(process.returncode for process in own):
            print(f"{n} together: FAILED", flush=True)
            continue
        rates = [float(one) for one in told]
        print(f"{n} together: {sum(rates):9.0f} images/s", flush=True)


def alone() -> None:
    """Images a second of one run that trains for LONG seconds; printed for `together`."""
    name, schedule = CASES["preset paper"]
    data = random_images(STEPS * schedule.batch_size, 32)
    ours = Ours(*masked(name, data), data, schedule)
    ours.epoch()
    started = time.perf_counter()
    images = 0
    while time.perf_counter() - started < LONG:
        ours.epoch()
        images += len(data.train)
    print(images / (time.perf_counter() - started))


def share() -> None:
    """A step's share of the card's rate of matrix products, beside what the plan reckons."""
    for model in MODELS:
        row = cost.step_floor(model, SCHEDULE, steps=STEPS)
        reckoned = reckoning.step(Step(model, 32, SCHEDULE.batch_size, SCHEDULE.precision))
        print(
            f"{model:13s} {row['precision']} step {row['step ms']:7.2f} ms, reckoned for an H100 "
            f"{1000 * reckoned.seconds:6.2f} ms; matrix products {row['GFLOP/s'] / 1000:6.1f} "
            f"TFLOP/s, share {row['share']:.2f}"
        )


def tickets() -> None:
    """One lth_long and one Ballot ticket of resnet18 on cifar10 at preset paper, but a third of its
    epochs.
    """
    schedule = SCHEDULE.model_copy(update={"epochs": FEWER, "warmup": 2.0})
    PRESETS["first"] = PRESETS["paper"].model_copy(update={"schedule": schedule})
    for method in ("dense", "lth_long", "ballot"):
        density = 1.0 if method == "dense" else 0.1
        run = Run(
            dataset="cifar10",
            model="resnet18",
            method=method,
            density=density,
            seed=0,
            preset="first",
        )
        started = time.perf_counter()
        record = experiments.run(run, paths.RUNS)
        spent = time.perf_counter() - started
        correct, total = record.split("test")
        shared = 0 if method == "dense" else FEWER  # the dense net, made before
        each = spent / (record.cost * FEWER - shared)
        print(
            f"{method:9s} {spent:6.1f} s, {each:5.2f} s per epoch trained, accuracy "
            f"{correct.sum() / total.sum():.4f}, peak {record.conditions['memory']:.0f} MiB",
            flush=True,
        )


def steps() -> None:
    """The plan of preset paper with steps timed here."""
    timed = cost.time_steps("paper")
    cost.write_steps(timed, HERE / f"steps_{card()}.csv")
    table = plan.table("paper", timed)
    columns = ["task", "model", "dense trainings", "hours", "H100 hours"]
    print(table[columns].round(2).to_string(index=False))


STAGES: dict[str, Callable[[], None]] = {
    stage.__name__: stage for stage in (tests, throughput, together, share, tickets, steps)
}


def card() -> str:
    """The card's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", cost.device_name().lower()).strip("_")


def section(name: str) -> str:
    """What a stage printed, or how it failed, in Markdown."""
    command = [sys.executable, "-m", "benchmarks.gpu", name]
    home = tempfile.TemporaryDirectory()  # nothing is there to be read instead of made
    own = os.environ | {"FAIRLTH_HOME": home.name, "FAIRLTH_DATA": str(paths.DATA)}
    purpose = " ".join((STAGES[name].__doc__ or name).split())
    try:
        done = subprocess.run(
            command,
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMITS[name],
            env=own,
        )
    except subprocess.TimeoutExpired as stopped:
        told = (stopped.stdout or b"").decode()
        return f"## {name}\n\n{purpose}\n\n```\n{told}STOPPED after {LIMITS[name]} s\n```\n"
    told = done.stdout
    if done.returncode:
        told += f"FAILED: {(done.stderr.strip().splitlines() or ['no message'])[-1]}\n"
    return f"## {name}\n\n{purpose}\n\n```\n{told}```\n"


def main() -> int:
    """Runs one stage, or all of them into a file; exit status 1 without a GPU."""
    if len(sys.argv) > 1:
        (STAGES | {"alone": alone})[sys.argv[1]]()
        return 0
    if not torch.cuda.is_available():
        print("There is no GPU here: torch.cuda.is_available() is False. Nothing was measured.")
        return 1
    path = HERE / f"results_{card()}.md"
    text = f"# First contact\n\n{machine()}\n"
    for name in tqdm(STAGES, unit="stage"):
        text += f"\n{section(name)}"
        paths.write_atomically(path, text.encode())
    print(text)
    print(f"== {path.relative_to(paths.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
