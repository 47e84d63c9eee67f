"""Which commit a record names as the package's."""

import re
import subprocess

from fairlth.analysis import conditions
from fairlth.config import paths


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
