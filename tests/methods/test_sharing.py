"""Trainings that methods share: made once, read by the others, done without where they cannot."""

import ast
from dataclasses import replace

import pytest
import torch

from fairlth import data, lottery, methods
from fairlth.config import Run, paths
from fairlth.lottery import Found
from fairlth.masks import MaskSet, prunable
from fairlth.methods import plain, sharing
from fairlth.methods.sharing import LEDGER, SEARCH, dense_once, found_once, fresh
from fairlth.selection import levels, magnitude, select


def run_of(method, **change):
    fields = {"dataset": "digits", "model": "mlp", "density": 0.02, "seed": 0, "preset": "smoke"}
    return Run(method=method, **fields | change)


def assert_same(one, other):
    """Two states, or two masks, have the same bits."""
    assert set(one) == set(other)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def kind_of(path):
    return path.name.partition("_")[0]


def test_the_dense_training_is_done_once_and_read_by_the_others(smoke_run, monkeypatch):
    loaded = data.load(smoke_run)
    first = dense_once(smoke_run, loaded)
    monkeypatch.setattr(lottery, "fit", None)
    other = smoke_run.model_copy(update={"method": "magnitude", "density": 0.1})
    second = dense_once(other, loaded)
    assert_same(first.trained, second.trained)
    assert_same(first.rewind, second.rewind)
    assert_same(first.conflict, second.conflict)
    assert_same(first.network.state_dict(), second.network.state_dict())
    other_split = data.load(smoke_run.model_copy(update={"seed": 9}))
    for changed in (other_split, replace(loaded, mirror=True)):
        with pytest.raises(TypeError, match="NoneType"):  # it needs another training
            dense_once(smoke_run, changed)


def test_a_method_that_starts_from_no_dense_net_trains_none(monkeypatch):
    """It is handed the network alone, with its initial weights."""
    monkeypatch.setattr(lottery, "fit", None)
    handed = []
    monkeypatch.setitem(methods.METHODS, "random", lambda run, data, dense: handed.append(dense))
    run = run_of("random", seed=11)
    loaded = data.load(run)
    methods.make(run, loaded)
    assert_same(handed[0].network.state_dict(), fresh(run, loaded).state_dict())
    assert handed[0].rewind == handed[0].trained == handed[0].conflict == {}
    with pytest.raises(TypeError, match="NoneType"):
        methods.make(run_of("magnitude", seed=11), loaded)


SHARED_SEARCHES = {
    "lth": ["lth_bias"],
    "lth_rate": ["lth_long", "ballot_refine"],
    "lth_fine": [],
    "ballot": ["shuffled", "ballot_select"],
}


@pytest.mark.parametrize(("base", "others"), SHARED_SEARCHES.items())
def test_a_search_is_done_once_and_read_by_the_others(base, others, monkeypatch):
    """Controls, ablations and other pressures train the ticket that was found, without a search."""
    run = run_of(base, seed=3)
    loaded = data.load(run)
    methods.make(run, loaded)
    monkeypatch.setattr("fairlth.ballot.search", None)
    monkeypatch.setattr(plain, "search", None)
    for other in (base, *others):
        methods.make(run.model_copy(update={"method": other}), loaded)
    with pytest.raises(TypeError, match="NoneType"):  # another density is another search
        methods.make(run.model_copy(update={"density": 0.3}), loaded)


def test_a_damaged_shared_training_is_made_anew(tmp_path, monkeypatch, smoke_run):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    loaded = data.load(smoke_run)
    first = dense_once(smoke_run, loaded)
    [path] = tmp_path.rglob("dense_digits_mlp_s0_*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is not this shared training"):
        second = dense_once(smoke_run, loaded)
    assert_same(first.trained, second.trained)


def test_what_cannot_be_written_is_done_without(tmp_path, monkeypatch, smoke_run):
    (tmp_path / "runs").write_text("a file where a folder should be")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    loaded = data.load(smoke_run)
    with pytest.warns(UserWarning, match="It is not shared with other runs"):
        first = dense_once(smoke_run, loaded)
    monkeypatch.setattr(lottery, "fit", None)
    again = dense_once(smoke_run, loaded)  # from memory, not trained again
    assert_same(first.trained, again.trained)


def test_the_ledger_counts_what_was_made_and_what_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    run = run_of("lth")
    loaded = data.load(run)
    LEDGER.clear()
    methods.make(run, loaded)
    assert sorted(kind_of(path) for path in LEDGER.made) == ["dense", "lth", "lth-trained"]
    assert not LEDGER.read
    assert all(effort.seconds > 0 for effort in LEDGER.made.values())
    later_levels = len(levels(0.02, 0.36)) - 1
    epoch = 1079 // 64 * 64  # images in whole batches
    assert {kind_of(path): effort.images for path, effort in LEDGER.made.items()} == {
        "dense": 10 * epoch,
        "lth": later_levels * 9 * epoch,
        "lth-trained": 9 * epoch,
    }
    made = dict(LEDGER.made)
    LEDGER.made.clear()
    methods.make(run.model_copy(update={"method": "lth_bias"}), loaded)
    assert LEDGER.read == made and not LEDGER.made
    assert LEDGER.read_images() == (10 + later_levels * 9 + 9) * epoch


def test_a_shared_mask_is_in_the_order_of_the_network(random_data):
    """A file sorts names as text; reports of layers must not."""
    run = run_of("lth", model="resnet20", density=0.1)
    dense = lottery.Dense(fresh(run, random_data))
    model = dense.fresh()
    full = MaskSet.full(dict(sorted(prunable(model).items())))

    def find(run, data, dense):
        return Found(model, full, 8)

    found = found_once("order", run, random_data, dense, find)
    assert list(found.mask) == list(prunable(model)) != sorted(prunable(model))
    assert found.epochs == 8


def test_a_found_ticket_is_read_as_it_was_found(random_data):
    """Weights, batch norm's statistics, mask and notes; the second time nothing is searched."""
    run = run_of("lth", density=0.2)
    dense = lottery.Dense(fresh(run, random_data))
    model = dense.fresh()
    kept = select(magnitude(prunable(model)), 0.2)
    kept.apply(model)
    kept.rescued = {"linear3.weight": 1}
    searches = []

    def find(run, data, dense):
        searches.append(run)
        return Found(model, kept, 8, {"n": 1})

    for _ in range(2):
        found = found_once("read", run, random_data, dense, find)
        assert_same(found.model.state_dict(), model.state_dict())
        assert_same(found.mask, kept)
        assert found.notes == {"n": 1}
        assert found.mask.rescued == {"linear3.weight": 1}
    assert searches == [run]


def test_a_standard_ticket_is_trained_once_for_its_controls(smoke_run):
    """And read from its file it is the ticket that was trained, bit by bit."""
    loaded = data.load(smoke_run)
    first = methods.make(smoke_run, loaded)
    LEDGER.made.clear()
    again = methods.make(smoke_run, loaded)
    assert not LEDGER.made
    assert_same(first.model.state_dict(), again.model.state_dict())
    assert first.cost == again.cost == (1 + 3 * 9 + 9) / 10


DECIDES_NO_SEARCH = {
    "config",  # presets and seeds are told, see `sharing.shared`
    "config/presets",
    "metrics",  # judges what was found
    "bias_shift",  # these two come after the search
    "retraining",
    "methods/sharing",  # reads and writes
}


def modules_of(module):
    """Modules of the package that one of them, or a folder of them, imports."""
    path = paths.PACKAGE / module
    files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "fairlth":
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("fairlth."):
                found.add(node.module.removeprefix("fairlth.").replace(".", "/"))
    return found


@pytest.mark.parametrize("module", SEARCH)
def test_all_code_that_decides_a_search_is_told_by_its_files_name(module):
    """Else a search that was made by other code would be read."""
    wings = {"data", "models"}  # named whole
    for name in modules_of(module) - DECIDES_NO_SEARCH:
        assert name in SEARCH or name.partition("/")[0] in wings, f"{module} imports {name}"


def test_other_code_is_another_search(monkeypatch):
    run = run_of("lth", seed=12)
    loaded = data.load(run)
    methods.make(run, loaded)
    monkeypatch.setattr(plain, "search", None)
    methods.make(run, loaded)
    monkeypatch.setattr(sharing, "SEARCH_CODE", "other")
    dense = dense_once(run, loaded)
    with pytest.raises(TypeError, match="NoneType"):
        methods.METHODS["lth"](run, loaded, dense)
