"""A card says what its record says, shows names as they are, and reads its ticket alone."""

import ast
import dataclasses
import hashlib
import html
import json
import re
import subprocess
import sys

import pytest
import torch
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from fairlth import config, methods, metrics
from fairlth.analysis import audit, summaries
from fairlth.bias_shift import add_to_outputs
from fairlth.images import Data, as_float
from fairlth.lottery import Ticket
from fairlth.masks import MaskSet
from fairlth.models import build
from fairlth.shipping import card as cards
from fairlth.shipping import ticket as tickets
from fairlth.workflow import experiments

ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "fairlth":
            raise ImportError("fairlth is not here")
sys.meta_path.insert(0, Refuse())
from collections import OrderedDict
from torch import nn
network = nn.Sequential(OrderedDict(
    flatten=nn.Flatten(), linear1=nn.Linear(64, 128), relu1=nn.ReLU(), linear2=nn.Linear(128, 64),
    relu2=nn.ReLU(), linear3=nn.Linear(64, 10)))
"""
SAY = """
import torch
x = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
try:
    import fairlth
except ImportError:
    print(int(sum(kept.sum() for kept in masks.values())), network.training)
    print(network(x).tolist())
"""


@pytest.fixture
def card(made):
    """The card of a trained run's ticket."""
    return tickets.read_card(made.path)


def changed(made, **values):
    """The card of the record with other values."""
    record = dataclasses.replace(made.record, **{"predictions": {}} | values)
    return cards.card_of(record, made.data, "t", b"x", 1)


def test_the_audit_stands_beside_each_group(made):
    """With the run's own record in the place of the dense net's nothing is lost or changed."""
    card = cards.card_of(made.record, made.data, "t", b"x", 1, dense=made.record)
    assert list(card.audit) == ["ece", "brier", "lost", "changed"]
    assert card.audit["lost"] == card.audit["changed"] == [0.0] * 10
    found = audit.of_groups(audit.answers(made.record, made.data.test), 10)
    assert card.audit["brier"] == pytest.approx(found["brier"], abs=1e-6)
    text = cards.markdown(card)
    assert "| group | right | images | accuracy % | 95 % interval | ECE % | Brier × 100 |" in text
    assert "| lost % | changed % |" in text and "Lost are images that the dense net" in text
    [row] = [line for line in text.splitlines() if line.startswith("| 3 |")]
    share = f"{100 * card.audit['ece'][3]:.1f} | {100 * card.audit['brier'][3]:.1f} | 0.0 | 0.0 |"
    assert row.endswith(share)


def test_without_predictions_or_a_dense_net_the_card_says_what_it_can(made):
    assert list(cards.card_of(made.record, made.data, "t", b"x", 1).audit) == ["ece", "brier"]
    old = dataclasses.replace(made.record, predictions={})
    kept = cards.card_of(old, made.data, "t", b"x", 1, dense=made.record)
    assert kept.audit == {} and "ECE" not in cards.markdown(kept)
    assert b"audit" not in cards.card_bytes(kept)  # an older card keeps its hash


def test_a_card_says_what_was_trained_on_what(made, card):
    record = made.record
    assert card.run == record.run
    assert card.conditions == record.conditions
    assert card.layers == record.layers
    assert card.counts == record.counts["test"]
    assert (card.target, card.group_by) == ("label", "class")
    assert (card.classes, card.groups) == (record.classes, record.groups)
    assert card.in_shape == (1, 8, 8)
    assert (card.kept, card.total) == (851, 17024)
    assert card.parameters == 17024 + 128 + 64 + 10
    assert card.density_of_all == pytest.approx((851 + 202) / 17226)
    assert card.images == {"train": 1079, "val": 269, "test": 449}
    assert card.licence.startswith("CC BY 4.0")
    assert card.data_sha256 == cards.fingerprint(made.data)
    assert card.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert card.bytes == made.path.stat().st_size
    assert (card.dead, card.kept_alive) == ("", {})


def test_the_stored_card_has_the_bytes_that_its_hash_is_of(made, card):
    stored = tickets.card_path(made.path)
    assert stored.read_bytes() == cards.card_bytes(card)
    assert stored.name == "digits_mlp_magnitude_d0.05_s0.json"


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("part", ["x", "y", "group"])
def test_one_changed_value_changes_the_fingerprint(random_data, split, part):
    before = cards.fingerprint(random_data)
    assert before == cards.fingerprint(random_data)
    value = getattr(getattr(random_data, split), part).clone()
    value.view(-1)[-1] ^= 1
    other = dataclasses.replace(getattr(random_data, split), **{part: value})
    assert cards.fingerprint(Data(**vars(random_data) | {split: other})) != before


def test_the_order_of_bytes_in_memory_does_not(random_data):
    other = random_data.train.to(random_data.train.x.device)
    found = cards.fingerprint(Data(**vars(random_data) | {"train": other}))
    assert found == cards.fingerprint(random_data)


def test_a_group_without_images_has_a_dash(made):
    counts = json.loads(json.dumps(made.record.counts))
    for kind in ("correct", "total"):
        counts["test"][kind][9][9] = 0
    text = cards.markdown(changed(made, counts=counts))
    assert "| CWV × 10⁴, 0 is fair | – | standard error –, chance alone – |" in text
    assert "| 9 | 0 | 0 | – | – to – |" in text


def test_the_markdown_has_every_part(made, card):
    record = made.record
    text = cards.markdown(card)
    correct, total = record.split("test").by_group()
    found = summaries.measures(correct, total)
    accuracy = metrics.share_interval(correct.sum(), total.sum())
    assert text.startswith("# Ticket `digits_mlp_magnitude_d0.05_s0.safetensors.zlib`\n")
    assert "| network | mlp, 851 of 17,024 weights kept |" in text
    both = "5.00% of the weights that could be pruned, 6.11% of all 17,226 weights"
    assert f"| density | {both} |" in text
    assert card.sha256 in text
    assert "divided by 127.5, minus 1" in text
    assert "## On 449 test images" in text
    ends = f"95 % interval {accuracy.low * 100:.1f} to {accuracy.high * 100:.1f}"
    assert f"| accuracy % | {found['accuracy'] * 100:.1f} | {ends} |" in text
    chance = f"chance alone {found['mcd_floor'] * 100:.1f}"
    assert f"| MCD, points, 0 is fair | {found['mcd'] * 100:.1f} | {chance} |" in text
    assert all(f"\n| {name} | " in text for name in record.groups)
    assert cards.INTENDED_USE in text
    assert all(f"* {limit}" in text for limit in cards.LIMITS)
    assert not re.search(r"\bNone\b|\bnan\b|dead|no layer is empty|goes on from", text)


def test_a_card_that_did_not_count_all_weights_keeps_its_bytes(made):
    older = changed(made)
    assert older.parameters == 0
    assert b"parameters" not in cards.card_bytes(older)
    text = cards.markdown(older)
    assert "| density | 5.00% of the weights that could be pruned |" in text


def test_a_record_that_says_dead_makes_a_card_that_says_so_first(made):
    card = changed(made, notes={"dead": "Its outputs are the same."}, feasible=True)
    assert card.feasible is False
    second = cards.markdown(card).splitlines()[2]
    assert second == "**This ticket is dead: do not use it.** Its outputs are the same."


def test_a_layer_without_weights_makes_a_dead_ticket(made):
    layers = [dict(layer) for layer in made.record.layers]
    layers[1]["kept"] = 0
    card = changed(made, layers=layers, feasible=None)
    assert card.dead == "All weights of linear2.weight were pruned."
    assert card.feasible is None
    assert "do not use it.** All weights of linear2.weight" in cards.markdown(card)


def test_where_a_layer_was_kept_alive_is_told(made):
    card = changed(made, notes={"rescued": {"linear3.weight": 2}})
    row = "| kept so that no layer is empty | 2 of linear3.weight |"
    assert row in cards.markdown(card)


def test_why_dead_worked_by_hand():
    alive = [{"layer": "a", "kept": 1}]
    outputs = torch.tensor([[1.0, 100.0], [1.0, 100.0]])
    assert cards.why_dead(alive) == ""
    assert cards.why_dead(alive, outputs) == "Its outputs are the same for every image."
    assert cards.why_dead(alive, outputs + torch.tensor([[0.0], [1e-5]])) != ""  # of 100: no more
    assert cards.why_dead(alive, outputs + torch.tensor([[0.0], [1e-3]])) == ""
    assert cards.why_dead(alive, outputs[:1]) == ""  # one image tells nothing
    two = [*alive, {"layer": "b", "kept": 0}, {"layer": "c", "kept": 0}]
    assert cards.why_dead(two, outputs) == "All weights of b, c were pruned."


MAKE = methods.make


def dead_method(run, data):
    """A ticket whose last layer has lost all its weights."""

    ticket = MAKE(run, data)
    kept = {name: mask.clone() for name, mask in ticket.mask.items()}
    pruned = (~kept["linear1.weight"]).view(-1).nonzero()[: int(kept["linear3.weight"].sum()), 0]
    kept["linear1.weight"].view(-1)[pruned] = True
    kept["linear3.weight"][:] = False
    mask = MaskSet(kept)
    mask.apply(ticket.model)
    return Ticket(ticket.model, mask, cost=ticket.cost, feasible=True)


def test_a_dead_run_is_not_feasible_and_its_record_says_why(tmp_path, monkeypatch, smoke_run):
    monkeypatch.setattr(experiments.methods, "make", dead_method)
    record = experiments.run(smoke_run, tmp_path)
    assert record.feasible is False
    assert record.notes["dead"] == "All weights of linear3.weight were pruned."
    loaded = tickets.load(config.ticket_path(smoke_run, tmp_path), smoke_run)
    assert loaded.card.dead == record.notes["dead"]
    assert loaded.mask.n_kept == 851


NASTY = [
    "<script>alert(1)</script>",
    "a|b",
    "x\n# y",
    "$x^2$ $y$",
    "`code`",
    "*bold* _it_",
    "a_b_c",
]
NASTY += ["[link](http://x)", r"\(z\)", "&amp;", "", "~~gone~~", "\u2028|\r| --- |", "![i](x)"]


@pytest.fixture(scope="module")
def nasty(made):
    """A card whose groups, target and data set are named by somebody nasty; its groups' names."""
    groups = (NASTY * 2)[:14]
    counts = {"correct": [[1] * 14] * 10, "total": [[2] * 14] * 10}
    record = made.record
    values = vars(record) | {"groups": groups, "counts": record.counts | {"test": counts}}
    values["predictions"] = {}  # they would say something else
    own = type(record)(**values | {"target": "t|<b>$q$</b>", "group_by": "g`\n`"})
    return cards.markdown(cards.card_of(own, made.data, "t", b"x", 1)), groups


def test_names_come_through_html_as_they_are(nasty):
    text, groups = nasty
    page = markdown2html_mistune(text)
    assert "<script>" not in page
    assert "<b>$q$" not in page
    table = page.split("<table>")[3]
    rows = re.findall(r"<tr>(.*?)</tr>", table, flags=re.DOTALL)[1:]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.DOTALL) for row in rows]
    assert [len(row) for row in cells] == [5] * 14
    shown = [html.unescape(re.sub(r"</?span>", "", row[0])) for row in cells]
    assert shown == [" ".join(name.split()) for name in groups]


def test_no_name_begins_a_formula(nasty):
    """Neither in the Markdown, where Jupyter looks for them, nor in one text of the page."""
    text, _ = nasty
    body = text.split("## Reading")[0]
    assert "$" not in body
    assert "\\" not in body
    page = markdown2html_mistune(body)
    texts = html.unescape(re.sub(r"<[^>]*>", "\0", page)).split("\0")
    assert not [part for part in texts if re.search(r"\$[^$]+\$|\\\(|\\\[", part)]


def test_the_cards_own_lines_read_the_ticket_where_fairlth_cannot_be_imported(made, card, tmp_path):
    path = made.path
    (tmp_path / path.name).write_bytes(path.read_bytes())
    [lines] = re.findall(r"```python\n(.*?)\n```", cards.markdown(card), flags=re.DOTALL)
    assert len(lines.splitlines()) == 10
    assert "fairlth" not in lines
    ast.parse(lines)
    command = [sys.executable, "-c", ALONE + lines + SAY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    said, logits = done.stdout.splitlines()
    assert said == "851 False"
    loaded = tickets.load(path)
    x = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(torch.tensor(json.loads(logits)), loaded.model(x), atol=1e-6)


def test_the_cards_own_lines_keep_a_shift_that_the_network_has_no_place_for(
    made, tmp_path, monkeypatch
):
    model, mask, _ = tickets.load(made.path)
    shift = torch.linspace(-1, 1, 10)
    add_to_outputs(model, shift)  # into a buffer of its own
    again = tmp_path / made.path.name
    tickets.write(Ticket(model, mask, cost=1.0), made.record, made.data, again)
    monkeypatch.chdir(tmp_path)
    names = {"network": build("mlp", (1, 8, 8), 10, torch.Generator())}
    exec("\n".join(tickets.read_card(again).reading), names)
    images = as_float(made.data.test.x[:4])
    with torch.no_grad():
        outputs = names["network"](images) + names["shift"]
        assert torch.allclose(outputs, model.eval()(images), atol=1e-6)
    assert torch.equal(names["shift"], shift)


def test_the_cards_own_lines_find_kept_weights_that_are_zero(made, tmp_path, monkeypatch):
    model, mask, _ = tickets.load(made.path)
    weight = model.get_parameter("linear1.weight").data.view(-1)
    weight[weight.nonzero()[:5, 0]] = 0
    again = tmp_path / made.path.name
    tickets.write(Ticket(model, mask, cost=1.0), made.record, made.data, again)
    monkeypatch.chdir(tmp_path)
    names = {"network": model}
    exec("\n".join(tickets.read_card(again).reading), names)
    assert set(names["masks"]) == set(mask)
    for name, kept in mask.items():
        assert torch.equal(torch.from_numpy(names["masks"][name]), kept)
