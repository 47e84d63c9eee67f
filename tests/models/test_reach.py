"""What pruning reaches of a network of yours, and what stays whole."""

import copy

import pytest
import torch
from torch import nn

from fairlth import config, methods, models
from fairlth.config import METHOD_TABLE, Run
from fairlth.masks import prunable
from fairlth.methods import METHODS
from fairlth.models import reach
from fairlth.shipping import ticket as tickets
from fairlth.workflow import experiments

WEIGHTS = [name for name in METHODS if METHOD_TABLE[name].structure == "weights"]


class Net(nn.Module):
    """A stem of two convolutions, attention over 4 places, and a head."""

    def __init__(self, in_shape, n_classes):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_shape[0], 4, 4, stride=4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        )
        self.places = nn.Parameter(torch.randn(1, 4, 4))
        self.kinds = nn.Embedding(1, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(16, n_classes)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2) + self.places + self.kinds.weight
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x.flatten(1))


NET = """\
layer                     shape           weights  pruned
------------------------  ------------  ---------  -------------
places                    1 x 4 x 4            16  no, parameter
stem.0                    4 x 1 x 4 x 4        64  no, keep
stem.2                    4 x 4 x 1 x 1        16  no, keep
kinds                     1 x 4                 4  no, embedding
attention.in_proj_weight  12 x 4               48  yes
attention.out_proj        4 x 4                16  yes
head                      10 x 16             160  no, keep
biases                    5 tensors            34  no, biases
norms                     2 tensors             8  no, norms
sum                                           366
of these can be pruned                         64"""


def words(text):
    """The cells of each line, but for the line of dashes."""
    return [line.split() for line in text.splitlines() if not line.startswith("---")]


def added(keep=(), net=Net):
    return models.add("net", net, in_shape=(1, 8, 8), n_classes=10, keep=keep)


def test_the_table_has_every_layer_and_says_why_one_is_not_pruned(own, capsys):
    model = added(keep=("head", "stem.*"))
    printed = capsys.readouterr().out
    assert words(printed) == words(NET)
    assert printed == reach.table(model) + "\n"
    parts = reach.reach(model)
    assert sum(part.weights for part in parts) == sum(p.numel() for p in model.parameters()) == 366


def test_a_frozen_layer_is_told_from_one_that_is_kept():
    model = Net((1, 8, 8), 10)
    model.keep_whole = ("head",)
    model.stem[0].requires_grad_(False)
    answers = {part.layer: part.pruned for part in reach.reach(model)}
    assert answers["head"] == "no, keep"
    assert answers["stem.0"] == "no, frozen"
    assert answers["stem.2"] == "yes"


def test_a_table_is_at_most_100_columns_wide():
    model = nn.ModuleDict({"a" * 80: nn.Conv3d(1024, 2048, 1), "b": nn.Conv2d(3, 3, 3)})
    model["c" * 60] = nn.MultiheadAttention(12, 2)
    with torch.device("meta"):
        model["d"] = nn.Linear(100_000, 100_000)
    lines = reach.table(model).splitlines()
    assert max(map(len, lines)) <= 100
    assert "a" * 19 + "…" + "a" * 20 + " " in lines[2]
    assert "10,000,000,000" in lines[-4]


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        (
            ("head", "sten.*"),
            "model 'net': keep='sten.*' names no layer that could be pruned: choose from stem.0, "
            "stem.2, attention, attention.out_proj, head.",
        ),
        (
            ("*",),
            "model 'net': keep=('*',) leaves nothing to prune: name fewer of stem.0, stem.2, "
            "attention, attention.out_proj, head.",
        ),
        (
            "head",
            "keep='head' is refused: expected names of layers in a tuple, such as (\"head\",).",
        ),
        ((1,), 'keep=(1,) is refused: expected names of layers in a tuple, such as ("head",).'),
    ],
)
def test_what_keep_cannot_be_gets_one_sentence(own, keep, sentence):
    with pytest.raises(ValueError) as caught:
        added(keep)
    assert str(caught.value) == sentence
    assert "net" not in models.MODELS


def test_a_network_that_keeps_other_layers_is_another_one(own):
    found = set()
    for keep in ((), ("head",), ("stem.*",), ("head", "stem.*"), ("stem.*", "head")):
        added(keep)
        found.add(models.fingerprint("net"))
    assert len(found) == 4


NAMES = ["stem.2.weight", "attention.in_proj_weight", "attention.out_proj.weight"]


@pytest.mark.parametrize("method", WEIGHTS)
def test_every_method_leaves_layers_whole_that_keep_names(own, random_data, method):
    models.add("net", Net, in_shape=(1, 8, 8), n_classes=3, keep=("head", "stem.0"))
    density = 1.0 if method == "dense" else 0.5
    run = Run(dataset="digits", model="net", method=method, density=density, seed=0, preset="smoke")
    ticket = methods.make(run, random_data)
    assert [*ticket.mask] == NAMES
    assert (ticket.mask.n_kept, ticket.mask.total) == (80 * density, 80)
    for name, mask in ticket.mask.items():
        assert not ticket.model.get_parameter(name)[~mask].any()
    assert ticket.model.head.weight.count_nonzero() == 3 * 16
    assert ticket.model.stem[0].weight.count_nonzero() == 64


def test_a_ticket_of_it_is_stored_and_read(own, tmp_path):
    added(keep=("head", "stem.0"))
    run = Run(
        dataset="digits", model="net", method="magnitude", density=0.5, seed=0, preset="smoke"
    )
    record = experiments.run(run, tmp_path)
    assert (record.kept, record.total) == (40, 80)
    loaded = tickets.load(config.ticket_path(run, tmp_path))
    assert list(prunable(loaded.model)) == list(loaded.mask) == NAMES
    assert loaded.model.head.weight.count_nonzero() == 160
    assert loaded.card.parameters == 366
    assert loaded.card.density_of_all == pytest.approx(1 - 40 / 366)
    assert list(prunable(copy.deepcopy(loaded.model))) == NAMES
