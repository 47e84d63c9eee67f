"""What a record says of the commit, the code and the machine that made it."""

import re
import subprocess

import numpy as np
import pytest
import torch

from fairlth.analysis import conditions, records
from fairlth.config import Schedule, paths


def test_a_record_names_the_packages_own_commit():
    assert re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", conditions._commit())


def test_a_package_installed_inside_another_repository_names_no_commit(tmp_path, monkeypatch):
    package = tmp_path / "venv/lib/fairlth"
    package.mkdir(parents=True)
    (tmp_path / "x").write_text("x")
    git = ["git", "-C", str(tmp_path), "-c", "user.email=a@b", "-c", "user.name=a"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(paths, "PACKAGE", package)
    assert conditions._commit() == "unknown"


def test_peak_memory_is_above_what_is_held():
    held = np.ones(25_000_000)  # 191 MiB
    before = conditions.peak_memory(torch.device("cpu"))
    assert before > held.nbytes / 2**20
    del held
    assert (
        conditions.peak_memory(torch.device("cpu")) > 0.9 * before
    )  # a peak does not fall, but for the kernel's rounding


def test_conditions_are_those_that_a_record_and_a_table_keep():
    found = conditions.conditions(torch.device("cpu"), Schedule(epochs=1), 1.234, 0.567)
    assert set(found) == {*records.CONDITIONS, "code"}
    assert (found["seconds"], found["shared_seconds"]) == (1.23, 0.57)
    assert found["code"] == conditions.LOADED and "thread(s)" in found["device"]


def test_the_fingerprint_is_of_the_code_that_was_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "code_fingerprint", lambda modules: "edited since")
    found = conditions.conditions(torch.device("cpu"), Schedule(epochs=1), 0.0)
    assert found["code"] == conditions.LOADED != "edited since"


def test_a_grid_is_of_one_code(monkeypatch):
    for began_with in (None, conditions.LOADED):
        monkeypatch.setattr(paths, "GRID_CODE", began_with)
        conditions.check_code()
    monkeypatch.setattr(paths, "GRID_CODE", "other")
    with pytest.raises(ValueError, match="changed under a running grid, from other to .*: let the"):
        conditions.check_code()
