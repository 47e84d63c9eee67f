"""Shared trainings: what their files say of themselves, and what becomes of those that lie."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fairlth import models
from fairlth.config import paths
from fairlth.methods import sharing
from fairlth.methods.sharing import Kept, shared
from fairlth.models import registry

HEADER = {"about", "notes", "effort", "sha256"}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def ask(smoke_run, random_data):
    """Asks for a shared training that draws its tensors anew whenever it is made."""

    def ask(kind="dense", run=smoke_run, images=random_data, told=None):
        def make():
            return Kept({"w": torch.rand(3)}, {"n": 1})

        return shared(kind, run, images, make, {"schedule"}, "123abc", told).tensors["w"]

    return ask


def only_file(runs):
    [path] = runs.rglob("*.safetensors")
    return path


def content(path):
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def change_tensor(path):
    header, tensors = content(path)
    tensors["w"][0] += 1
    save_file(tensors, path, header)


def change_note(path):
    header, tensors = content(path)
    save_file(tensors, path, header | {"notes": '{"n": 2}'})


def change_effort(path):
    header, tensors = content(path)
    save_file(tensors, path, header | {"effort": "[1e9, 1e9]"})


def forget_header(path):
    save_file(content(path)[1], path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def become_a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [
    change_tensor,
    change_note,
    change_effort,
    forget_header,
    cut,
    empty,
    become_a_folder,
]


def test_a_shared_training_says_what_it_is(ask, runs, smoke_run):
    ask("dense", told=0.05)
    header = content(only_file(runs))[0]
    assert set(header) == HEADER
    about = json.loads(header["about"])
    told = {name: about[name] for name in ("kind", "dataset", "model", "seed", "told")}
    task = {"dataset": "digits", "model": "mlp"}
    assert told == {"kind": "dense", "seed": 0, "told": 0.05} | task
    assert about["code"] == "123abc"
    assert about["settings"] == smoke_run.settings.model_dump(mode="json", include={"schedule"})


def test_what_was_made_is_read(ask):
    first = ask()
    with warnings.catch_warnings(action="error"):
        assert torch.equal(ask(), first)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_and_made_anew(damage, ask, runs):
    first = ask()
    path = only_file(runs)
    damage(path)
    with pytest.warns(UserWarning, match=r"is not this shared training \(.+\): it is .*\.aside"):
        second = ask()
    assert not torch.equal(second, first)
    assert path.with_name(f"{path.name}.aside").exists()
    with warnings.catch_warnings(action="error"):
        assert torch.equal(ask(), second)


def test_what_was_set_aside_before_is_kept(ask, runs):
    ask()
    path = only_file(runs)
    for _ in range(2):
        change_tensor(path)
        with pytest.warns(UserWarning, match="its content is not what was written"):
            ask()
    names = sorted(file.name.removeprefix(path.name) for file in path.parent.iterdir())
    assert names == ["", ".aside", ".aside.2"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("kind", {"kind": "lth"}),
        ("seed", {"run": {"seed": 1}}),
        ("told", {"told": 0.5}),
        ("model", {"run": {"model": "convnet"}}),
        ("dataset", {"run": {"dataset": "other"}}),
    ],
)
def test_a_whole_file_of_another_training_is_not_believed(name, change, ask, runs, smoke_run):
    """It lies where the training that is asked for would, as a copy under a wrong name does."""
    ask()
    wanted = dict(change)
    if "run" in wanted:
        wanted["run"] = smoke_run.model_copy(update=wanted["run"])
    first = only_file(runs)
    right = ask(**wanted)
    [other] = set(runs.rglob("*.safetensors")) - {first}
    shutil.copy(first, other)
    with pytest.warns(UserWarning, match=rf"it is another training, other .*{name}"):
        again = ask(**wanted)
    assert not torch.equal(again, right)


def test_other_images_are_another_training(ask, random_data):
    first = ask()
    random_data.train.x[0, 0, 0, 0] ^= 1
    assert not torch.equal(ask(), first)


def test_names_that_run_together_do_not_share(ask, smoke_run):
    """dataset a_b with model c, and dataset a with model b_c, have the same words in their names."""
    one = smoke_run.model_copy(update={"dataset": "a_b", "model": "c"})
    other = smoke_run.model_copy(update={"dataset": "a", "model": "b_c"})
    assert not torch.equal(ask(run=one), ask(run=other))


def test_two_networks_of_one_name_do_not_share(ask, monkeypatch):
    first = ask()
    monkeypatch.setitem(models.OWN, "mlp", registry.Own("0123"))
    assert not torch.equal(ask(), first)


def test_the_code_is_the_one_that_is_loaded(runs, monkeypatch, smoke_run, random_data):
    """Files of the package that change while a process runs change nothing of what it writes."""
    monkeypatch.setattr(paths, "PACKAGE", runs / "nothing is here")
    sharing.dense_once(smoke_run, random_data)
    about = json.loads(content(only_file(runs))[0]["about"])
    assert about["code"] == sharing.DENSE_CODE
    monkeypatch.undo()
    assert about["code"] == paths.code_fingerprint(sharing.DENSE)


def test_a_folder_that_cannot_be_written_is_done_without(ask, runs, monkeypatch):
    runs.write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match="It is not shared with other runs"):
        first = ask()
    assert torch.equal(ask(), first)  # from memory
    sharing.UNWRITTEN.clear()
