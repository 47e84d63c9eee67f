"""A ticket on disk is data: it comes back bit for bit, and what is wrong with it is one sentence."""

import hashlib
import json
import pickle
import re
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fairlth import methods
from fairlth.lottery import Ticket
from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.methods.sharing import fresh
from fairlth.models import build
from fairlth.selection import magnitude
from fairlth.shipping import ticket as tickets
from fairlth.shipping.card import Parent

SIZES = {  # bytes of the former format, kept values and their places: network, density -> bytes
    ("convnet", 0.05): 29_353,
    ("convnet", 0.02): 15_480,
    ("resnet20", 0.05): 93_261,
    ("resnet20", 0.02): 52_143,
}
MANY = [[2] * 10] * 10
FEW = [[1] * 10] * 10
PARENT = {"kept": 851, "total": 17024, "images_of": {}}
NONE = [[0] * 10] * 10


@pytest.fixture
def path(made, tmp_path):
    """A copy of the ticket and its card, to be damaged."""
    for file in (made.path, tickets.card_path(made.path)):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / made.path.name


def change_card(path, **values):
    """Puts other values into the card."""
    card = json.loads(tickets.card_path(path).read_text())
    tickets.card_path(path).write_text(json.dumps(card | values))


def replace(path, content, unpacked_bytes):
    """Puts other bytes in the ticket's place, with a card that agrees."""
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    change_card(path, bytes=len(content), sha256=sha256, unpacked_bytes=unpacked_bytes)


def stored(path):
    return load(zlib.decompress(path.read_bytes()))


def store(path, tensors):
    content = save(tensors)
    replace(path, zlib.compress(content), len(content))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_ticket_comes_back_bit_for_bit(made):
    ticket = methods.make(made.run, made.data)
    model, mask, card = tickets.load(made.path)
    theirs = ticket.model.state_dict()
    assert list(model.state_dict()) == list(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(mask[name], kept) for name, kept in ticket.mask.items())
    assert mask.n_kept == card.kept == 851
    assert not model.training


@pytest.mark.parametrize("name", ["convnet", "resnet20"])
def test_networks_with_batch_norm_come_back_too(name, made, tmp_path):
    run = made.run.model_copy(update={"model": name})
    model = fresh(run, made.data).to(memory_format=torch.channels_last)
    model.train()(torch.rand(8, 1, 8, 8))  # moves running statistics
    weights = prunable(model)
    mask = MaskSet({name: torch.rand_like(weight) < 0.1 for name, weight in weights.items()})
    mask.apply(model)
    own = {"run": run.model_dump(), "layers": mask.layers()}
    record = type(made.record)(**vars(made.record) | own)
    path = tmp_path / "t.safetensors.zlib"
    tickets.write(Ticket(model, mask, cost=1.0), record, made.data, path)
    loaded, found, _ = tickets.load(path)
    theirs = model.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in loaded.state_dict().items())
    assert all(torch.equal(found[key], kept) for key, kept in mask.items())


def test_where_a_layer_was_kept_alive_comes_back(path):
    assert tickets.load(path).mask.rescued == {}
    change_card(path, kept_alive={"linear3.weight": 2})
    assert tickets.load(path).mask.rescued == {"linear3.weight": 2}


def test_the_keys_are_the_networks_own_and_values_are_dense(made):
    found = stored(made.path)
    model = fresh(made.run, made.data)
    names = {name for name in found if not name.startswith("kept_zeros/")}
    assert names == set(model.state_dict())
    assert all(found[name].shape == value.shape for name, value in model.state_dict().items())
    assert {name.removeprefix("kept_zeros/") for name in set(found) - names} == set(prunable(model))
    assert sum(int(found[name].count_nonzero()) for name in prunable(model)) == 851


def test_a_kept_weight_of_zero_is_kept_and_its_bit_is_where_it_is_said():
    model = torch.nn.Linear(5, 2)
    mask = MaskSet({"weight": torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1]]).bool()})
    mask.apply(model)
    model.weight.data[0, 2] = 0.0
    model.weight.data[1, 4] = -0.0
    found = tickets.tensors(model, mask)
    assert found["kept_zeros/weight"].tolist() == [0b00100000, 0b01000000]
    assert found["kept_zeros/weight"].dtype == torch.uint8
    bits = np.unpackbits(found["kept_zeros/weight"].numpy(), count=10, bitorder="big")
    kept = (found["weight"].numpy() != 0) | bits.reshape(2, 5).astype(bool)
    assert kept.tolist() == mask["weight"].tolist()


def test_a_kept_zero_comes_back(path, made):
    found = stored(path)
    weight = found["linear1.weight"].view(-1)
    place = int(weight.nonzero()[7])
    weight[place] = 0
    found["kept_zeros/linear1.weight"][place // 8] = 1 << (7 - place % 8)
    store(path, found)
    _, mask, _ = tickets.load(path)
    original = tickets.load(made.path).mask
    assert all(torch.equal(mask[name], kept) for name, kept in original.items())


@pytest.mark.parametrize(("name", "density"), SIZES)
def test_the_file_is_not_larger_than_kept_values_and_their_places(name, density):
    model = build(name, (3, 32, 32), 10, torch.Generator().manual_seed(0))
    weights = prunable(model)
    mask = MaskSet.from_scores(magnitude(weights), count_kept(density, weights))
    mask.apply(model)
    content = zlib.compress(save(tickets.tensors(model, mask)), 9)
    assert len(content) <= SIZES[name, density]


def test_a_pruned_weight_that_is_not_zero_is_not_written():
    mask = MaskSet({"weight": torch.zeros(2, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match="a pruned weight of weight is not 0: apply the mask"):
        tickets.tensors(torch.nn.Linear(3, 2), mask)


def test_reading_into_a_network_in_training_leaves_its_mode(made):
    model = fresh(made.run, made.data)
    tickets.read(made.path, model)
    assert model.training


def test_a_ticket_of_another_run_is_not_believed_by_its_name(path, made):
    other = made.run.model_copy(update={"seed": 1})
    assert tickets.load(path, made.run).mask.n_kept == 851
    with pytest.raises(ValueError, match="is the ticket of another run, not of digits.*_s1"):
        tickets.load(path, other)


@pytest.mark.parametrize("which", [0, 1])
def test_one_file_without_the_other_is_one_sentence(path, which):
    missing = (path, tickets.card_path(path))[which]
    missing.unlink()
    sentence = rf"{re.escape(missing.name)} is not there: a ticket is two files"
    with pytest.raises(ValueError, match=sentence):
        tickets.load(path)


def test_a_truncated_ticket_is_one_sentence(path):
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"has 1000 bytes and not the {size} of its card"):
        tickets.load(path)


def test_one_flipped_bit_is_one_sentence_before_anything_is_built(path, monkeypatch):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(tickets, "build", None)
    sentence = r"is not what its card describes, sha256 \w{12}, expected \w{12}: copy it again"
    with pytest.raises(ValueError, match=sentence):
        tickets.load(path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"file": "x"}', "null"])
def test_a_damaged_card_is_one_sentence(path, text):
    tickets.card_path(path).write_text(text)
    with pytest.raises(ValueError, match="json is not a whole card"):
        tickets.load(path)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"colour": "red"}, "'colour' is not one of its names"),
        ({"sha256": "abc"}, "sha256='abc' is refused"),
        ({"file": "a/b"}, "file='a/b' is refused"),
        ({"in_shape": [1, 8]}, "in_shape.2 is missing"),
        ({"in_shape": [1, 0, 8]}, "in_shape.1=0 is refused"),
        ({"in_shape": [1, 64, 1]}, r"in_shape=\(1, 64, 1\) is no square grey or RGB image"),
        ({"in_shape": [2, 8, 8]}, r"in_shape=\(2, 8, 8\) is no square grey or RGB image"),
        ({"groups": [*"9876543210"]}, "its groups are its classes, and it names"),
        ({"classes": ["0"] * 10, "groups": ["0"] * 10}, "are not different ones"),
        ({"group_by": "ink", "groups": ["a"] * 10}, "are not different ones"),
        ({"layers": [{"layer": "a", "kept": 1, "total": 2}] * 2}, "are not different ones"),
        ({"counts": {"correct": NONE, "total": NONE}}, "it counts no test image"),
        ({"in_shape": [3, 100_000, 100_000]}, "is beyond 1024 pixels a side"),
        ({"classes": []}, "0 classes, expected 1 to 100000"),
        ({"layers": [{"layer": "a", "kept": 3, "total": 2}]}, "a keeps 3 of 2 weights"),
        ({"layers": [{"layer": "a"}]}, "not a whole card"),
        ({"counts": {"correct": [[2]], "total": [[1]]}}, "not those of its classes and groups"),
        ({"counts": {"correct": [[-1]], "total": [[1]]}}, "counts.correct.0.0=-1 is refused"),
        ({"counts": {"correct": MANY, "total": FEW}}, "not those of its classes and groups"),
        ({"counts": {"correct": [[1]]}}, "not a whole card"),
        ({"run": {"dataset": "digits"}}, "its run names no model"),
        ({"bytes": 0}, "bytes=0 is refused"),
        ({"parent": PARENT | {"kept": 850}}, "keeps 851 weights and goes on from 850 of them"),
        ({"parent": PARENT | {"sha256": "abc"}}, "Parent: sha256='abc' is refused"),
        ({"parent": PARENT | {"file": "a/b"}}, "Parent: file='a/b' is refused"),
        ({"parent": PARENT | {"colour": "red"}}, "'colour' is not one of its names"),
        ({"parent": {}}, "Parent: kept is missing"),
        ({"parent": 3}, "not a whole card"),
        ({"audit": {"ece": [0.1] * 9}}, "its audit has no 'ece' for each of its groups"),
        ({"audit": {"luck": [0.1] * 10}}, "its audit has no 'luck' for each of its groups"),
        ({"audit": {"ece": [1.1] * 10}}, "audit.ece.0=1.1 is refused"),
        ({"parameters": 17023}, "parameters=17023 and 17024 weights that could have been pruned"),
        ({"dead": "All is lost.", "feasible": True}, "a dead ticket is not feasible"),
        (
            {"layers": [{"layer": "a", "kept": 0, "total": 2}]},
            "does not say that the ticket is dead",
        ),
    ],
)
def test_a_card_of_impossible_values_is_refused(path, values, sentence):
    change_card(path, **values)
    with pytest.raises(ValueError, match=sentence):
        tickets.load(path)


def test_the_card_of_a_ticket_from_the_dense_network_has_no_parent(path):
    assert "parent" not in json.loads(tickets.card_path(path).read_text())
    assert tickets.read_card(path).parent is None
    change_card(path, parent=PARENT)
    assert tickets.read_card(path).parent == Parent(**PARENT)


def test_a_card_that_does_not_say_what_to_build_is_refused(path):
    card = json.loads(tickets.card_path(path).read_text())
    del card["in_shape"]
    tickets.card_path(path).write_text(json.dumps(card))
    with pytest.raises(ValueError, match="in_shape"):
        tickets.load(path)


def test_an_unknown_network_is_refused_by_name(path, made):
    change_card(path, run=made.run.model_dump() | {"model": "lenet"})
    with pytest.raises(ValueError, match="model='lenet' is unknown"):
        tickets.load(path)


class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickle_is_refused_and_not_executed(path, tmp_path):
    target = tmp_path / "executed"
    content = pickle.dumps(Malicious(target))
    pickle.loads(content)
    assert target.exists()  # it would
    target.unlink()
    replace(path, zlib.compress(content), len(content))
    with pytest.raises(ValueError, match="is not a safetensors file .*: train it again"):
        tickets.load(path)
    replace(path, content, len(content))
    with pytest.raises(ValueError, match="is not compressed by zlib"):
        tickets.load(path)
    assert not target.exists()


def test_a_bomb_is_not_unpacked(path):
    bomb = zlib.compress(bytes(1 << 28), 9)
    replace(path, bomb, 1 << 28)
    with pytest.raises(ValueError, match="unpacks to 268435456 bytes, expected at most 1"):
        tickets.load(path)
    replace(path, bomb, 70_000)
    tracemalloc.start()
    with pytest.raises(ValueError, match="does not unpack to the 70000 bytes of its card"):
        tickets.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26


@pytest.mark.parametrize("change", [lambda packed: packed[:-5], lambda packed: packed + b"more"])
def test_a_stream_that_is_cut_or_goes_on_is_refused(path, change):
    content = zlib.decompress(path.read_bytes())
    replace(path, change(zlib.compress(content)), len(content))
    with pytest.raises(ValueError, match="does not unpack to the"):
        tickets.load(path)


def first_kept(tensor):
    return tuple(tensor.nonzero()[0].tolist())


def without_a_weight(found):
    found["linear1.weight"][first_kept(found["linear1.weight"])] = 0


def with_a_weight_more(found):
    pruned = (found["linear1.weight"] == 0).nonzero()[0]
    found["linear1.weight"][tuple(pruned.tolist())] = 1.0


def with_nan(found):
    found["linear1.weight"][first_kept(found["linear1.weight"])] = float("nan")


def with_infinity(found):
    found["linear1.bias"][3] = float("inf")


def with_a_mark_on_a_weight(found):
    row, column = first_kept(found["linear1.weight"])
    place = row * 64 + column
    found["kept_zeros/linear1.weight"][place // 8] |= 1 << (7 - place % 8)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_a_weight, r"linear1.weight keeps \d+ weights and \d+ on the card"),
        (with_a_weight_more, r"linear1.weight keeps \d+ weights and \d+ on the card"),
        (with_nan, "linear1.weight has a value that is not finite"),
        (with_infinity, "linear1.bias has a value that is not finite"),
        (with_a_mark_on_a_weight, "kept_zeros/linear1.weight marks weights that are not 0"),
    ],
)
def test_contents_that_contradict_the_card_change_nothing(path, made, change, sentence):
    found = stored(path)
    change(found)
    store(path, found)
    model = fresh(made.run, made.data)
    before = state(model)
    with pytest.raises(ValueError, match=f"contradicts itself or its card: {sentence}"):
        tickets.read(path, model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


FLOATS = torch.zeros
KINDS = [
    ("linear1.bias", None, r"missing in the ticket and float32 \(128,\) in the network"),
    ("linear9.bias", FLOATS(3), r"float32 \(3,\) in the ticket and missing in the network"),
    ("foo/linear1.weight", FLOATS(1), r"float32 \(1,\) in the ticket and missing in"),
    ("linear1.bias", FLOATS(127), r"float32 \(127,\) in the ticket and float32 \(128,\) in"),
    ("linear1.bias", FLOATS(128).long(), r"int64 \(128,\) in the ticket"),
    ("linear1.weight", FLOATS(64, 128), r"float32 \(64, 128\) in the ticket"),
    ("kept_zeros/linear1.weight", None, r"missing in the ticket and uint8 \(1024,\)"),
    ("kept_zeros/linear1.weight", FLOATS(9).byte(), r"uint8 \(9,\) in the ticket and uint8 \("),
    ("kept_zeros/linear1.bias", FLOATS(16).byte(), r"uint8 \(16,\) in the ticket and missing"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), KINDS)
def test_wrong_names_and_kinds_are_one_sentence_and_change_nothing(
    path, made, name, value, sentence
):
    found = stored(path)
    found.pop(name, None)
    store(path, found if value is None else found | {name: value})
    model = fresh(made.run, made.data)
    before = state(model)
    with pytest.raises(ValueError, match=f"{name} is {sentence}"):
        tickets.read(path, model)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("change", ["fewer", "more", "unknown"])
def test_layers_of_the_card_are_those_of_the_file(path, change):
    card = json.loads(tickets.card_path(path).read_text())
    layers = card["layers"]
    if change == "fewer":
        layers = layers[1:]
    elif change == "more":
        layers[0] |= {"total": layers[0]["total"] + 1}
    else:
        layers[0] |= {"layer": "linear9.weight"}
    change_card(path, layers=layers)
    with pytest.raises(ValueError, match=r"in the ticket and|on the card"):
        tickets.load(path)


def test_a_ticket_of_another_network_changes_nothing(path, made):
    other = fresh(made.run.model_copy(update={"model": "convnet"}), made.data)
    before = state(other)
    sentence = r"conv1.weight is missing in the ticket and float32 \(16, 1, 3, 3\) in the network"
    with pytest.raises(ValueError, match=sentence):
        tickets.read(path, other)
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_a_card_of_brackets_alone_is_one_sentence(path):
    tickets.card_path(path).write_text("[" * 100_000)
    with pytest.raises(ValueError, match="json is not a whole card"):
        tickets.load(path)
