"""The search for a ticket and its plain twins, and what flows between them."""

import numpy as np
import pytest
import torch

from fairlth import config, data, lottery
from fairlth.config.method_table import SHORT
from fairlth.images import as_float
from fairlth.lottery import by_magnitude, search, train_plainly
from fairlth.masks import MaskSet, prunable
from fairlth.methods.sharing import dense_once, fresh
from fairlth.selection import levels, magnitude, select
from fairlth.training import fit, learning_rate, snapshot


@pytest.fixture
def loaded(smoke_run):
    return data.load(smoke_run)


@pytest.fixture
def dense(smoke_run, loaded):
    return dense_once(smoke_run, loaded)


def assert_same(one, other):
    """Two states, or two masks, have the same names and the same bits."""
    assert set(one) == set(other)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_watched_level_is_the_dense_training(smoke_run, loaded, dense):
    """The meter changes nothing: the watched training ends where an unwatched one does."""
    model = fresh(smoke_run, loaded)
    schedule = smoke_run.settings.schedule
    fit(model, loaded, schedule, seed=0, stop=1)
    assert_same(model.state_dict(), dense.rewind)
    fit(model, loaded, schedule, seed=0, start=1)
    assert_same(model.state_dict(), dense.trained)
    assert dense.conflict["counts"].tolist() == [9 * 16, 8]  # steps, and a reading every 18


def test_networks_that_dense_hands_out_share_no_memory(dense):
    """Training one of them, or the other, leaves all states as they were."""
    states = (dense.network.state_dict(), dense.rewind, dense.trained)
    before = [{name: value.clone() for name, value in state.items()} for state in states]
    for model in (dense.fresh(), dense.at(dense.rewind), dense.at(dense.trained), dense.fresh()):
        for value in model.state_dict().values():
            value.fill_(7.0)
    for state, old in zip(states, before, strict=True):
        assert_same(state, old)
    assert not any((value == 7.0).all() for value in dense.fresh().state_dict().values())


def test_a_network_is_in_the_state_that_is_asked_for(dense):
    assert_same(dense.at(dense.rewind).state_dict(), dense.rewind)
    assert_same(dense.at(dense.trained).state_dict(), dense.trained)
    assert_same(dense.fresh().state_dict(), dense.network.state_dict())


def test_a_found_ticket_stands_at_the_rewind_point_and_was_found_level_by_level_from_there(
    smoke_run, loaded, dense
):
    """The plain twin of the search: every level starts from theta_k, and so does the ticket."""
    preset = smoke_run.settings
    k = preset.rewind_epochs
    model = fresh(smoke_run, loaded)
    fit(model, loaded, preset.schedule, seed=0, stop=k)
    theta = snapshot(model)
    kept = MaskSet.full(prunable(model))
    for density in levels(smoke_run.density, preset.keep_per_level):
        model.load_state_dict(theta)
        kept.apply(model)
        fit(model, loaded, preset.schedule, seed=0, start=k, after_step=kept.apply)
        kept = select(magnitude(prunable(model)), density, within=kept)
    model.load_state_dict(theta)
    kept.apply(model)
    found = search(smoke_run, loaded, dense, by_magnitude)
    assert_same(found.mask, kept)
    assert_same(found.model.state_dict(), model.state_dict())
    assert found.epochs == 10 + 2 * 9  # three levels to a density of 0.05


def test_learning_rate_rewinding_goes_on_from_the_trained_weights(smoke_run, loaded, dense):
    """The plain twin: dense training, then an epoch per level, in another order of images."""
    preset = smoke_run.settings
    model = dense.at(dense.trained)
    kept = MaskSet.full(prunable(model))
    short = preset.schedule.model_copy(update={"epochs": 2})
    for level, density in enumerate(levels(smoke_run.density, 0.8)):
        if level > 0:
            seed = config.seed_for(0, f"level {level}")
            fit(model, loaded, short, seed=seed, start=1, after_step=kept.apply)
        kept = select(magnitude(prunable(model)), density, within=kept)
        kept.apply(model)
    found = search(smoke_run, loaded, dense, by_magnitude, short=True)
    assert_same(found.mask, kept)
    assert_same(found.model.state_dict(), model.state_dict())
    assert found.epochs == 10 + 13  # 14 levels to a density of 0.05


@pytest.fixture
def schedules(monkeypatch):
    """The schedules of the levels after the first, of which nothing is trained."""
    found = []

    def remember(model, data, schedule, **_):
        found.append(schedule)

    monkeypatch.setattr(lottery, "fit", remember)
    return found


@pytest.mark.parametrize("preset", ["smoke", "small", "breadth", "whole", "paper", "paper_full"])
def test_the_rate_of_a_short_level_falls_from_its_top_to_0(
    preset, smoke_run, loaded, dense, schedules
):
    """It starts at the rewind epoch, which may lie within the warm-up of the whole schedule."""
    run = smoke_run.model_copy(update={"preset": preset})
    search(run, loaded, dense, by_magnitude, short=True)
    assert len(schedules) == 13
    schedule = schedules[0]
    epochs = np.linspace(run.settings.rewind_epochs, schedule.epochs, 50)
    rates = [learning_rate(schedule, epoch) for epoch in epochs]
    assert rates[0] > 0.99 * schedule.lr and rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_a_long_level_keeps_the_warm_up(smoke_run, loaded, dense, schedules):
    run = smoke_run.model_copy(update={"preset": "paper"})
    search(run, loaded, dense, by_magnitude)
    assert {schedule.warmup for schedule in schedules} == {6.0}


def test_a_short_level_has_its_share_of_the_epochs(smoke_run, loaded, dense, monkeypatch):
    """13 levels of 2 epochs after the dense training's 10; an eighth of 160 epochs is 20."""
    monkeypatch.setattr("fairlth.lottery.short_epochs", lambda preset: 2)
    found = search(smoke_run, loaded, dense, by_magnitude, short=True)
    assert found.epochs == 10 + 13 * 2
    assert round(SHORT * 160) == 20


def test_whoever_watches_a_search_is_called_after_each_step_of_the_later_levels(
    smoke_run, loaded, dense
):
    """With the masked network: what is pruned is 0 when the watcher sees it."""
    seen = []

    def watch(model):
        seen.append(sum(int((weight != 0).sum()) for weight in prunable(model).values()))

    search(smoke_run, loaded, dense, by_magnitude, watch)
    steps_per_level = 9 * 16
    first, second, _ = levels(0.05, 0.36)
    expected = [config.share_of(first, 17024)] * steps_per_level
    expected += [config.share_of(second, 17024)] * steps_per_level
    assert seen == expected


def test_the_floor_is_the_dense_nets_validation_accuracy_less_epsilon(smoke_run, loaded, dense):
    model = dense.at(dense.trained).eval()
    with torch.inference_mode():
        right = model(as_float(loaded.val.x)).argmax(1) == loaded.val.y
    found = lottery.floor(smoke_run, loaded, dense)
    assert found == pytest.approx(float(right.double().mean()) - 0.2)


def test_a_ticket_as_accurate_as_the_floor_is_not_refused_by_rounding(
    smoke_run, loaded, dense, monkeypatch
):
    """2071 of 4000 less 0.08 are 1751, of which the floats make more."""
    counts = [np.array(n) for n in (2071, 4000)]
    assert 2071 / 4000 - 0.08 > 1751 / 4000
    monkeypatch.setattr(lottery, "predict", lambda model, split: counts)
    run = smoke_run.model_copy(update={"preset": "small"})
    assert run.settings.epsilon == 0.08
    assert 1750 / 4000 < lottery.floor(run, loaded, dense) < 1751 / 4000


def test_a_mask_at_the_rewind_point(dense):
    """The network is theta_k, masked; the epochs are those that are told."""
    kept = select(magnitude(prunable(dense.network)), 0.1)
    found = lottery.at_rewind(dense, kept, 17)
    expected = dense.at(dense.rewind)
    kept.apply(expected)
    assert_same(found.model.state_dict(), expected.state_dict())
    assert found.epochs == 17 and found.mask is kept


def test_a_plain_last_training_is_the_rest_of_the_schedule_under_the_mask(smoke_run, loaded, dense):
    kept = select(magnitude(prunable(dense.network)), 0.1)
    twin = lottery.at_rewind(dense, kept, 17)
    schedule = smoke_run.settings.schedule
    fit(twin.model, loaded, schedule, seed=0, start=1, after_step=kept.apply)
    ticket = train_plainly(smoke_run, loaded, lottery.at_rewind(dense, kept, 17))
    assert_same(ticket.model.state_dict(), twin.model.state_dict())
    assert ticket.cost == (17 + 9) / 10
    long = train_plainly(
        smoke_run, loaded, lottery.at_rewind(dense, kept, 17), lottery.longer(smoke_run)
    )
    assert long.cost == (17 + 18) / 10
