"""A ticket on disk is data: it comes back bit for bit, and whatever is wrong with it is one sentence."""

import hashlib
import json
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save

from fairlth import config, data, experiments, tickets
from fairlth.methods import METHODS
from fairlth.methods.base import fresh_model
from fairlth.models import prunable


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained run with its ticket on disk."""
    run = config.Run(dataset="digits", model="mlp", method="magnitude", density=0.05, seed=0, preset="smoke")
    runs = tmp_path_factory.mktemp("tickets")
    record = experiments.run(run, runs)
    return SimpleNamespace(run=run, record=record, path=config.ticket_path(run, runs), data=data.load(run))


@pytest.fixture
def path(made, tmp_path):
    """A copy of the ticket and its card, to be damaged."""
    for file in (made.path, tickets.card_path(made.path)):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / made.path.name


def replace(path, content):
    """Puts other bytes in the ticket's place, with a card that says so."""
    path.write_bytes(content)
    card = json.loads(tickets.card_path(path).read_text())
    card |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    tickets.card_path(path).write_text(json.dumps(card))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_ticket_comes_back_bit_for_bit(made):
    ticket = METHODS["magnitude"](made.run, made.data)
    model, mask, card = tickets.load(made.path)
    theirs = ticket.model.state_dict()
    assert list(model.state_dict()) == list(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(mask[name], kept) for name, kept in ticket.mask.items())
    assert mask.n_kept == card.weights["kept"] == 851 and not model.training


@pytest.mark.parametrize("name", ["convnet", "resnet20"])
def test_networks_with_batch_norm_come_back_too(name, made, tmp_path):
    run = made.run.model_copy(update={"model": name})
    made_of = fresh_model(run, made.data).to(memory_format=torch.channels_last)
    made_of.train()(torch.rand(8, 1, 8, 8))  # moves running statistics
    record = made.record.__class__(**vars(made.record) | {"run": run.model_dump()})
    mask = tickets.MaskSet({name: torch.rand_like(weight) < 0.1 for name, weight in prunable(made_of).items()})
    mask.apply(made_of)
    tickets.write(tickets.Ticket(made_of, mask, cost=1.0), record, made.data, tmp_path / "t.safetensors")
    model, found, _ = tickets.load(tmp_path / "t.safetensors")
    assert all(torch.equal(value, made_of.state_dict()[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(found[name], kept) for name, kept in mask.items())


def test_the_file_holds_kept_weights_only(made):
    stored = load(made.path.read_bytes())
    assert sum(value.numel() for name, value in stored.items() if name.startswith("values/")) == 851
    assert made.path.stat().st_size < 0.15 * 4 * 17024


def test_reading_into_a_network_in_training_leaves_its_mode(made):
    model = fresh_model(made.run, made.data)
    tickets.read(made.path, model)
    assert model.training


@pytest.mark.parametrize("which", [0, 1])
def test_one_file_without_the_other_is_one_sentence(path, which):
    missing = (path, tickets.card_path(path))[which]
    missing.unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(missing.name)} is not there: a ticket is two files"):
        tickets.load(path)


def test_a_truncated_ticket_is_one_sentence(path):
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"safetensors has 1000 bytes and not the {size} of its card: it was cut short"):
        tickets.load(path)


def test_one_flipped_bit_is_one_sentence(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not what its card describes, sha256 \w{12}, expected \w{12}: copy it again"):
        tickets.load(path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"file": "x"}', "null"])
def test_a_damaged_card_is_one_sentence(path, text):
    tickets.card_path(path).write_text(text)
    with pytest.raises(ValueError, match="json is not a whole card"):
        tickets.load(path)


def test_a_card_with_a_name_too_many_is_refused(path):
    card = json.loads(tickets.card_path(path).read_text())
    tickets.card_path(path).write_text(json.dumps(card | {"colour": "red"}))
    with pytest.raises(ValueError, match="'colour' is not one of its names"):
        tickets.load(path)


class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickle_named_safetensors_is_refused_and_not_executed(path, tmp_path):
    target = tmp_path / "executed"
    content = pickle.dumps(Malicious(target))
    pickle.loads(content)
    assert target.exists()  # it would
    target.unlink()
    replace(path, content)
    with pytest.raises(ValueError, match="is not a safetensors file .*: it is refused"):
        tickets.load(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"state/linear1.bias": None}, r"linear1.bias is missing in the ticket and float32 \(128,\) in the model"),
        ({"state/linear9.bias": torch.zeros(3)}, r"linear9.bias is float32 \(3,\) in the ticket and missing in the model"),
        ({"state/linear1.bias": torch.zeros(127)}, r"linear1.bias is float32 \(127,\) in the ticket and float32 \(128,\) in"),
        ({"state/linear1.bias": torch.zeros(128, dtype=torch.int64)}, r"linear1.bias is int64 \(128,\) in the ticket"),
        ({"shape/linear1.weight": torch.tensor([64, 128])}, r"linear1.weight is float32 \(64, 128\) in the ticket"),
        ({"shape/linear1.weight": torch.tensor([2**40, 2**20])}, r"linear1.weight is float32 \(1099511627776, 1048576\) in"),
        ({"values/linear1.weight": torch.zeros(5)}, r"is not a whole ticket \(5 values are stored for \d+ places\)"),
        ({"values/linear1.weight": None}, r"linear1.weight is incomplete in the ticket"),
        ({"gaps/linear1.weight": None, "bits/linear1.weight": None}, r"linear1.weight is incomplete in the ticket"),
    ],
)
def test_wrong_contents_are_one_sentence_and_change_nothing(path, made, change, sentence):
    stored = load(path.read_bytes()) | change
    replace(path, save({name: value for name, value in stored.items() if value is not None}))
    model = fresh_model(made.run, made.data)
    before = state(model)
    with pytest.raises(ValueError, match=sentence):
        tickets.read(path, model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_ticket_of_another_network_changes_nothing(path, made):
    other = fresh_model(made.run.model_copy(update={"model": "convnet"}), made.data)
    before = state(other)
    with pytest.raises(ValueError, match=r"conv1.weight is missing in the ticket and float32 \(16, 1, 3, 3\) in the model"):
        tickets.read(path, other)
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_a_card_that_does_not_say_what_to_build_is_refused(path):
    card = json.loads(tickets.card_path(path).read_text())
    del card["in_shape"]
    tickets.card_path(path).write_text(json.dumps(card))
    with pytest.raises(ValueError, match="in_shape is missing"):
        tickets.load(path)


def test_an_unknown_network_is_refused_by_name(path):
    card = json.loads(tickets.card_path(path).read_text())
    card["model"] = "lenet"
    tickets.card_path(path).write_text(json.dumps(card))
    with pytest.raises(ValueError, match="model='lenet' is unknown"):
        tickets.load(path)
