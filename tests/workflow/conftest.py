"""What several tests of the workflow share."""

import drill
import pytest

from fairlth import config
from fairlth.config import PRESETS, paths
from fairlth.workflow import experiments


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder of results in which preset smoke fans out."""
    for name in ("RUNS", "FIGURES", "TABLES", "CACHE"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    fanned_out = PRESETS["smoke"].model_copy(update={"in_process": False})
    monkeypatch.setitem(PRESETS, "smoke", fanned_out)
    return tmp_path


@pytest.fixture
def record(home):
    """The path of one finished run's record."""
    run = drill.run("random")
    experiments.run(run, paths.RUNS)
    return config.record_path(run, paths.RUNS)
