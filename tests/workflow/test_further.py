"""A finished ticket goes on: pruned further inside its mask, or trained further under it."""

import copy
import doctest
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from fairlth import config, data, metrics, models
from fairlth.bias_shift import make_room
from fairlth.config import Run, paths
from fairlth.lottery import ROUNDED, longer
from fairlth.masks import MaskSet, prunable
from fairlth.methods.sharing import LEDGER, Effort
from fairlth.selection import levels, magnitude, select
from fairlth.shipping import card as cards
from fairlth.shipping import ticket as tickets
from fairlth.shipping.torch_prune import from_prune, to_prune
from fairlth.training import fit, predict
from fairlth.workflow import experiments, further

RUN = Run(dataset="digits", model="mlp", method="lth_rate", density=0.05, seed=0, preset="smoke")
SPARSER = RUN.model_copy(update={"density": 0.02})


@pytest.fixture
def own():
    """After the test no model that it added."""
    before = set(models.MODELS)
    yield
    for name in models.MODELS.keys() - before:
        del models.MODELS[name], models.OWN[name]


@pytest.fixture(scope="module")
def loaded():
    return data.load(RUN)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The file of a finished ticket."""
    runs = tmp_path_factory.mktemp("further")
    experiments.run(RUN, runs)
    return config.ticket_path(RUN, runs)


@pytest.fixture(scope="module")
def ticket(path):
    return tickets.load(path, RUN)


@pytest.fixture(scope="module")
def sparser(loaded, ticket):
    """The ticket pruned from 0.05 to 0.02 by each method that is asked for."""
    made = {}

    def of(method):
        run = SPARSER.model_copy(update={"method": method})
        if method not in made:
            made[method] = further.prune(run, loaded, *ticket)
        return made[method]

    return of


def bits(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def masks_equal(one, other):
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def is_pruned_by(model, mask):
    """Whether every pruned weight is exactly 0."""
    return not any(weight[~mask[name]].any() for name, weight in prunable(model).items())


@pytest.mark.parametrize("method", further.METHODS)
def test_exactly_so_many_weights_are_kept_inside_the_old_mask(method, sparser, ticket):
    made = sparser(method)
    mask = made.ticket.mask
    assert (ticket.mask.n_kept, mask.n_kept, mask.total) == (851, 340, 17024)
    assert made.record.kept == 340
    for name, kept in mask.items():
        assert not (kept & ~ticket.mask[name]).any()
        assert kept.any()
    assert is_pruned_by(made.ticket.model, mask)


def test_the_ticket_itself_stays_as_it_is(path, ticket, sparser):
    sparser("ballot")
    assert bits(ticket.model) == bits(tickets.load(path).model)
    assert not ticket.model.training


@pytest.mark.parametrize("method", ["lth_rate", "ballot"])
def test_same_seed_same_bits_and_another_seed_other_bits(method, loaded, ticket, sparser):
    first = sparser(method)
    run = SPARSER.model_copy(update={"method": method})
    again = further.prune(run, loaded, *ticket)
    assert bits(again.ticket.model) == bits(first.ticket.model)
    assert masks_equal(again.ticket.mask, first.ticket.mask)
    assert again.record.counts == first.record.counts
    other = further.prune(run.model_copy(update={"seed": 1}), loaded, *ticket)
    assert bits(other.ticket.model) != bits(first.ticket.model)


def test_the_levels_by_hand(loaded, ticket, sparser):
    """Prune at once, train an epoch of a schedule of two, prune again, and so on."""
    schedule = RUN.settings.schedule.model_copy(update={"epochs": 2})
    model = copy.deepcopy(ticket.model)
    mask = ticket.mask
    for level, density in enumerate([0.05 * 0.4 ** (i / 5) for i in range(1, 5)] + [0.02]):
        if level > 0:
            mask.apply(model)
            seed = config.seed_for(0, f"level {level}")
            fit(model, loaded, schedule, seed=seed, start=1, after_step=mask.apply)
        mask = select(magnitude(prunable(model)), density, mask, "linear3.weight")
    mask.apply(model)
    assert masks_equal(mask, sparser("lth_rate").ticket.mask)
    fit(model, loaded, RUN.settings.schedule, seed=0, start=1, after_step=mask.apply)
    assert bits(model) == bits(sparser("lth_rate").ticket.model)


def test_levels_from_a_density_on():
    found = levels(0.02, 0.8, 0.05)
    assert len(found) == 5 and found[-1] == 0.02
    assert found[0] == pytest.approx(0.05 * 0.4**0.2)
    assert levels(0.049, 0.8, 0.05) == [0.049]
    assert levels(0.02, 0.36, 1.0) == levels(0.02, 0.36)


def test_conflict_and_the_last_training_change_something(sparser):
    masks = {name: sparser(name).ticket.mask for name in further.METHODS}
    assert masks_equal(masks["lth_rate"], masks["lth_long"])
    assert masks_equal(masks["lth_rate"], masks["ballot_refine"])
    assert masks_equal(masks["ballot"], masks["ballot_select"])
    assert not masks_equal(masks["ballot"], masks["lth_rate"])
    ends = {json.dumps(sparser(name).record.counts["test"]) for name in further.METHODS}
    assert len(ends) == 5


def test_what_it_cost_is_what_was_trained_since(sparser):
    """Four levels of one epoch, then 9 or 18, of a schedule of 10."""
    costs = {name: sparser(name).ticket.cost for name in further.METHODS}
    assert costs == {
        "lth_rate": 1.3,
        "lth_long": 2.2,
        "ballot_select": 1.3,
        "ballot_refine": 2.2,
        "ballot": 2.2,
    }
    seen = {name: sparser(name).record.spent for name in ("lth_rate", "lth_long", "ballot_select")}
    assert seen["lth_rate"] == pytest.approx(1.3, abs=0.1)
    assert seen["lth_long"] == pytest.approx(2.2, abs=0.1)
    assert seen["ballot_select"] > seen["lth_rate"]  # its readings


def test_before_and_after_are_those_of_the_test_images(sparser, loaded, ticket):
    made = sparser("ballot")
    table = made.compared()
    assert [*table.index] == ["before", "after"]
    for row, model in (("before", ticket.model), ("after", made.ticket.model)):
        counts = predict(model, loaded.test)
        by_group = counts.by_group()
        assert table.loc[row, "accuracy"] == metrics.accuracy(*counts)
        assert table.loc[row, "cwv"] == metrics.cwv(*by_group)
        assert table.loc[row, "cwv_floor"] == metrics.cwv_floor(*by_group)
    assert made.before.correct.tolist() == ticket.card.counts["correct"]


@pytest.mark.parametrize(("method", "cost"), [("lth_rate", 0.9), ("ballot", 1.8)])
def test_a_ticket_is_trained_further_under_its_mask(method, cost, loaded, ticket):
    run = RUN.model_copy(update={"method": method})
    made = further.train(run, loaded, *ticket)
    again = further.train(run, loaded, *ticket)
    other = further.train(run.model_copy(update={"seed": 1}), loaded, *ticket)
    assert masks_equal(made.ticket.mask, ticket.mask)
    assert is_pruned_by(made.ticket.model, ticket.mask)
    assert made.ticket.cost == cost
    assert bits(made.ticket.model) == bits(again.ticket.model)
    assert bits(made.ticket.model) not in (bits(other.ticket.model), bits(ticket.model))


def test_plain_training_further_by_hand(loaded, ticket):
    run = RUN.model_copy(update={"method": "lth_long"})
    model = copy.deepcopy(ticket.model)
    fit(model, loaded, longer(run), seed=0, start=1, after_step=ticket.mask.apply)
    made = further.train(run, loaded, *ticket)
    assert bits(made.ticket.model) == bits(model)
    assert made.ticket.cost == 1.8


def test_refined_training_keeps_the_tickets_own_accuracy_less_epsilon(loaded, ticket, monkeypatch):
    floors = []
    refine = further.ballot.refine

    def remember(*args, **values):
        floors.append(values["floor"])
        return refine(*args, **values)

    monkeypatch.setattr(further.ballot, "refine", remember)
    further.train(RUN.model_copy(update={"method": "ballot"}), loaded, *ticket)
    own = metrics.accuracy(*predict(ticket.model, loaded.val))
    assert floors == [own - RUN.settings.epsilon - ROUNDED]


def test_its_pressure_and_its_shift_are_ballots(loaded, ticket):
    run = RUN.model_copy(update={"method": "ballot"})
    usual = further.train(run, loaded, *ticket)
    weak = further.train(run.model_copy(update={"pressure": 0.0}), loaded, *ticket)
    assert len(usual.ticket.notes["shift"]) == 10 and usual.ticket.trace
    assert bits(usual.ticket.model) != bits(weak.ticket.model)


def test_a_density_that_is_not_below_is_one_sentence(loaded, ticket):
    for density, n_keep in ((0.04999, 851), (0.05, 851), (0.1, 1702), (1.0, 17024)):
        run = RUN.model_copy(update={"density": density})
        with pytest.raises(ValueError) as caught:
            further.prune(run, loaded, *ticket)
        assert str(caught.value) == (
            f"density={density} keeps {n_keep} weights and the ticket has 851 of 17024: choose a "
            "density below 0.04998825187969925."
        )


def test_training_at_another_density_is_one_sentence(loaded, ticket):
    with pytest.raises(ValueError) as caught:
        further.train(SPARSER, loaded, *ticket)
    assert str(caught.value) == (
        "density=0.02 is not the ticket's, which keeps 851 of 17024 weights: pass "
        "density=0.04998825187969925, or prune it further."
    )


@pytest.mark.parametrize("method", ["lth", "dense", "fairgrape"])
def test_other_methods_are_refused(method, loaded, ticket):
    run = Run(**RUN.model_dump() | {"method": method, "density": 1.0})
    with pytest.raises(ValueError) as caught:
        further.prune(run, loaded, *ticket)
    assert str(caught.value) == (
        f"method={method!r} does not go on from a ticket: choose one of lth_rate, lth_long, "
        "ballot_select, ballot_refine, ballot."
    )


def test_images_that_are_not_the_tickets_are_refused(ticket):
    """Those of another seed: what it was trained on would be its validation."""
    run = SPARSER.model_copy(update={"seed": 1})
    with pytest.raises(ValueError) as caught:
        further.prune(run, data.load(run), *ticket)
    assert str(caught.value) == (
        "the images are not those that the ticket was made with, so it may have seen the ones "
        "that it would be judged by: take data.load(Run(**card.images_of))."
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model": "convnet"}, "model='convnet' is not the ticket's, 'mlp': make the run from"),
        ({"target": "odd"}, "target='odd' is not the ticket's, None: make the run from its card"),
        ({"group_by": "ink"}, "group_by='ink' is not the ticket's, None"),
        ({"pressure": 1.0}, "lth_rate has no fairness knob"),
    ],
)
@pytest.mark.parametrize("function", [further.prune, further.train])
def test_a_run_that_is_not_of_the_ticket_is_refused(function, values, sentence, loaded, ticket):
    with pytest.raises(ValueError, match=sentence):
        function(Run(**SPARSER.model_dump() | values), loaded, *ticket)


def test_a_network_or_mask_that_does_not_fit_is_refused_before_any_training(
    loaded, ticket, monkeypatch
):
    monkeypatch.setattr(further, "_made", None)
    other = SPARSER.model_copy(update={"model": "convnet"})
    with pytest.raises(ValueError, match="^the network is not 'convnet': conv1.weight is missing"):
        further.prune(other, loaded, ticket.model, ticket.mask)
    less = MaskSet({name: kept for name, kept in ticket.mask.items() if name != "linear2.weight"})
    more = MaskSet({**ticket.mask, "linear2.bias": torch.ones(64, dtype=torch.bool)})
    for mask, told in (
        (less, "linear2.weight has no mask"),
        (more, "linear2.bias has a mask and is not prunable"),
    ):
        with pytest.raises(ValueError) as caught:
            further.train(RUN, loaded, ticket.model, mask)
        assert str(caught.value) == f"{told}: give a mask of every prunable weight, no other."
    frozen = copy.deepcopy(ticket.model)
    frozen.linear1.weight.requires_grad_(False)
    with pytest.raises(ValueError) as caught:
        further.prune(SPARSER, loaded, frozen, ticket.mask)
    assert str(caught.value) == (
        "the network is not 'mlp': linear1.weight is frozen, expected one that learns; let it learn "
        "(requires_grad_(True)), or name a model that freezes it, see models.add."
    )
    with pytest.raises(ValueError, match="^model 'mlp' has masks of torch.nn.utils.prune"):
        further.prune(SPARSER, loaded, to_prune(ticket.model, ticket.mask), ticket.mask)


def test_masks_of_torch_go_on_as_the_ticket_does(loaded, ticket, sparser, tmp_path):
    hooked = to_prune(ticket.model, ticket.mask)
    made = further.prune(SPARSER, loaded, *from_prune(hooked))
    assert bits(made.ticket.model) == bits(sparser("lth_rate").ticket.model)
    file = tmp_path / f"t{tickets.ENDING}"
    made.write(file)
    card = tickets.read_card(file)
    assert card.parent == cards.Parent(kept=851, total=17024, images_of=SPARSER.model_dump())
    row = "| goes on from | a network without a card, 851 of 17,024 weights kept |"
    assert row in cards.markdown(card)


def plain(in_shape, n_classes):
    layers = [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, n_classes)]
    return nn.Sequential(*layers)


def frozen(in_shape, n_classes):
    net = plain(in_shape, n_classes)
    net[3].requires_grad_(False)
    return net


class Named(nn.Sequential):
    """Gives its logits in a dictionary, and what an auxiliary head says."""

    def __init__(self, in_shape, n_classes):
        super().__init__(*plain(in_shape, n_classes))
        self.aux = nn.Linear(16, n_classes)

    def forward(self, x):
        hidden = self[2](self[1](self[0](x)))
        return {"logits": self[3](hidden), "aux": self.aux(hidden)}


def pruned_by_torch(build):
    """A network that comes from its builder alone, 600 of its first layer's 1024 weights pruned."""
    torch.manual_seed(7)
    net = build((1, 8, 8), 10).requires_grad_(True)
    torch_prune.l1_unstructured(net[1], "weight", amount=600)
    return from_prune(net)


WHOLE = {  # builder, what is told to models.add, what of it is never pruned
    "keep": (plain, {"keep": ("3",)}, ["3.weight"]),
    "frozen": (frozen, {}, ["3.weight"]),
    "aux": (Named, {}, ["aux.weight"]),
}


@pytest.mark.parametrize("how", WHOLE)
@pytest.mark.parametrize("method", ["lth_rate", "ballot"])
def test_the_named_model_says_what_stays_whole(own, loaded, tmp_path, how, method):
    build, told, whole = WHOLE[how]
    models.add("mine", build, (1, 8, 8), 10, **told)
    net, mask = pruned_by_torch(build)
    assert whole[0] in mask and net[3].weight.requires_grad
    run = Run(**SPARSER.model_dump() | {"model": "mine", "method": method, "density": 0.2})
    made = further.prune(run, loaded, net, mask)
    prunable_names = [name for name in ("1.weight", "3.weight") if name not in whole]
    total = sum(mask[name].numel() for name in prunable_names)
    assert [*made.ticket.mask] == prunable_names
    assert (made.ticket.mask.n_kept, made.parent.total) == (int(0.2 * total), total)
    for name in whole:
        weight = made.ticket.model.get_parameter(name)
        assert weight.all()
        changed = not torch.equal(weight, net.get_parameter(name))
        assert changed == (how == "keep")  # what is kept whole learns
    file = tmp_path / f"t{tickets.ENDING}"
    made.write(file)
    sparser = run.model_copy(update={"density": 0.1})
    again = further.prune(sparser, loaded, *tickets.load(file))
    assert again.ticket.mask.n_kept == int(0.1 * total)


def test_a_dictionary_of_outputs_counts_as_its_logits_do(own, loaded):
    models.add("mine", Named, (1, 8, 8), 10)
    net, mask = pruned_by_torch(Named)
    run = Run(**SPARSER.model_dump() | {"model": "mine", "density": mask.density})
    with pytest.raises(ValueError, match=r"which keeps 584 of 1184 weights: pass"):
        further.train(run, loaded, net, mask)  # the auxiliary head does not count
    run = run.model_copy(update={"density": 584 / 1184})
    made = further.train(run, loaded, net, mask)
    given = net(loaded.test.x.float().div(127.5).sub(1))["logits"].argmax(1)
    assert made.before.correct.sum() == (given == loaded.test.y).sum()


@pytest.mark.parametrize("how", ["keep", "frozen"])
def test_a_pruned_layer_that_stays_whole_is_refused(own, loaded, how):
    build, told, _ = WHOLE[how]
    models.add("mine", build, (1, 8, 8), 10, **told)
    net, mask = pruned_by_torch(build)
    mask["3.weight"][0, :5] = False
    run = Run(**SPARSER.model_dump() | {"model": "mine"})
    with pytest.raises(ValueError) as caught:
        further.prune(run, loaded, net, mask)
    assert str(caught.value) == (
        "3.weight stays whole in model 'mine', by keep or since it is frozen, and its mask prunes "
        "5 of 160 weights: do not prune that layer, or add the model anew so that it may be pruned."
    )


def test_the_given_network_stays_as_it_is(loaded, ticket):
    model = copy.deepcopy(ticket.model)
    further.train(RUN, loaded, model, ticket.mask)
    assert bits(model) == bits(ticket.model)


def test_what_torch_pruned_is_trained_further_at_its_own_density(loaded, ticket):
    hooked = to_prune(ticket.model, ticket.mask)
    torch_prune.random_unstructured(hooked.linear1, "weight", amount=7)
    model, mask = from_prune(hooked)
    run = RUN.model_copy(update={"density": mask.density})
    made = further.train(run, loaded, model, mask)
    assert made.ticket.mask.n_kept == mask.n_kept
    assert is_pruned_by(made.ticket.model, mask)


def test_shifted_class_biases_go_on(loaded, ticket, tmp_path):
    """Those that stand in a buffer, which the network of that name has not when it is built."""
    model = copy.deepcopy(ticket.model)
    make_room(model, 10)
    shift = torch.arange(10.0)
    model.get_buffer("class_shift").copy_(shift)
    made = further.train(RUN, loaded, model, ticket.mask)
    file = tmp_path / f"t{tickets.ENDING}"
    made.write(file)
    assert torch.equal(tickets.load(file).model.get_buffer("class_shift"), shift)
    assert made.before.correct.sum() < ticket.card.test.correct.sum()


def test_a_shift_of_other_classes_is_refused(loaded, ticket):
    model = copy.deepcopy(ticket.model)
    make_room(model, 9)
    with pytest.raises(ValueError) as caught:
        further.train(RUN, loaded, model, ticket.mask)
    assert str(caught.value) == (
        "the network is not 'mlp': class_shift is (9,), expected (10,); name its own model, see "
        "models.add."
    )


def test_where_a_layer_was_kept_alive_is_still_told(loaded, ticket):
    mask = MaskSet(ticket.mask, {"linear3.weight": 2})
    made = further.train(RUN, loaded, ticket.model, mask)
    assert made.record.notes["rescued"] == {"linear3.weight": 2}


def test_weights_that_the_mask_prunes_are_0_from_the_start(loaded, ticket, sparser):
    model = copy.deepcopy(ticket.model)
    for name, weight in prunable(model).items():
        weight.data[~ticket.mask[name]] = 5.0
    made = further.prune(SPARSER, loaded, model, ticket.mask, ticket.card)
    assert bits(made.ticket.model) == bits(sparser("lth_rate").ticket.model)
    assert made.before.correct.tolist() == ticket.card.counts["correct"]


def test_its_record_is_of_this_training_alone(loaded, ticket, monkeypatch):
    """Not of what an earlier run has read, and under the same conditions as any run."""
    files = sorted(paths.RUNS.rglob("*"))
    LEDGER.read[Path("of an earlier run")] = Effort(1000.0, 1000.0)
    monkeypatch.setattr(paths, "DETERMINISTIC", True)
    try:
        record = further.train(RUN, loaded, *ticket).record
    finally:
        torch.use_deterministic_algorithms(False)
    assert record.conditions["shared_seconds"] == 0
    assert record.conditions["device"].endswith(", deterministic")
    assert record.spent == pytest.approx(0.9, abs=0.05)
    assert sorted(paths.RUNS.rglob("*")) == files  # nothing is on disk before `write`


class TestWrite:
    @pytest.fixture
    def made(self, sparser):
        return sparser("ballot")

    @pytest.fixture
    def file(self, tmp_path):
        return tmp_path / f"sparser{tickets.ENDING}"

    def test_it_comes_back_bit_for_bit(self, made, file):
        made.write(file)
        model, mask, card = tickets.load(file)
        assert bits(model) == bits(made.ticket.model)
        assert masks_equal(mask, made.ticket.mask)
        assert card.run == SPARSER.model_dump() | {"method": "ballot"}
        assert card.counts == made.record.counts["test"]

    def test_the_card_says_where_it_came_from(self, made, file, ticket):
        made.write(file)
        card = tickets.read_card(file)
        assert card.parent == cards.Parent(
            kept=851,
            total=17024,
            images_of=RUN.model_dump(),
            file=ticket.card.file,
            sha256=ticket.card.sha256,
            method="lth_rate",
            density=0.05,
        )
        row = (
            f"| goes on from | digits_mlp_lth_rate_d0.05_s0.safetensors.zlib, sha256 "
            f"{ticket.card.sha256}, method lth_rate, density 0.05, 851 of 17,024 weights kept |"
        )
        assert row in cards.markdown(card).splitlines()

    def test_it_goes_on_from_there(self, file, loaded, ticket):
        """With the images of the first ticket, whatever the seeds since."""
        run = SPARSER.model_copy(update={"seed": 5})
        further.prune(run, loaded, *ticket).write(file)
        second = tickets.load(file)
        assert second.card.images_of == RUN.model_dump() != second.card.run
        again = data.load(Run(**second.card.images_of))
        run = SPARSER.model_copy(update={"density": 0.01, "seed": 6})
        third = further.prune(run, again, *second)
        assert third.ticket.mask.n_kept == 170
        assert third.parent.sha256 == second.card.sha256
        assert third.parent.images_of == RUN.model_dump()

    def test_it_is_not_the_runs_own_ticket(self, made, file):
        made.write(file)
        run = SPARSER.model_copy(update={"method": "ballot"})
        with pytest.raises(ValueError, match="is the ticket of another run, not of digits_mlp"):
            tickets.load(file, run)

    def test_nothing_is_replaced_unless_asked(self, made, file):
        card = tickets.card_path(file)
        for there in (file, card):
            there.write_text("mine")
            with pytest.raises(ValueError) as caught:
                made.write(file)
            assert str(caught.value) == (
                f"{there} is there already: choose another name, or pass replace=True."
            )
            assert there.read_text() == "mine"
            there.unlink()
        file.write_text("mine")
        made.write(file, replace=True)
        assert tickets.load(file).mask.n_kept == 340

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("t.zlib", "is no name for a ticket: let it end in .safetensors.zlib."),
            (
                "digits_mlp_ballot_d0.02_s0.safetensors.zlib",
                "is where the run's own ticket goes, made from the dense network: choose another name.",
            ),
        ],
    )
    def test_names_that_are_refused(self, made, tmp_path, name, sentence):
        with pytest.raises(ValueError) as caught:
            made.write(tmp_path / name, replace=True)
        assert str(caught.value) == f"{tmp_path / name} {sentence}"
        assert not [*tmp_path.iterdir()]


def test_the_example_in_the_docstring_runs(path):
    found = doctest.testmod(further, extraglobs={"path": path})
    assert found.failed == 0 and found.attempted >= 9
