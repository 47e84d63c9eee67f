import os
from pathlib import Path

import pytest
import torch

from fairlth.config import Run, paths
from fairlth.images import Data, Split

torch.set_num_threads(1)


OPT_IN = {
    "slurm": "needs a Slurm of its own, see profiles/README.md",
    "long": "takes many minutes",
    "browser": "drives Chromium for minutes",
    "zoo": "tries torchvision's networks for minutes",
}


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU and is skipped where there is none")
    for name, why in OPT_IN.items():
        config.addinivalue_line("markers", f"{name}: runs only with -m {name}, since it {why}")


def pytest_collection_modifyitems(config, items):
    """Tests to opt in to run where -m names them and nowhere else."""
    named = config.getoption("-m")
    left_out = [
        item
        for item in items
        if any(item.get_closest_marker(name) and name not in named for name in OPT_IN)
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True, scope="session")
def own_runs(tmp_path_factory):
    """Dense trainings that tests share lie in a folder of the session's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", tmp_path_factory.mktemp("runs"))
        yield


@pytest.fixture
def smoke_run():
    """A run that trains in under a second."""
    return Run(dataset="digits", model="mlp", method="lth", density=0.05, seed=0, preset="smoke")


@pytest.fixture
def random_data():
    """Random images: 3 classes, 2 groups that differ from the classes."""
    generator = torch.Generator().manual_seed(0)

    def split(n):
        x = torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
        return Split(x, torch.arange(n) % 3, torch.arange(n) // 3 % 2, 3, 2)

    return Data(split(96), split(48), split(48), ["a", "b", "c"], ["g", "h"], mirror=False)


@pytest.fixture
def real_data():
    """The folder of real parquet files, where there is one."""
    if not os.environ.get("FAIRLTH_DATA") or not Path(paths.DATA / "cifar10").is_dir():
        pytest.skip("FAIRLTH_DATA does not name a folder with cifar10")
    return paths.DATA
