import sys
from dataclasses import replace

import pytest
import torch

from fairlth import config, data, methods, metrics
from fairlth.bias_shift import fair_shift
from fairlth.config import KNOBS, Run, paths
from fairlth.lottery import (
    SHORT,
    Found,
    by_magnitude,
    find,
    find_at_rate,
    find_gradually,
    find_once,
    fresh_model,
)
from fairlth.masks import MaskSet, count_kept, prunable
from fairlth.methods import METHODS
from fairlth.methods.dense import meter, train_once
from fairlth.methods.sharing import LEDGER
from fairlth.selection import levels, magnitude, select
from fairlth.training import count, fit, logits, predict, snapshot


def run_of(method, **change):
    density = 1.0 if method == "dense" else 0.02
    fields = {"dataset": "digits", "model": "mlp", "density": density, "seed": 0, "preset": "smoke"}
    return Run(method=method, **fields | change)


SPARSE = [name for name in METHODS if name != "dense"]


@pytest.fixture(scope="module")
def tickets():
    """Every method's ticket on the digits, each trained once."""
    made = {}

    def make(method, **change):
        run = run_of(method, **change)
        if run not in made:
            made[run] = METHODS[method](run, data.load(run))
        return made[run]

    return make


def state(ticket):
    return torch.cat([value.flatten() for value in ticket.model.state_dict().values()])


def mask(ticket):
    return torch.cat([kept.flatten() for kept in ticket.mask.values()])


@pytest.mark.parametrize("method", METHODS)
def test_density_is_exact_and_pruned_weights_are_zero(tickets, method):
    ticket = tickets(method)
    weights = prunable(ticket.model)
    assert ticket.mask.n_kept == count_kept(1.0 if method == "dense" else 0.02, weights)
    assert all((weights[name][~kept] == 0).all() for name, kept in ticket.mask.items())


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bits_another_seed_others(tickets, method, tmp_path, monkeypatch):
    run = run_of(method)
    monkeypatch.setattr(paths, "RUNS", tmp_path)  # nothing shared is found, all is trained again
    again = METHODS[method](run, data.load(run))
    assert torch.equal(state(tickets(method)), state(again))
    assert not torch.equal(state(again), state(tickets(method, seed=1)))


@pytest.mark.parametrize(
    ("method", "cost"),
    [
        ("dense", 1),
        ("random", 1),
        ("magnitude", 2),
        ("lth", (1 + 5 * 9) / 10),
        ("lth_rate", (10 + 17 + 9) / 10),
        ("lth_fine", (1 + 19 * 9) / 10),
        ("ballot", (10 + 17 + 18) / 10),
        ("shuffled", (10 + 17 + 18) / 10),
        ("fairscratch", 1),
        ("fairscratch_train", 2),
        ("pw_loss", 2),
        ("constrained", 2),
        (
            "safecompress",
            2 + 3 * 2 * 9 / (10 * 16),
        ),  # 3 branches not taken, of 2 of 16 steps, before 9 epochs
        (
            "fairgrape",
            2 + (7 * 1 + 8 * 1169 / 1169) / 10,
        ),  # 8 steps, 7 of them followed by an epoch; all images each time
    ],
)
def test_costs_count_every_epoch(tickets, method, cost):
    assert tickets(method).cost == pytest.approx(cost)


def test_what_shares_a_selection_shares_the_mask(tickets):
    assert torch.equal(mask(tickets("lth")), mask(tickets("lth_bias")))
    assert torch.equal(mask(tickets("lth_rate")), mask(tickets("ballot_refine")))
    assert not torch.equal(mask(tickets("lth")), mask(tickets("lth_rate")))
    assert not torch.equal(mask(tickets("lth")), mask(tickets("lth_fine")))
    assert torch.equal(mask(tickets("ballot")), mask(tickets("ballot_select")))
    assert not torch.equal(mask(tickets("lth")), mask(tickets("ballot")))
    assert not torch.equal(mask(tickets("lth")), mask(tickets("random")))
    assert torch.equal(mask(tickets("fairscratch")), mask(tickets("fairscratch_train")))
    assert torch.equal(mask(tickets("magnitude")), mask(tickets("pw_loss")))
    assert not torch.equal(mask(tickets("fairgrape")), mask(tickets("constrained")))


def test_shuffling_keeps_the_counts_of_each_layer_and_nothing_else(tickets):
    ours, shuffled = tickets("ballot").mask, tickets("shuffled").mask
    assert [kept.sum() for kept in ours.values()] == [kept.sum() for kept in shuffled.values()]
    assert not torch.equal(mask(tickets("ballot")), mask(tickets("shuffled")))


def test_what_differs_in_training_differs_in_weights(tickets):
    for one, other in (
        ("lth_rate", "ballot_refine"),
        ("ballot", "ballot_select"),
        ("lth", "lth_bias"),
    ):
        assert not torch.equal(state(tickets(one)), state(tickets(other)))


@pytest.mark.parametrize("method", KNOBS)
def test_pressure_is_a_switch(tickets, method):
    """At a density where every method learns."""
    own, none = (
        tickets(method, density=0.1, seed=1, pressure=pressure) for pressure in (None, 0.0)
    )
    assert not torch.equal(state(own), state(none))


@pytest.mark.parametrize("method", SPARSE)
def test_density_is_a_switch(tickets, method):
    assert tickets(method, density=0.1).mask.n_kept == 1702


def test_a_lottery_ticket_beats_random_weights_at_2_percent(tickets, smoke_run):
    split = data.load(smoke_run).test
    found = {
        name: metrics.accuracy(*predict(tickets(name).model, split)) for name in ("lth", "random")
    }
    assert found["lth"] > found["random"] + 0.3


def test_the_dense_training_is_done_once_and_read_by_the_others(smoke_run, monkeypatch):
    loaded = data.load(smoke_run)
    first = train_once(smoke_run, loaded)
    monkeypatch.setattr(sys.modules["fairlth.methods.dense"], "fit", None)
    second = train_once(
        smoke_run.model_copy(update={"method": "magnitude", "density": 0.1}), loaded
    )
    assert all(torch.equal(value, second.trained[name]) for name, value in first.trained.items())
    assert all(torch.equal(value, second.rewind[name]) for name, value in first.rewind.items())
    for other in (
        data.load(smoke_run.model_copy(update={"seed": 9})),
        replace(loaded, mirror=True),
    ):
        with pytest.raises(
            TypeError, match="NoneType"
        ):  # other images or augmentation need another training
            train_once(smoke_run, other)


def test_a_search_is_done_once_and_read_by_the_others(monkeypatch):
    """The control, the ablation and other pressures train the ticket that was found, and search no more."""
    run = run_of("lth", seed=3)
    loaded = data.load(run)
    searches = {
        "lth": ["lth_bias"],
        "lth_rate": ["ballot_refine"],
        "ballot": ["shuffled", "ballot_select"],
    }
    for base, others in searches.items():
        METHODS[base](run.model_copy(update={"method": base}), loaded)
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["fairlth.methods.lth"], "find", None)
            for other in (base, *others):
                METHODS[other](run.model_copy(update={"method": other}), loaded)
            with pytest.raises(TypeError, match="NoneType"):  # another density is another search
                METHODS[base](run.model_copy(update={"method": base, "density": 0.3}), loaded)


def test_a_damaged_shared_training_is_made_anew(tmp_path, monkeypatch, smoke_run):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    loaded = data.load(smoke_run)
    first = train_once(smoke_run, loaded)
    [path] = tmp_path.rglob("dense_digits_mlp_s0_*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is not a whole shared training"):
        second = train_once(smoke_run, loaded)
    assert all(torch.equal(value, second.trained[name]) for name, value in first.trained.items())


def test_what_cannot_be_written_is_done_without(tmp_path, monkeypatch, smoke_run):
    (tmp_path / "runs").write_text("a file where a folder should be")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    with pytest.warns(UserWarning, match="It is not shared with other runs"):
        first = train_once(smoke_run, data.load(smoke_run))
    monkeypatch.setattr(sys.modules["fairlth.methods.dense"], "fit", None)
    again = train_once(smoke_run, data.load(smoke_run))  # from memory, not trained again
    assert all(torch.equal(value, again.trained[name]) for name, value in first.trained.items())


def test_the_ledger_counts_what_was_made_and_what_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    run = run_of("lth")
    LEDGER.clear()
    METHODS["lth"](run, data.load(run))
    kinds = sorted(path.name.split("_")[0] for path in LEDGER.made)
    assert kinds == ["dense", "lth", "lth-trained"] and not LEDGER.read
    assert all(effort.seconds > 0 for effort in LEDGER.made.values())
    images = {path.name.split("_")[0]: effort.images for path, effort in LEDGER.made.items()}
    levels_after_the_first = len(levels(0.02, 0.36)) - 1
    epoch = 1079 // 64 * 64  # images in whole batches
    assert images == {
        "dense": 10 * epoch,
        "lth": levels_after_the_first * 9 * epoch,
        "lth-trained": 9 * epoch,
    }
    made = dict(LEDGER.made)
    LEDGER.made.clear()
    METHODS["lth_bias"](run.model_copy(update={"method": "lth_bias"}), data.load(run))
    assert LEDGER.read == made and not LEDGER.made


def test_a_shared_mask_is_in_the_order_of_the_network(random_data):
    """A file sorts names as text; reports of layers must not."""
    run = run_of("lth", model="resnet20", density=0.1)
    model = fresh_model(run, random_data)
    full = MaskSet.full(dict(sorted(prunable(model).items())))
    found = find_once("order", run, random_data, lambda: Found(model, full, 8))
    assert (
        list(found.mask) == list(prunable(model)) != sorted(prunable(model)) and found.epochs == 8
    )


def test_a_found_ticket_is_read_as_it_was_found(random_data):
    """Weights, batch norm's statistics, mask and notes."""
    run, model = run_of("lth", density=0.2), fresh_model(run_of("lth"), random_data)
    kept = select(magnitude(prunable(model)), 0.2)
    kept.apply(model)
    first, again = (
        find_once("read", run, random_data, lambda: Found(model, kept, 8, {"n": 1}))
        for _ in range(2)
    )
    for found in (first, again):
        assert all(
            torch.equal(value, found.model.state_dict()[name])
            for name, value in model.state_dict().items()
        )
        assert all(torch.equal(found.mask[name], kept[name]) for name in kept) and found.notes == {
            "n": 1
        }


def test_a_watched_level_is_the_dense_training(smoke_run):
    """The meter changes nothing: the watched dense training ends bit by bit where an unwatched one does, with readings."""
    loaded = data.load(smoke_run)
    dense = train_once(smoke_run, loaded)
    model, schedule = fresh_model(smoke_run, loaded), smoke_run.settings.schedule
    fit(model, loaded, schedule, seed=0, stop=1)
    fit(model, loaded, schedule, seed=0, start=1)
    assert all(
        torch.equal(value, dense.trained[name]) for name, value in model.state_dict().items()
    )
    assert dense.conflict["counts"].tolist() == [9 * 16, 8]  # steps, and a reading every 18


def test_a_meter_goes_on_where_it_stood(smoke_run):
    """Two halves with a state between them read what one whole training reads, bit by bit."""
    loaded = data.load(smoke_run)
    whole, first, second = (meter(smoke_run, loaded) for _ in range(3))
    model = fresh_model(smoke_run, loaded)
    for _ in range(2):
        whole.observe(model)
    first.observe(model)
    second.load_state(first.state())
    second.observe(model)
    assert second.images == whole.images == 2 * 64 and second.agreement() == whole.agreement()
    for name, conflict in whole.conflict().items():
        assert torch.equal(conflict, second.conflict()[name])


def test_the_long_ticket_is_the_plain_one_trained_as_long_as_ballots(smoke_run):
    """Same search and mask as `lth_rate`; its plain twin trains 18 epochs after the rewind where that trains 9."""
    run = smoke_run.model_copy(update={"method": "lth_long"})
    loaded = data.load(run)
    ticket, plain = METHODS["lth_long"](run, loaded), METHODS["lth_rate"](run, loaded)
    assert all(torch.equal(kept, plain.mask[name]) for name, kept in ticket.mask.items())
    twin = find_at_rate(run, loaded)
    schedule = run.settings.schedule.model_copy(update={"epochs": 19})
    fit(twin.model, loaded, schedule, seed=0, start=1, after_step=twin.mask.apply)
    assert all(
        torch.equal(value, ticket.model.state_dict()[name])
        for name, value in twin.model.state_dict().items()
    )
    refined = METHODS["ballot_refine"](run, loaded)
    assert ticket.cost == refined.cost == pytest.approx(plain.cost + 0.9)


def test_a_found_ticket_stands_at_the_rewind_point_and_was_found_level_by_level_from_there(
    smoke_run,
):
    """The plain twin of the search: every level starts from theta_k, and so does the ticket."""
    loaded, preset = data.load(smoke_run), smoke_run.settings
    model = fresh_model(smoke_run, loaded)
    fit(model, loaded, preset.schedule, seed=0, stop=preset.rewind_epochs)
    theta, kept = snapshot(model), MaskSet.full(prunable(model))
    for density in levels(smoke_run.density, preset.keep_per_level):
        model.load_state_dict(theta)
        kept.apply(model)
        fit(
            model,
            loaded,
            preset.schedule,
            seed=0,
            start=preset.rewind_epochs,
            after_step=kept.apply,
        )
        kept = select(magnitude(prunable(model)), density, within=kept)
    found = find(smoke_run, loaded, lambda model: magnitude(prunable(model)))
    model.load_state_dict(theta)
    kept.apply(model)
    assert all(torch.equal(found.mask[name], kept[name]) for name in kept)
    assert all(
        torch.equal(value, found.model.state_dict()[name])
        for name, value in model.state_dict().items()
    )


def test_fine_levels_keep_four_fifths_each(smoke_run):
    """0.8^14 is the first power below 0.05: 14 levels of 9 epochs after the first, where the preset's share makes 3."""
    run = smoke_run.model_copy(update={"method": "lth_fine"})
    coarse, fine = (METHODS[name](run, data.load(run)) for name in ("lth", "lth_fine"))
    assert (coarse.cost, fine.cost) == ((1 + 3 * 9 + 9) / 10, (1 + 14 * 9 + 9) / 10)
    assert any(not torch.equal(kept, fine.mask[name]) for name, kept in coarse.mask.items())


def test_a_standard_ticket_is_trained_once_for_its_controls(smoke_run):
    """And read from its file it is the ticket that was trained, bit by bit."""
    loaded = data.load(smoke_run)
    first = METHODS["lth"](smoke_run, loaded)
    LEDGER.made.clear()
    again = METHODS["lth"](smoke_run, loaded)
    assert (
        not LEDGER.made
        and torch.equal(state(first), state(again))
        and first.cost == again.cost == (1 + 3 * 9 + 9) / 10
    )


def test_learning_rate_rewinding_goes_on_from_the_trained_weights(smoke_run):
    """The plain twin: dense training, then an epoch a level for the weights that are left, in another order of images."""
    loaded, preset = data.load(smoke_run), smoke_run.settings
    model = fresh_model(smoke_run, loaded)
    model.load_state_dict(train_once(smoke_run, loaded).trained)
    kept, short = MaskSet.full(prunable(model)), preset.schedule.model_copy(update={"epochs": 2})
    for level, density in enumerate(levels(smoke_run.density, 0.8)):
        if level:
            fit(
                model,
                loaded,
                short,
                seed=config.seed_for(0, f"level {level}"),
                start=1,
                after_step=kept.apply,
            )
        kept = select(magnitude(prunable(model)), density, within=kept)
        kept.apply(model)
    found = find_gradually(smoke_run, loaded, lambda model: magnitude(prunable(model)))
    assert all(
        torch.equal(value, found.model.state_dict()[name])
        for name, value in model.state_dict().items()
    )
    assert found.epochs == 10 + 13  # 14 levels to a density of 0.05


def test_a_short_level_has_its_share_of_the_epochs(smoke_run):
    """13 levels of 2 epochs after the dense training's 10; an eighth of 160 epochs is 20."""
    found = find(
        smoke_run, data.load(smoke_run), by_magnitude, rewind=False, keep_per_level=0.8, epochs=2
    )
    assert found.epochs == 10 + 13 * 2 and round(SHORT * 160) == 20


def test_a_short_training_is_read_often_enough(random_data):
    """96 images in batches of 64 make one step an epoch, 9 after the rewind in smoke: each is read. Long ones every 32."""
    run = run_of("ballot", density=0.2)
    assert (
        meter(run, random_data).every == 1
        and METHODS["ballot"](run, random_data).mask.density <= 0.2
    )
    assert meter(run, data.load(run)).every == 9 * (1079 // 64) // 8 == 18
    assert (
        meter(run_of("ballot", preset="small"), data.load(run)).every == 7 * (1079 // 64) // 8 == 14
    )
    many = replace(random_data, train=replace(random_data.train, y=torch.zeros(64_000)))
    assert meter(run, many).every == 32


def test_ballot_ends_with_a_shift_that_accuracy_can_pay(tickets, smoke_run, monkeypatch):
    """The shift is kept in the notes; nothing to give is no loss of validation accuracy; a generous ticket is fairer there."""
    val = data.load(run_of("ballot", density=0.005)).val
    found = {}
    for give in (0.0, 0.5):
        monkeypatch.setattr(sys.modules["fairlth.methods.ballot"], "GIVE", give)
        ticket = METHODS["ballot_refine"](
            run_of("ballot_refine", density=0.005), data.load(run_of("ballot", density=0.005))
        )
        outputs, shift = logits(ticket.model, val), torch.tensor(ticket.notes["shift"])
        before, after = count(outputs - shift, val), count(outputs, val)
        assert metrics.accuracy(*after) >= metrics.accuracy(*before) - give - 1e-9
        assert metrics.cwv(*after.by_group()) <= metrics.cwv(*before.by_group())
        found[give] = metrics.cwv(*after.by_group())
    assert found[0.5] < found[0.0]


def test_no_pressure_is_no_bias_shift(tickets):
    assert torch.equal(state(tickets("lth")), state(tickets("lth_bias", pressure=0.0)))


def test_the_bias_shift_lowers_validation_cwv(tickets, smoke_run):
    val = data.load(smoke_run).val
    outputs = logits(tickets("lth", density=0.005).model, val)
    shift = fair_shift(outputs, val)
    before, after = count(outputs, val).by_group(), count(outputs + shift, val).by_group()
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
    with pytest.raises(
        ValueError, match=f"digits has one group, 'everyone', and {method} compares groups"
    ):
        methods.check_data(run_of(method, density=0.1), one)
    methods.check_data(run_of("lth", density=0.1), one)


@pytest.mark.parametrize(
    "method", ["fairgrape", "fairscratch", "fairscratch_train", "safecompress"]
)
def test_a_density_that_empties_a_layer_is_refused_by_name(random_data, method):
    with pytest.raises(
        ValueError,
        match=r"density=0.0001 leaves linear\d.weight, which has \d+ weights, without any",
    ):
        methods.check_data(run_of(method, density=0.0001), random_data)


def test_an_unknown_method_is_refused_by_name(smoke_run):
    with pytest.raises(ValueError, match="method='snip' is unknown: choose one of dense, random"):
        methods.check(smoke_run.model_copy(update={"method": "snip"}))


def test_every_method_says_what_it_is():
    for name, method in METHODS.items():
        assert method.__doc__ and method.__name__ == name
