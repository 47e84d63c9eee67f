"""The path to other machines: a submit script that runs each job on this one, and a real Slurm where there is one."""

import shutil
import subprocess

import drill
import pytest
import yaml

from fairlth.config import paths

PROFILES = sorted(path.name for path in (paths.ROOT / "profiles").iterdir() if path.is_dir())


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_goes_on_after_failures_and_is_explained(name):
    profile = yaml.safe_load((paths.ROOT / f"profiles/{name}/config.yaml").read_text())
    assert profile["keep-going"] and profile["rerun-incomplete"] and profile["nolock"]
    assert f"\n## {name}" in (paths.ROOT / "profiles/README.md").read_text()


def test_a_run_goes_through_a_submit_script(tmp_path):
    submit = tmp_path / "submit.sh"
    submit.write_text('#!/bin/sh\nnohup sh "$1" >"$1.log" 2>&1 &\necho $!\n')
    submit.chmod(0o755)
    [target] = drill.records(tmp_path, [drill.run("random")])
    arguments = (
        "--executor",
        "cluster-generic",
        "--cluster-generic-submit-cmd",
        str(submit),
        "--jobs",
        "2",
    )
    code, said = drill.finish(tmp_path, [target], *arguments)
    assert code == 0, said
    assert "1 of 1 done, about 0 s left: digits_mlp_random_d0.02_s0" in said
    assert '"method": "random"' in target.read_text()


@pytest.mark.slurm
@pytest.mark.timeout(900)
def test_two_runs_and_the_one_that_waits_for_them_go_through_slurm(tmp_path):
    if (
        shutil.which("sinfo") is None
        or "idle"
        not in subprocess.run(["sinfo"], capture_output=True, text=True, check=False).stdout
    ):
        pytest.skip("no Slurm with an idle node: `sinfo` does not list one")
    targets = drill.records(
        tmp_path, [drill.run(method) for method in ("dense", "random", "magnitude")]
    )
    arguments = [
        "--workflow-profile",
        "profiles/slurm",
        "--set-resources",
        "run:gpu=0",
        "--jobs",
        "2",
        "--latency-wait",
        "20",
    ]
    arguments += ["--default-resources", "mem_mb=2000", "runtime=10"]
    arguments += [
        "--slurm-status-command",
        "squeue",
        "--slurm-no-account",
        "--slurm-init-seconds-before-status-checks",
        "3",
    ]
    code, said = drill.finish(tmp_path, targets, *arguments)
    assert code == 0, said
    assert (
        all(path.exists() for path in targets)
        and said.count("has been submitted with SLURM jobid") == 3
    )
