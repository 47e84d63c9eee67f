"""What holds for every method: densities, seeds, costs, switches, and what is refused."""

from dataclasses import replace

import pytest
import torch

from fairlth import data, methods, metrics
from fairlth.bias_shift import fair_shift
from fairlth.config import METHOD_TABLE, Run, paths
from fairlth.lottery import longer
from fairlth.masks import count_kept, prunable
from fairlth.methods import METHODS
from fairlth.methods.plain import search_at_rate
from fairlth.methods.sharing import dense_once
from fairlth.training import count, fit, logits, predict


def run_of(method, **change):
    density = 1.0 if method == "dense" else 0.02
    fields = {"dataset": "digits", "model": "mlp", "density": density, "seed": 0, "preset": "smoke"}
    return Run(method=method, **fields | change)


WEIGHTS = [name for name in METHODS if METHOD_TABLE[name].structure == "weights"]
SPARSE = [name for name in WEIGHTS if name != "dense"]
WITH_KNOBS = [name for name in WEIGHTS if METHOD_TABLE[name].knob]


@pytest.fixture(scope="module")
def tickets(made_once):
    """Every method's ticket on the digits, each trained once."""
    return lambda method, **change: made_once(run_of(method, **change))


def state(ticket):
    return torch.cat([value.flatten() for value in ticket.model.state_dict().values()])


def mask(ticket):
    return torch.cat([kept.flatten() for kept in ticket.mask.values()])


@pytest.mark.parametrize("method", WEIGHTS)
def test_density_is_exact_and_pruned_weights_are_zero(tickets, method):
    ticket = tickets(method)
    weights = prunable(ticket.model)
    assert ticket.mask.n_kept == count_kept(1.0 if method == "dense" else 0.02, weights)
    assert all((weights[name][~kept] == 0).all() for name, kept in ticket.mask.items())


@pytest.mark.parametrize("method", WEIGHTS)
def test_same_seed_same_bits_another_seed_others(tickets, method, tmp_path, monkeypatch):
    run = run_of(method)
    monkeypatch.setattr(paths, "RUNS", tmp_path)  # nothing shared is found, all is trained again
    again = methods.make(run, data.load(run))
    assert torch.equal(state(tickets(method)), state(again))
    assert not torch.equal(state(again), state(tickets(method, seed=1)))


@pytest.mark.parametrize("method", WEIGHTS)
def test_a_method_leaves_the_dense_net_as_it_was_handed(tickets, method):
    """The next method gets the same one, also where this one trains or prunes a copy of it."""
    run = run_of(method)
    loaded = data.load(run)
    dense = dense_once(run, loaded)
    states = (dense.network.state_dict(), dense.rewind, dense.trained, dense.conflict)
    before = [{name: value.clone() for name, value in one.items()} for one in states]
    ticket = METHODS[method](run, loaded, dense)
    assert torch.equal(state(ticket), state(tickets(method)))
    for one, old in zip(states, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in one.items())


FAIRGRAPE_COST = 2 + (7 * 1 + 8 * 1169 / 1169) / 10  # 8 steps, 7 followed by an epoch; all images
SAFECOMPRESS_COST = 2 + 3 * 2 * 9 / (10 * 16)  # 3 branches of 2 of 16 steps, before 9 epochs


@pytest.mark.parametrize(
    ("method", "cost"),
    [
        ("dense", 1),
        ("random", 1),
        ("magnitude", 2),
        ("lth", (1 + 5 * 9) / 10),
        ("lth_rate", (10 + 17 + 9) / 10),
        ("lth_long", (10 + 17 + 18) / 10),
        ("lth_long_shift", (10 + 17 + 18) / 10),
        ("lth_fine", (1 + 19 * 9) / 10),
        ("ballot", (10 + 17 + 18) / 10),
        ("shuffled", (10 + 17 + 18) / 10),
        ("fairscratch", 1),
        ("fairscratch_train", 2),
        ("pw_loss", 2),
        ("constrained", 2),
        ("safecompress", SAFECOMPRESS_COST),
        ("fairgrape", FAIRGRAPE_COST),
    ],
)
def test_costs_count_every_epoch(tickets, method, cost):
    assert tickets(method).cost == pytest.approx(cost)


def test_what_shares_a_selection_shares_the_mask(tickets):
    assert torch.equal(mask(tickets("lth")), mask(tickets("lth_bias")))
    assert torch.equal(mask(tickets("lth_rate")), mask(tickets("ballot_refine")))
    assert torch.equal(mask(tickets("lth_rate")), mask(tickets("lth_long")))
    assert not torch.equal(mask(tickets("lth")), mask(tickets("lth_rate")))
    assert not torch.equal(mask(tickets("lth")), mask(tickets("lth_fine")))
    assert torch.equal(mask(tickets("ballot")), mask(tickets("ballot_select")))
    assert not torch.equal(mask(tickets("lth")), mask(tickets("ballot")))
    assert not torch.equal(mask(tickets("lth")), mask(tickets("random")))
    assert torch.equal(mask(tickets("fairscratch")), mask(tickets("fairscratch_train")))
    assert torch.equal(mask(tickets("magnitude")), mask(tickets("pw_loss")))
    assert not torch.equal(mask(tickets("fairgrape")), mask(tickets("constrained")))


def test_shuffling_keeps_the_counts_of_each_layer_and_nothing_else(tickets):
    ours = tickets("ballot").mask
    shuffled = tickets("shuffled").mask
    assert [kept.sum() for kept in ours.values()] == [kept.sum() for kept in shuffled.values()]
    assert not torch.equal(mask(tickets("ballot")), mask(tickets("shuffled")))


@pytest.mark.parametrize(
    ("one", "other"),
    [("lth_rate", "ballot_refine"), ("ballot", "ballot_select"), ("lth", "lth_bias")],
)
def test_what_differs_in_training_differs_in_weights(tickets, one, other):
    assert not torch.equal(state(tickets(one)), state(tickets(other)))


@pytest.mark.parametrize("method", WITH_KNOBS)
def test_pressure_is_a_switch(tickets, method):
    """At a density where every method learns."""
    own = tickets(method, density=0.1, seed=1)
    none = tickets(method, density=0.1, seed=1, pressure=0.0)
    assert not torch.equal(state(own), state(none))


@pytest.mark.parametrize("method", SPARSE)
def test_density_is_a_switch(tickets, method):
    assert tickets(method, density=0.1).mask.n_kept == 1702


def test_a_lottery_ticket_beats_random_weights_at_2_percent(tickets, smoke_run):
    split = data.load(smoke_run).test
    found = metrics.accuracy(*predict(tickets("lth").model, split))
    drawn = metrics.accuracy(*predict(tickets("random").model, split))
    assert found > drawn + 0.3


def test_the_long_ticket_is_the_plain_one_trained_as_long_as_ballots(smoke_run):
    """Same search and mask as `lth_rate`, and 18 epochs after the rewind where that trains 9."""
    run = smoke_run.model_copy(update={"method": "lth_long"})
    loaded = data.load(run)
    dense = dense_once(run, loaded)
    ticket = METHODS["lth_long"](run, loaded, dense)
    plain = METHODS["lth_rate"](run, loaded, dense)
    assert all(torch.equal(kept, plain.mask[name]) for name, kept in ticket.mask.items())
    twin = search_at_rate(run, loaded, dense)
    schedule = run.settings.schedule.model_copy(update={"epochs": 19})
    assert longer(run) == schedule
    fit(twin.model, loaded, schedule, seed=0, start=1, after_step=twin.mask.apply)
    trained = ticket.model.state_dict()
    for name, value in twin.model.state_dict().items():
        assert torch.equal(value, trained[name])
    refined = METHODS["ballot_refine"](run, loaded, dense)
    assert ticket.cost == refined.cost == pytest.approx(plain.cost + 0.9)


def test_the_shift_of_a_long_ticket_is_chosen_on_validation_images(tickets):
    """Nothing but the last biases differs from `lth_long`; at most 2 points of accuracy are given."""
    plain, shifted = (tickets(method) for method in ("lth_long", "lth_long_shift"))
    before = plain.model.state_dict()
    after = shifted.model.state_dict()
    changed = [name for name, value in after.items() if not torch.equal(value, before[name])]
    head = list(before)[-1]
    assert changed == [head] and head.endswith(".bias")
    moved = after[head] - before[head]
    assert torch.allclose(moved, torch.tensor(shifted.notes["shift"]), atol=1e-6)
    val = data.load(run_of("lth_long")).val
    old, new = (predict(ticket.model, val) for ticket in (plain, shifted))
    assert metrics.cwv(*new.by_group()) < metrics.cwv(*old.by_group())
    assert metrics.accuracy(*new) >= metrics.accuracy(*old) - 0.02


def test_fine_levels_keep_four_fifths_each(smoke_run):
    """0.8^14 is the first power below 0.05: 14 levels of 9 epochs; the preset's share makes 3."""
    run = smoke_run.model_copy(update={"method": "lth_fine"})
    loaded = data.load(run)
    dense = dense_once(run, loaded)
    coarse = METHODS["lth"](run, loaded, dense)
    fine = METHODS["lth_fine"](run, loaded, dense)
    assert coarse.cost == (1 + 3 * 9 + 9) / 10
    assert fine.cost == (1 + 14 * 9 + 9) / 10
    assert any(not torch.equal(kept, fine.mask[name]) for name, kept in coarse.mask.items())


def test_no_pressure_is_no_bias_shift(tickets):
    assert torch.equal(state(tickets("lth")), state(tickets("lth_bias", pressure=0.0)))


def test_the_bias_shift_lowers_validation_cwv(tickets, smoke_run):
    val = data.load(smoke_run).val
    outputs = logits(tickets("lth", density=0.005).model, val)
    shift = fair_shift(outputs, val)
    before = count(outputs, val).by_group()
    after = count(outputs + shift, val).by_group()
    assert metrics.cwv(*after) < metrics.cwv(*before)
    assert shift.sum() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("method", "pressure", "sentence"),
    [
        ("lth_bias", 1.5, "pressure=1.5 is out of range for lth_bias: expected 0 to 1"),
        ("safecompress", 2.0, "pressure=2.0 is out of range for safecompress: expected 0 to 1"),
        ("lth", 0.5, "pressure=0.5 is refused: lth has no fairness knob, leave pressure out"),
    ],
)
def test_a_pressure_that_a_method_cannot_take_is_refused(method, pressure, sentence):
    with pytest.raises(ValueError, match=sentence):
        methods.check(run_of(method, pressure=pressure))


@pytest.mark.parametrize(
    "method",
    ["ballot", "fairgrape", "constrained", "safecompress", "fairscratch", "lth_bias", "shuffled"],
)
def test_one_group_is_refused_by_what_compares_groups(random_data, method):
    alone = replace(random_data.train, group=torch.zeros(96, dtype=torch.long), n_groups=1)
    one = replace(random_data, train=alone, groups=["everyone"])
    sentence = f"digits has one group, 'everyone', and {method} compares groups"
    with pytest.raises(ValueError, match=sentence):
        methods.check_data(run_of(method, density=0.1), one)
    methods.check_data(run_of("lth", density=0.1), one)


@pytest.mark.parametrize(
    "method", ["fairgrape", "fairscratch", "fairscratch_train", "safecompress"]
)
def test_a_density_that_empties_a_layer_is_refused_by_name(random_data, method):
    sentence = r"density=0.0001 leaves linear\d.weight, which has \d+ weights, without any"
    with pytest.raises(ValueError, match=sentence):
        methods.check_data(run_of(method, density=0.0001), random_data)


def test_an_unknown_method_is_refused_by_name(smoke_run):
    with pytest.raises(ValueError, match="method='snip' is unknown: choose one of dense, random"):
        methods.check(smoke_run.model_copy(update={"method": "snip"}))


def test_every_method_says_what_it_is():
    for name, method in METHODS.items():
        assert method.__doc__ and method.__name__ == name
