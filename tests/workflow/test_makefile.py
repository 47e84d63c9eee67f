"""What make would do, most of it by dry runs; nothing is set up and nothing is trained."""

import os
import re
import shutil
import subprocess

import pytest

from fairlth.config import paths

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


def run_make(*arguments, **variables):
    """What make prints."""
    command = ["make", "--no-print-directory", *arguments]
    environment = os.environ | variables
    done = subprocess.run(
        command, cwd=paths.ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def make(*arguments, **variables):
    """What `make -n` prints."""
    return run_make("-n", *arguments, **variables)


def test_an_active_environment_is_used_as_it_is():
    assert "uv" not in make("status", "VENV=")
    assert "UV_PROJECT_ENVIRONMENT" in make("setup", "VENV=/nowhere/else")


def test_every_extra_is_installed():
    assert "sync --locked --all-extras" in make("setup", "VENV=/nowhere/else")


@pytest.mark.parametrize("target", ["reproduce", "plan", "status", "report", "html"])
def test_a_presets_name_is_one_word_in_every_command(target):
    said = make(target, "VENV=", "PRESET=my preset")
    commands = [line for line in said.splitlines() if not line.startswith("echo")]
    assert "my preset" in said
    for line in commands:
        for found in re.finditer("my preset", line):
            assert line[found.start() - 1] == '"' == line[found.end()]


def test_no_command_has_the_folder_of_results_in_it(tmp_path):
    """The package alone works it out, whatever its name is."""
    for target in ("reproduce", "report", "html", "figures"):
        assert "my home" not in make(target, "VENV=", FAIRLTH_HOME=str(tmp_path / "my home"))


def test_figures_are_those_of_every_preset_but_smoke():
    [loop] = re.findall(r"for preset in ([\w ]+); do", make("figures", "VENV="))
    assert loop == "small confirm deeper breadth whole whole_gpu paper paper_full"


@pytest.mark.parametrize(("user", "told"), [("0", " --allow-root"), ("1000", "")])
def test_jupyterlab_starts_for_root_too(tmp_path, user, told):
    """JupyterLab refuses root unless it is told; others are not asked to allow it."""
    for name, says in (("jupyter", 'echo "$@"'), ("id", f"echo {user}")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{says}\n")
        program.chmod(0o755)
    printed = run_make("lab", "VENV=", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert printed == f"lab --notebook-dir .{told}\n"
