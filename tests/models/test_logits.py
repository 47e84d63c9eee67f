"""Networks that give more than logits: the logits are taken, the rest is set aside."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fairlth import config, data, models
from fairlth.config import Run
from fairlth.masks import count_frozen, prunable
from fairlth.methods import sharing
from fairlth.models.logits import logits_in
from fairlth.shipping import export
from fairlth.shipping import ticket as tickets
from fairlth.training import count, logits
from fairlth.workflow import experiments

SHAPE = (1, 8, 8)
Outputs = namedtuple("Outputs", ["logits", "aux"])  # as torchvision has them


@dataclass
class ModelOutput:
    """As Hugging Face has them."""

    logits: Tensor
    hidden: Tensor


class Net(nn.Module):
    """A linear network with an auxiliary head, that gives its outputs as it is told."""

    def __init__(self, n_classes, give):
        super().__init__()
        self.first = nn.Linear(64, 16)
        self.last = nn.Linear(16, n_classes)
        self.aux = nn.Linear(16, n_classes)
        self.give = give

    def forward(self, x):
        x = self.first(x.flatten(1)).relu()
        return self.give(self, x)


def only_while_training(net, x):
    return Outputs(net.last(x), net.aux(x)) if net.training else net.last(x)


FORMS = {
    "a named tuple": lambda net, x: Outputs(net.last(x), net.aux(x)),
    "a named tuple while it trains": only_while_training,
    "an object": lambda net, x: ModelOutput(net.last(x), net.aux(x)),
    "a dictionary of out": lambda net, x: {"out": net.last(x), "aux": net.aux(x)},
    "a dictionary of logits": lambda net, x: {"aux": net.aux(x), "logits": net.last(x)},
}


@pytest.mark.parametrize("give", FORMS.values(), ids=FORMS)
def test_the_logits_are_taken_and_the_rest_is_frozen(own, give):
    models.add("mine", lambda in_shape, n_classes: Net(n_classes, give), SHAPE, 10)
    net = models.build("mine", SHAPE, 10, torch.Generator().manual_seed(0))
    x = torch.randn(3, *SHAPE)
    for training in (True, False):
        assert torch.equal(net.train(training)(x), net.last(net.first(x.flatten(1)).relu()))
    assert list(prunable(net)) == ["first.weight", "last.weight"]
    assert [name for name, value in net.named_parameters() if not value.requires_grad] == [
        "aux.weight",
        "aux.bias",
    ]
    assert count_frozen(net) == 160


def test_what_has_no_name_is_left_as_it_is():
    pair = (torch.ones(2), torch.zeros(2))
    assert logits_in(pair) is pair
    assert logits_in({"features": pair}) == {"features": pair}


def test_an_idle_layer_is_still_refused_where_a_network_gives_logits_alone(own):
    with pytest.raises(ValueError, match="aux.weight has no part in the output"):
        models.add(
            "mine",
            lambda in_shape, n_classes: Net(n_classes, lambda net, x: net.last(x)),
            SHAPE,
            10,
        )


@pytest.mark.parametrize("method", ["ballot", "fairscratch"])
def test_a_ticket_of_such_a_network_goes_all_the_way(own, method, tmp_path):
    """Trained, pruned, shifted, written, read, and exported: the same counts everywhere."""
    give = FORMS["a dictionary of out"]
    models.add("mine", lambda in_shape, n_classes: Net(n_classes, give), SHAPE, 10)
    run = Run(dataset="digits", model="mine", method=method, density=0.5, seed=0, preset="smoke")
    record = experiments.run(run, tmp_path)
    assert (record.kept, record.total) == (592, 64 * 16 + 160)
    loaded = tickets.load(config.ticket_path(run, tmp_path), run)
    test = data.load(run).test
    expected = record.counts["test"]["correct"]
    assert count(logits(loaded.model, test), test).correct.tolist() == expected
    session = export.session(export.onnx(loaded.model, SHAPE, loaded.card))
    assert count(export.logits(session, test), test).correct.tolist() == expected
    first = sharing.fresh(run, data.load(run))
    assert torch.equal(loaded.model.aux.weight, first.aux.weight)
