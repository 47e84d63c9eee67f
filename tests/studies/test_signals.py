import math

import pytest
import torch
from torch import nn

from fairlth.masks import prunable
from fairlth.selection import magnitude
from studies import signals
from studies.signals import SIGNALS, SquareMeter, TwoMasks


@pytest.fixture
def model():
    """One layer of six weights, the last one pruned."""
    network = nn.Linear(6, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, -2.0, 1.0, 1.0, 1.0, 0.0]]))
    return network


def squares(accuracy, fairness):
    return {
        "accuracy/weight": torch.tensor([accuracy]),
        "fairness/weight": torch.tensor([fairness]),
    }


def read(signal, even, odd):
    signal.meter.sums = (squares(*even), squares(*odd))


# Summed over both halves: accuracy wants weights 0 and 1, fairness 1 and 2 (weight 1 by its size).
EVEN = ([4.0, 1.0, 1.0, 1.0, 0.0, 9.0], [0.0, 1.0, 4.0, 1.0, 0.0, 9.0])
ODD = ([4.0, 1.0, 0.0, 1.0, 0.0, 9.0], [1.0, 1.0, 4.0, 0.0, 0.0, 9.0])


def test_a_weight_that_one_mask_alone_wants_is_demoted(random_data, model):
    signal = TwoMasks(random_data, seed=0, strength=0.3)
    read(signal, EVEN, ODD)
    score = signal.score(model, density=0.34)["weight"][0]
    low = math.exp(-0.3)
    assert score.tolist() == pytest.approx([low, 2.0, low, 1.0, 1.0, 0.0])


def test_a_negative_strength_protects_what_is_in_conflict(random_data, model):
    signal = TwoMasks(random_data, seed=0, strength=-0.3)
    read(signal, EVEN, ODD)
    score = signal.score(model, density=0.34)["weight"][0]
    high = math.exp(0.3)
    assert score.tolist() == pytest.approx([high, 2.0, high, 1.0, 1.0, 0.0])


def test_by_votes_a_weight_that_no_mask_wants_is_demoted_twice(random_data, model):
    signal = TwoMasks(random_data, seed=0, strength=0.3, votes=True)
    read(signal, EVEN, ODD)
    score = signal.score(model, density=0.34)["weight"][0]
    once, twice = math.exp(-0.3), math.exp(-0.6)
    assert score.tolist() == pytest.approx([once, 2.0, once, twice, twice, 0.0])


def test_agreement_is_the_share_of_weights_on_one_side_by_both_halves(random_data, model):
    signal = TwoMasks(random_data, seed=0, strength=0.3)
    assert math.isnan(signal.agreement())
    read(signal, EVEN, ODD)
    signal.score(model, density=0.34)
    assert signal.agreement() == 1.0
    turned = ODD[1], ODD[0]
    read(signal, EVEN, turned)
    signal.score(model, density=0.34)
    assert signal.agreement() == 0.0


def test_the_readings_are_the_squares_of_both_gradients(random_data):
    meter = SquareMeter(random_data.train, seed=0)
    accuracy = {"weight": torch.tensor([3.0, -2.0])}
    fairness = {"weight": torch.tensor([-1.0, 0.5])}
    found = meter.measure(accuracy, fairness)
    assert found["accuracy/weight"].tolist() == [9.0, 4.0]
    assert found["fairness/weight"].tolist() == [1.0, 0.25]


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_watches_a_training_and_scores_each_weight(name, random_data, monkeypatch):
    monkeypatch.setattr(signals, "BATCH", 6)  # an epoch has 16 steps
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    signal = SIGNALS[name](random_data, 0)
    for _ in range(32):
        signal(network)
    scores = signal.score(network, density=0.5)
    plain = magnitude(prunable(network))
    assert {layer: score.shape for layer, score in scores.items()} == {
        layer: score.shape for layer, score in plain.items()
    }
    assert all(score.isfinite().all() for score in scores.values())
    same = all(torch.equal(scores[layer], plain[layer]) for layer in plain)
    assert same == (name == "magnitude")
