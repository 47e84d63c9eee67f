"""Tickets of whole units: what they promise, what they train, and the small network they leave."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from fairlth import config, data, methods
from fairlth.bias_shift import add_to_outputs
from fairlth.config import METHOD_TABLE, PRESETS, Run, Schedule, paths, ticket_path
from fairlth.lottery import Dense, Found, Ticket, train_plainly
from fairlth.masks import MaskSet, prunable
from fairlth.methods import METHODS, fairprune, units
from fairlth.methods.sharing import dense_once, fresh
from fairlth.models.unit_graph import Group, Member
from fairlth.models.units import UnitMask, all_kept, cut, kept_units, unit_mask
from fairlth.shipping import ticket as tickets
from fairlth.shipping.export import flops
from fairlth.shipping.remove import remove
from fairlth.training import fit, logits, predict
from fairlth.workflow import experiments

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed (extra `units`)")
NAMES = [name for name in METHODS if METHOD_TABLE[name].structure == "units"]
N = 128 * 64 + 64 * 128 + 64 * 10  # weights of the mlp on digits


def run_of(method, **changes):
    fields = {"dataset": "digits", "model": "mlp", "density": 0.1, "seed": 0, "preset": "smoke"}
    return Run(method=method, **fields | changes)


@pytest.fixture(scope="module")
def tickets_made(made_once):
    """Every method's ticket of units, each trained once."""
    return lambda method, **changes: made_once(run_of(method, **changes))


def state(ticket):
    return torch.cat([value.flatten() for value in ticket.model.state_dict().values()])


def rows_kept(mask):
    """Units that each layer keeps."""
    return [int(own.flatten(1).any(1).sum()) for own in mask.values()]


def mlp_weights(kept):
    """Weights of the mlp with so many units left in its hidden layers."""
    one, two = kept
    return 64 * one + one * two + two * 10


@pytest.mark.parametrize("method", NAMES)
def test_at_most_the_density_stays_and_one_unit_more_were_above_it(tickets_made, method):
    """Counted anew from the units that the note names; the mask and the weights agree."""
    ticket = tickets_made(method)
    note = ticket.notes["units"]
    kept = rows_kept(ticket.mask)[:2]
    assert note["of"] == "weights" and note["limit"] == N // 10 == 1702
    assert note["counted"] == mlp_weights(kept) == ticket.mask.n_kept <= 1702
    one, two = kept
    assert note["one_more"] in (mlp_weights((one + 1, two)), mlp_weights((one, two + 1)))
    assert note["one_more"] > 1702
    assert note["dense_flops"] == 2 * N and note["flops"] == 2 * ticket.mask.n_kept
    weights = prunable(ticket.model)
    assert all((weights[name][~own] == 0).all() for name, own in ticket.mask.items())
    gone = ~ticket.mask["linear1.weight"].any(1)
    assert gone.sum() == 128 - one
    assert not ticket.model.linear1.bias[gone].any() and ticket.model.linear1.bias[~gone].all()
    assert not ticket.mask["linear2.weight"][:, gone].any()


@pytest.mark.parametrize("method", NAMES)
def test_same_seed_same_bits_another_seed_others(tickets_made, method, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    run = run_of(method)
    again = methods.make(run, data.load(run))
    assert torch.equal(state(tickets_made(method)), state(again))
    assert not torch.equal(state(again), state(tickets_made(method, seed=1)))


@pytest.mark.parametrize(
    ("method", "cost"),
    [
        ("units_norm", (10 + 10 + 9) / 10),  # 0.1 in 11 levels, 10 of them short
        ("units_long", (10 + 10 + 18) / 10),
        ("units_ballot", (10 + 10 + 18) / 10),
        ("units_scratch", (20 + 29) / 10),
        ("fairprune", (10 + 10 + 9) / 10 + 11 / 10),  # all images are read in each level
    ],
)
def test_costs_count_every_epoch(tickets_made, method, cost):
    assert tickets_made(method).cost == pytest.approx(cost)


def test_every_method_is_another(tickets_made):
    states = [state(tickets_made(name)) for name in NAMES]
    for number, one in enumerate(states):
        assert not any(torch.equal(one, other) for other in states[number + 1 :])


@pytest.mark.parametrize("method", ["units_ballot", "fairprune"])
def test_pressure_is_a_switch(tickets_made, method):
    own = tickets_made(method, seed=1)
    none = tickets_made(method, seed=1, pressure=0.0)
    assert not torch.equal(state(own), state(none))


def test_ballot_of_units_demotes_the_units_in_conflict():
    """Two units of equal norm: the one in conflict goes; at strength 0 the first one would."""
    weights = {"one.weight": torch.ones(2, 3), "two.weight": torch.ones(4, 2)}
    conflict = {"one.weight": torch.tensor([-0.5, 0.5]), "two.weight": torch.zeros(4)}
    group = Group(2, (Member("one", 0, torch.arange(2)), Member("two", 1, torch.arange(2))))
    plain, aware = (
        units.unit_scores(group, units.ballot.conflict_aware(weights, conflict, strength))
        for strength in (0.0, 0.1)
    )
    assert plain.tolist() == [7.0, 7.0]
    assert aware[0] == 7.0 and aware[1] == pytest.approx(3 * 2.718281828**-0.1 + 4)


def test_fairprune_weighs_what_matters_to_whom():
    """Two weights, three groups; worked by hand: batches 1, 2 and 4, the second group privileged.

    First weight: (8 / 1 + 16 / 4) / 2 / 2 - 0.5 * 4 / 2 / 2 = 3 - 0.5.
    """
    importance = {"one.weight": torch.tensor([[8.0, 0.0], [4.0, 8.0], [16.0, 0.0]])}
    privileged = torch.tensor([False, True, False])
    found = fairprune.saliency(importance, [1, 2, 4], privileged, 0.5)
    assert found["one.weight"].tolist() == [2.5, -1.0]
    alone = fairprune.saliency(importance, [1, 2, 4], privileged, 0.0)
    assert alone["one.weight"].tolist() == [3.0, 0.0]


def test_fairprune_counts_every_batch():
    """Twice the same batch has the same mean as one; a batch of another kind changes it."""
    run = run_of("fairprune")
    loaded = data.load(run)
    network = fresh(run, loaded)
    first = torch.arange(32)
    groups = torch.zeros(loaded.train.n_groups, dtype=torch.bool)
    one, twice, other = (
        fairprune.saliency(
            fairprune.group_importance(network, loaded.train, [rows], 32),
            [len(rows) // 32],
            groups[:1],
            0.3,
        )["linear2.weight"]
        for rows in (first, first.repeat(2), torch.cat([first, first + 32]))
    )
    torch.testing.assert_close(one, twice)
    assert not torch.allclose(one, other)


def test_fairprune_names_the_groups_that_fare_better(tickets_made):
    run = run_of("fairprune")
    loaded = data.load(run)
    dense = dense_once(run, loaded)
    counts = predict(dense.at(dense.trained), loaded.val).by_group()
    accuracies = counts.correct / counts.total
    better = [
        name for name, own in zip(loaded.groups, accuracies, strict=True) if own > accuracies.mean()
    ]
    assert tickets_made("fairprune").notes["privileged"] == better
    assert 0 < len(better) < 10


@pytest.mark.parametrize("method", NAMES)
def test_a_record_and_a_ticket_are_written_and_read(method, tmp_path):
    run = run_of(method, model="convnet", density=0.2)
    record = experiments.run(run, tmp_path)
    loaded = tickets.load(ticket_path(run, tmp_path), run)
    assert loaded.mask.n_kept == record.kept == record.notes["units"]["counted"]
    assert json.loads(json.dumps(record.notes)) == record.notes


def test_a_quarter_of_the_flops_from_the_run_to_the_small_network(tmp_path, monkeypatch):
    counted = PRESETS["smoke"].model_copy(update={"count_flops": True, "round_units": 8})
    monkeypatch.setitem(PRESETS, "smoke", counted)
    run = run_of("units_norm", model="convnet", density=0.25)
    record = experiments.run(run, tmp_path)
    loaded = tickets.load(ticket_path(run, tmp_path), run)
    small = remove(loaded.model, loaded.mask, (1, 8, 8))
    note = record.notes["units"]
    assert note["of"] == "FLOPs" and note["dense_flops"] == flops(loaded.model, (1, 8, 8))
    assert note["counted"] == note["flops"] == flops(small, (1, 8, 8)) <= note["dense_flops"] / 4
    widths = [len(weight) for weight in prunable(small).values()]
    assert [width % 8 for width in widths] == [0, 0, 0, 0, 2]
    test = data.load(run).test
    assert (logits(small, test).argmax(1) == logits(loaded.model, test).argmax(1)).all()


def test_a_ticket_that_breaks_its_promise_is_not_written(tmp_path, monkeypatch):
    def greedy(run, data, dense):
        ticket = units.units_norm(run, data, dense)
        ticket.notes["units"]["one_more"] = ticket.notes["units"]["limit"]
        return ticket

    monkeypatch.setitem(METHODS, "units_norm", greedy)
    with pytest.raises(AssertionError, match="expected as many units as make at most 1702"):
        experiments.run(run_of("units_norm"), tmp_path)
    assert not list(tmp_path.rglob("*.zlib"))


def removal(run, **changes):
    loaded = data.load(run)
    made = units.removal_of(run, fresh(run, loaded), loaded)
    return replace(made, **changes)


@pytest.mark.parametrize("model", ["mlp", "resnet20"])
def test_the_small_network_learns_what_the_whole_one_with_its_mask_does(model):
    """Float sums of another length: values agree, bits need not."""
    run = run_of("units_norm", model=model, density=0.5)
    loaded = data.load(run)
    dense = Dense(fresh(run, loaded))
    ours = units.removal_of(run, dense.network, loaded)
    full = MaskSet.full(prunable(dense.network))
    mask = ours.choose(units.by_magnitude(dense.network), 0.5, full)
    schedule = Schedule(epochs=2, batch_size=64, lr=0.01)
    ends = []
    for small in (False, True):
        model = dense.fresh()
        with torch.no_grad():
            for weight in prunable(model).values():
                weight.mul_(1.1)  # as a search leaves others than it began with
        mask.apply(model)
        train = partial(train_plainly, run, loaded, schedule=schedule)
        found = Found(model, mask, 0)
        ticket = units.train_small(loaded, dense, found, train) if small else train(found)
        assert ticket.mask is mask and ticket.cost == (2 - 1) / 10
        ends.append(ticket.model)
    outputs, others = (logits(model, loaded.test) for model in ends)
    torch.testing.assert_close(outputs, others, atol=1e-3, rtol=1e-3)
    before = dense.fresh()
    mask.apply(before)
    assert (outputs - logits(before, loaded.test)).abs().max() > 0.1  # it has learned


def test_a_shift_of_outputs_without_biases_comes_back_with_the_small_network():
    """It is in a buffer that the whole network did not have."""
    run = run_of("units_norm")
    loaded = data.load(run)
    network = fresh(run, loaded)
    network.linear3.bias = None
    dense = Dense(network)
    mask = units.removal_of(run, network, loaded).choose(
        units.by_magnitude(network), 0.5, MaskSet.full(prunable(network))
    )
    shift = torch.arange(10.0)

    def train(small):
        add_to_outputs(small.model, shift)
        return Ticket(small.model, small.mask, 0.0)

    model = dense.fresh()
    mask.apply(model)
    plain = logits(model, loaded.test)
    ticket = units.train_small(loaded, dense, Found(model, mask, 0), train)
    torch.testing.assert_close(logits(ticket.model, loaded.test), plain + shift)


def test_units_go_in_the_order_of_their_norm():
    """All weights 1 but for two units of the first layer: these go first, the smaller one before.

    Where 1 unit of 128 goes, 16 256 + 640 = 16 896 weights stay.
    """
    run = run_of("units_norm")
    ours = removal(run)
    scores = {name: torch.ones_like(weight) for name, weight in prunable(ours.network).items()}
    scores["linear1.weight"][7] = 0.5
    scores["linear1.weight"][3] = 0.25
    full = MaskSet.full(scores)
    assert [ours.choose(scores, share, full).n_kept for share in (1.0, 0.9999)] == [N, N - 128]
    for share, gone in ((0.9999, [3]), (0.99, [3, 7])):
        mask = ours.choose(scores, share, full)
        assert (~mask["linear1.weight"].any(1)).nonzero()[:, 0].tolist() == gone
        assert mask["linear2.weight"].any(1).all()
        assert mask.one_more == N - 128 * (len(gone) - 1)


def test_what_is_pruned_stays_pruned_and_the_promise_is_handed_on():
    run = run_of("units_norm")
    ours = removal(run)
    scores = units.by_magnitude(ours.network)
    half = ours.choose(scores, 0.5, MaskSet.full(scores))
    turned = {name: -score for name, score in scores.items()}
    third = replace(ours, power=1).choose(turned, 0.3, half)
    assert all((half[name] | ~own).all() for name, own in third.items())
    same = ours.choose(scores, half.density, half)
    assert same.n_kept == half.n_kept and same.one_more == half.one_more > N // 2


@pytest.mark.parametrize("multiple", [8, 16])
def test_units_leave_by_multiples(multiple):
    run = run_of("units_norm", model="convnet")
    ours = removal(run, multiple=multiple)
    scores = units.by_magnitude(ours.network)
    full = MaskSet.full(scores)
    mask = ours.choose(scores, 0.3, full)
    kept = [int(own.sum()) for own in kept_units(ours.network, ours.groups, mask)]
    assert [n % multiple for n in kept] == [0] * 4 and min(kept) >= multiple
    plain = removal(run).choose(scores, 0.3, full)
    assert mask.n_kept <= plain.n_kept <= 0.3 * full.total < mask.one_more


def test_a_layer_narrower_than_the_multiple_stays_whole():
    """Of 16, 32, 64 and 112 units by 48 at once."""
    ours = removal(run_of("units_norm", model="convnet"), multiple=48)
    scores = units.by_magnitude(ours.network)
    least = ours.least()
    mask = ours.choose(scores, least.density + 1e-9, MaskSet.full(scores))
    assert rows_kept(mask) == rows_kept(least) == [16, 32, 48, 48, 10]


def test_a_network_that_has_diverged_is_refused():
    ours = removal(run_of("units_norm"))
    scores = units.by_magnitude(ours.network)
    scores["linear2.weight"][3, 5] = torch.nan
    with pytest.raises(ValueError) as caught:
        ours.choose(scores, 0.5, MaskSet.full(scores))
    assert str(caught.value) == (
        "a score is nan: the network that it was read from has diverged, lower its learning rate."
    )


def test_the_least_of_a_network_with_padded_shortcuts_is_within_reach():
    """Eight units in each block and eight that go through all."""
    run = run_of("units_norm", model="resnet20")
    ours = removal(run, multiple=8)
    scores = units.by_magnitude(ours.network)
    least = ours.least()
    assert least.n_kept == 9 * 8 * 1 + 9 * 2 * 8 * 8 * 9 + 8 * 10
    full = MaskSet.full(scores)
    mask = ours.choose(scores, least.n_kept / full.total, full)
    kept = [int(own.sum()) for own in kept_units(ours.network, ours.groups, mask)]
    assert mask.n_kept == least.n_kept
    assert kept == [0 if group.can_empty else 8 for group in ours.groups]


def test_the_promise_holds_where_what_a_shortcut_added_is_gone():
    run = run_of("units_norm", model="resnet20")
    ours = removal(run)
    scores = units.by_magnitude(ours.network)
    kept = [
        own & (not one.can_empty)
        for own, one in zip(all_kept(ours.groups), ours.groups, strict=True)
    ]
    mask = unit_mask(ours.network, ours.groups, kept)
    for share in (0.2, 0.1, 0.05):
        mask = ours.choose(scores, share, mask)
        assert mask.n_kept <= ours.limit(share) < mask.one_more


@pytest.mark.parametrize("share", [0.25, 0.125])
def test_a_density_can_be_a_share_of_the_flops(share, monkeypatch):
    """At most that share of what the dense network takes, counted on the network that is left."""
    counted = PRESETS["smoke"].model_copy(update={"count_flops": True, "round_units": 4})
    monkeypatch.setitem(PRESETS, "smoke", counted)
    run = run_of("units_norm", model="convnet", density=share)
    loaded = data.load(run)
    network = fresh(run, loaded)
    ours = units.removal_of(run, network, loaded)
    scores = units.by_magnitude(network)
    mask = ours.choose(scores, share, MaskSet.full(scores))
    kept = kept_units(network, ours.groups, mask)
    dense = flops(network, loaded.in_shape)
    assert flops(cut(network, ours.groups, kept), loaded.in_shape) == ours.counted(mask)
    assert ours.counted(mask) <= share * dense < mask.one_more
    assert [int(own.sum()) % 4 for own in kept] == [0] * 4
    assert ours.limit(share) == config.share_of(share, dense)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "density=0.004 would leave a layer of mlp without units: 1 in each already make "
            "0.0045 of the weights, choose at least that.",
        ),
        (
            {"round_units": 8},
            "density=0.004 would leave a layer of mlp without units: 8 in each already make "
            "0.0386 of the weights, choose at least that.",
        ),
        (
            {"count_flops": True},
            "density=0.004 would leave a layer of mlp without units: 1 in each already make "
            "0.0045 of the FLOPs, choose at least that.",
        ),
    ],
)
def test_a_density_that_empties_a_layer_is_refused_before_any_training(
    changes, sentence, monkeypatch
):
    """One unit in each hidden layer are 64 + 1 + 10 = 75 of 17 024 weights, eight 656."""
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"].model_copy(update=changes))
    run = run_of("units_norm", density=0.004)
    with pytest.raises(ValueError) as caught:
        methods.check_data(run, data.load(run))
    assert str(caught.value) == sentence
    methods.check_data(run_of("units_norm", density=0.05), data.load(run))


def test_the_control_of_shape_trains_as_the_small_network_would():
    """Masked in the large one, or built and trained alone: the same to rounding."""
    run = run_of("units_scratch", model="convnet")
    loaded = data.load(run)
    network = fresh(run, loaded)
    groups = units.removal_of(run, network, loaded).groups
    kept = [own & (torch.arange(len(own)) % 2 == 0) for own in all_kept(groups)]
    mask = unit_mask(network, groups, kept)
    large = units.drawn_anew(network, mask, seed=0)
    small = cut(large, groups, kept)
    std = small.conv3.weight.std().item()
    assert std == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.05)  # 16 of 32 inputs are left
    schedule = run.settings.schedule.model_copy(update={"epochs": 1})
    fit(large, loaded, schedule, seed=0, after_step=mask.apply)
    fit(small, loaded, schedule, seed=0)
    alone = cut(large, groups, kept).state_dict()
    for name, value in small.state_dict().items():
        torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-4)


def test_the_long_ticket_is_the_plain_one_trained_on(tickets_made):
    norm = tickets_made("units_norm")
    long = tickets_made("units_long")
    assert all(torch.equal(own, norm.mask[name]) for name, own in long.mask.items())
    assert long.notes == norm.notes
    assert long.cost == pytest.approx(norm.cost + 0.9)


@pytest.mark.parametrize("changes", [{"count_flops": True}, {"round_units": 8}])
def test_what_is_shared_depends_on_how_units_are_counted(tickets_made, changes, monkeypatch):
    """The search of other settings is not read in place of one's own."""
    usual = tickets_made("units_norm", model="convnet")
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"].model_copy(update=changes))
    run = run_of("units_norm", model="convnet")
    other = methods.make(run, data.load(run))
    assert rows_kept(other.mask) != rows_kept(usual.mask)


def test_the_control_of_shape_has_the_shape_and_none_of_the_weights(tickets_made):
    norm = tickets_made("units_norm")
    scratch = tickets_made("units_scratch")
    assert all(torch.equal(own, norm.mask[name]) for name, own in scratch.mask.items())
    assert isinstance(scratch.mask, UnitMask)
    run = run_of("units_scratch")
    loaded = data.load(run)
    dense = dense_once(run, loaded)
    drawn = units.drawn_anew(dense.fresh(), scratch.mask, 0)
    first = prunable(dense.network)["linear1.weight"]
    kept = scratch.mask["linear1.weight"]
    assert not (prunable(drawn)["linear1.weight"][kept] == first[kept]).any()


@pytest.mark.parametrize("method", ["units_ballot", "fairprune"])
def test_one_group_is_refused_by_what_compares_groups(random_data, method):
    alone = replace(random_data.train, group=torch.zeros(96, dtype=torch.long), n_groups=1)
    one = replace(random_data, train=alone, groups=["everyone"])
    with pytest.raises(ValueError, match=f"'everyone', and {method} compares groups"):
        methods.check_data(run_of(method), one)
