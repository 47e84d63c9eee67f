"""Weights that a network of one's own comes with: kept, taken as trained, drawn anew, or refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fairlth import config, data, lottery, models
from fairlth.config import Run
from fairlth.conflict import meter
from fairlth.masks import count_frozen, prunable
from fairlth.methods import sharing
from fairlth.models import build, given
from fairlth.shipping import ticket as tickets
from fairlth.shipping.card import card_bytes, markdown
from fairlth.training import fit, predict
from fairlth.workflow import experiments

SHAPE = (1, 8, 8)


class Net(nn.Module):
    """A convolution, batch norm and a linear layer, for digits."""

    def __init__(self, in_shape=SHAPE, n_classes=10, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(in_shape[0], 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * 16, n_classes, bias=bias)

    def forward(self, x):
        x = F.max_pool2d(self.norm(self.conv(x)).relu(), 2)
        return self.linear(x.flatten(1))


def run_of(method="magnitude", density=0.5, **change):
    fields = {"dataset": "digits", "model": "mine", "seed": 0, "preset": "smoke"}
    return Run(method=method, density=density, **fields | change)


def same(one, other):
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def loaded():
    return data.load(run_of(model="mlp"))


@pytest.fixture(scope="module")
def trained(loaded):
    """The state of a Net after one epoch of a plain loop."""
    torch.manual_seed(5)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for rows in torch.arange(len(loaded.train)).split(64):
        x = loaded.train.x[rows].float() / 127.5 - 1
        optimizer.zero_grad()
        F.cross_entropy(net(x), loaded.train.y[rows]).backward()
        optimizer.step()
    return net.state_dict()


def holding(state):
    """The network itself, with a state."""
    net = Net()
    net.load_state_dict(state)
    return net


def reading(state):
    """A builder that reads a state."""

    def build_it(in_shape, n_classes):
        net = Net(in_shape, n_classes)
        net.load_state_dict(state)
        return net

    return build_it


FORMS = {"network": holding, "builder": reading}


def of_seed(seed):
    return build("mine", SHAPE, 10, torch.Generator().manual_seed(seed)).state_dict()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_trained_weights_are_not_lost_without_a_word(own, trained, form):
    with pytest.raises(ValueError) as caught:
        models.add("mine", form(trained), SHAPE, 10)
    batches = int(trained["norm.num_batches_tracked"])
    assert batches > 10
    assert str(caught.value) == (
        f"model 'mine' looks trained (norm has counted {batches} batches): give "
        'models.add weights="keep" to start from them, or weights="draw" to lose them and draw '
        "all anew for each seed."
    )
    assert "mine" not in models.MODELS


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_kept_weights_are_those_of_every_seed(own, trained, form):
    models.add("mine", form(trained), SHAPE, 10, weights="keep")
    assert same(of_seed(0), trained)
    assert same(of_seed(1), trained)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_weights_that_are_drawn_anew_have_nothing_left_of_the_given_ones(own, trained, form):
    """Every tensor is that of a new network: no mixture of trained norms and fresh kernels."""
    models.add("mine", form(trained), SHAPE, 10, weights="draw")
    drawn = of_seed(0)
    fresh = Net().state_dict()
    assert not same(drawn, of_seed(1))
    for name in drawn:
        assert not torch.equal(drawn[name], trained[name]), name
        if name.startswith("norm"):
            assert torch.equal(drawn[name], fresh[name]), name


def change(**values):
    """A fresh Net with values at one place of a parameter or buffer."""
    net = Net()
    with torch.no_grad():
        for name, value in values.items():
            layer, _, tensor = name.partition("_")
            getattr(getattr(net, layer), tensor)[..., 0] = value
    return net


SIGNS = {
    "a mean": (change(norm_running_mean=0.1), "norm has statistics of images"),
    "a variance": (change(norm_running_var=2.0), "norm has statistics of images"),
    "weights of a norm": (change(norm_weight=0.9), "norm has weights other than 1"),
    "biases of a norm": (change(norm_bias=0.1), "norm has biases other than 0"),
    "a large bias": (
        change(linear_bias=0.5),
        "linear has weights and biases other than a reset gives",
    ),
    "a large weight": (
        change(linear_weight=0.5),
        "linear has weights and biases other than a reset gives",
    ),
}


@pytest.mark.parametrize(("net", "seen"), SIGNS.values(), ids=SIGNS)
def test_each_sign_of_training_is_named(own, net, seen):
    with pytest.raises(ValueError, match=rf"^model 'mine' looks trained \({seen}\): "):
        models.add("mine", net, SHAPE, 10)


def xavier():
    """A fresh network whose initialiser is wider than torch's."""
    torch.manual_seed(0)
    net = Net()
    nn.init.xavier_normal_(net.linear.weight)
    nn.init.normal_(net.linear.bias, std=1e-3)
    return net


def test_a_fresh_network_of_a_wide_initialiser_is_asked_and_not_called_trained(own):
    with pytest.raises(ValueError) as caught:
        models.add("mine", xavier(), SHAPE, 10)
    assert str(caught.value) == (
        "model 'mine' looks trained (linear has weights and biases other than a reset gives): give "
        'models.add weights="keep" to start from them, or weights="draw" to lose them and draw all '
        "anew for each seed."
    )
    models.add("mine", xavier(), SHAPE, 10, weights="draw")
    assert not same(of_seed(0), of_seed(1))


def zero_norm():
    net = Net()
    nn.init.zeros_(net.norm.weight)
    return net


def own_kernels():
    net = Net()
    nn.init.normal_(net.linear.weight)
    nn.init.constant_(net.linear.bias, 0.01)
    return net


@pytest.mark.parametrize("make", [Net, zero_norm, own_kernels, lambda: Net(bias=False)])
def test_a_fresh_network_needs_no_word(own, make):
    models.add("mine", make(), SHAPE, 10)
    assert not same(of_seed(0), of_seed(1))


def test_a_builder_that_gives_one_kernel_for_all_seeds_is_asked(own, trained):
    def with_trained_kernel(in_shape, n_classes):
        net = Net(in_shape, n_classes)
        net.conv.load_state_dict({"weight": trained["conv.weight"], "bias": trained["conv.bias"]})
        return net

    with pytest.raises(ValueError, match=r"\(conv.weight is the same for two seeds\)"):
        models.add("mine", with_trained_kernel, SHAPE, 10)
    models.add("mine", with_trained_kernel, SHAPE, 10, weights="keep")
    assert torch.equal(of_seed(1)["conv.weight"], trained["conv.weight"])
    assert not torch.equal(of_seed(0)["linear.weight"], of_seed(1)["linear.weight"])
    with pytest.raises(ValueError) as caught:
        models.add("mine", with_trained_kernel, SHAPE, 10, trained=True)
    assert str(caught.value) == (
        "model 'mine': linear.weight is drawn anew for each seed, so the network is not trained: "
        'load all its weights, or train it by weights="keep" without trained=True.'
    )


def test_a_builder_that_sets_a_kernel_to_one_value_is_not_asked(own):
    models.add("mine", lambda in_shape, n_classes: _zero_head(Net(in_shape, n_classes)), SHAPE, 10)


def _zero_head(net):
    nn.init.zeros_(net.linear.weight)
    return net


class Scaled(Net):
    """A Net with parameters that no layer resets."""

    def __init__(self, scale):
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x):
        return super().forward(x) * self.scale


@pytest.mark.parametrize("scale", [torch.linspace(1, 2, 10), torch.tensor(1.5)])
def test_what_cannot_be_drawn_anew_is_refused(own, scale):
    net = Scaled(scale)
    with pytest.raises(ValueError) as caught:
        models.add("mine", net, SHAPE, 10, weights="draw")
    assert str(caught.value) == (
        "model 'mine': scale is in no layer that has reset_parameters and cannot be drawn anew: "
        'give models.add a function that builds the network, or weights="keep".'
    )


@pytest.mark.parametrize("scale", [torch.full((10,), 0.5), torch.tensor(1.0)])
def test_what_was_set_stays_where_all_else_is_drawn_anew(own, scale):
    models.add("mine", Scaled(scale), SHAPE, 10, weights="draw")
    assert torch.equal(of_seed(3)["scale"], scale)


def test_a_layer_that_is_reset_to_one_value_is_drawn_anew(own):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.PReLU(), nn.Linear(8, 10))
    nn.init.constant_(net[2].weight, 0.7)
    models.add("mine", net, SHAPE, 10, weights="draw")
    assert of_seed(0)["2.weight"].tolist() == [0.25]


TOLD = {
    "another word": (
        {"weights": "random"},
        'weights=\'random\' is refused: expected "keep" or "draw".',
    ),
    "no truth": ({"trained": 1}, "trained=1 is refused: expected True or False."),
    "a contradiction": (
        {"trained": True, "weights": "draw"},
        'trained=True and weights="draw" contradict each other: leave one of them out.',
    ),
}


@pytest.mark.parametrize(("told", "sentence"), TOLD.values(), ids=TOLD)
def test_what_cannot_be_told_gets_one_sentence(own, told, sentence):
    with pytest.raises(ValueError) as caught:
        models.add("mine", Net(), SHAPE, 10, **told)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("name", ["linear.bias", "norm.running_var"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_weights_that_are_not_finite_are_refused(own, trained, form, name):
    state = {layer: value.clone() for layer, value in trained.items()}
    state[name][0] = torch.nan
    with pytest.raises(ValueError) as caught:
        models.add("mine", form(state), SHAPE, 10, weights="keep")
    assert str(caught.value) == (
        f"model 'mine': {name} has values that are not finite: give it the weights of a training "
        "that did not diverge."
    )


def test_a_state_that_does_not_fit_is_told_with_its_layer_and_both_sizes(own, trained, loaded):
    sentence = (
        r"^model 'mine' cannot be built for in_shape=\(1, 8, 8\) and n_classes={}: Error\(s\) in "
        r"loading state_dict for Net: size mismatch for linear.weight: .*\[10, 64\].*\[{}, 64\]\)\.$"
    )
    with pytest.raises(ValueError, match=sentence.format(3, 3)):
        models.add("mine", reading(trained), SHAPE, 3, weights="keep")
    models.add("mine", reading(trained), SHAPE, 10, weights="keep")
    with pytest.raises(ValueError, match=sentence.format(2, 2)):
        experiments.run(run_of(target="odd"))


def test_other_given_weights_are_another_network(own, trained):
    """Of one bit, also where three digits of the outputs are the same."""
    found = []
    other = {name: value.clone() for name, value in trained.items()}
    other["conv.bias"][0] = torch.nextafter(other["conv.bias"][0], torch.tensor(9.0))
    for state, told in (
        (trained, {"weights": "keep"}),
        (trained, {"weights": "keep"}),
        (other, {"weights": "keep"}),
        (trained, {"trained": True}),
    ):
        models.add("mine", reading(state), SHAPE, 10, **told)
        found.append(models.fingerprint("mine"))
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_dense_training_goes_on_from_kept_weights(own, trained, loaded):
    models.add("mine", holding(trained), SHAPE, 10, weights="keep")
    run = run_of()
    twin = holding(trained)
    fit(twin, loaded, run.settings.schedule, seed=0, stop=1)
    dense = sharing.dense_once(run, loaded)
    assert same(dense.rewind, twin.state_dict())
    assert dense.epochs == 10


def test_fine_tuning_rewinds_to_the_given_weights(own, trained, loaded):
    models.add("mine", holding(trained), SHAPE, 10, weights="keep")
    dense = sharing.dense_once(run_of(preset="finetune"), loaded)
    assert same(dense.rewind, trained)
    assert not same(dense.trained, trained)


def test_a_trained_network_is_the_dense_net_as_it_was_given(own, trained, loaded, monkeypatch):
    """Nothing is trained; every state is the given one, and conflict is read as often as else."""
    models.add("mine", holding(trained), SHAPE, 10, trained=True)
    monkeypatch.setattr(lottery, "fit", None)
    run = run_of()
    dense = sharing.dense_once(run, loaded)
    assert dense.epochs == 0
    for state in (dense.network.state_dict(), dense.rewind, dense.trained):
        assert same(state, trained)
    watch = meter(run, loaded)
    watch.load_state(dense.conflict)
    steps = 9 * (len(loaded.train) // 64)
    assert watch.observed == steps // min(32, steps // 8) == 8
    assert watch.steps == 0
    conflict = watch.conflict()
    assert set(conflict) == {"conv.weight", "linear.weight"}
    assert all(bool((value != 0).any()) for value in conflict.values())
    twin = meter(run, loaded)
    for _ in range(8):
        twin.observe(holding(trained))
    assert same(twin.conflict(), conflict)


COSTED = (
    *("dense", "magnitude", "lth", "lth_rate", "ballot", "fairgrape"),
    *("pw_loss", "constrained", "safecompress"),
)


def test_costs_of_a_trained_network_are_those_of_what_is_trained(own, trained, loaded, tmp_path):
    """In dense trainings of 10 epochs: half the weights take 3 fine levels, the first for nothing."""
    state = predict(holding(trained), loaded.test)
    costs = {}
    for told in ({"trained": True}, {"weights": "keep"}):
        models.add("mine", holding(trained), SHAPE, 10, **told)
        for method in COSTED:
            run = run_of(method, 1.0 if method == "dense" else 0.5)
            record = experiments.run(run, tmp_path / str(told))
            costs[method, "trained" in told] = (record.cost, record.spent)
            if method == "dense" and "trained" in told:
                assert record.counts["test"]["correct"] == state.correct.tolist()
                assert record.cost == record.spent == 0
    for method in COSTED:
        shorter, whole = costs[method, True], costs[method, False]
        assert whole[0] - shorter[0] == pytest.approx(1)
        assert whole[1] - shorter[1] == pytest.approx(1, abs=1e-3)
    assert costs["magnitude", True] == (1, 1)
    assert costs["lth", True][0] == pytest.approx(0.9)  # one level, and its own training
    assert costs["lth_rate", True][0] == pytest.approx((3 * 1 + 9) / 10)
    assert costs["ballot", True][0] == pytest.approx((3 * 1 + 18) / 10)


def test_a_trained_networks_ticket_is_rewound_to_the_given_weights(own, trained, loaded):
    models.add("mine", holding(trained), SHAPE, 10, trained=True)
    run = run_of("lth", 0.2)
    dense = sharing.dense_once(run, loaded)
    found = lottery.search(run, loaded, dense, lottery.by_magnitude)
    state = found.model.state_dict()
    for name, kept in found.mask.items():
        assert torch.equal(state[name], trained[name] * kept)
    assert found.epochs == 9  # two levels, the first for nothing


def frozen(state):
    net = holding(state)
    net.conv.requires_grad_(False)
    return net


@pytest.mark.parametrize("method", ["lth", "ballot", "fairscratch", "safecompress", "random"])
def test_frozen_layers_stay_as_they_are_and_are_counted(own, trained, method, tmp_path):
    models.add("mine", frozen(trained), SHAPE, 10, weights="keep")
    run = run_of(method, 0.25)
    record = experiments.run(run, tmp_path)
    assert (record.kept, record.total) == (160, 640)
    assert record.notes["frozen"] == 36
    loaded = tickets.load(config.ticket_path(run, tmp_path), run)
    for name in ("conv.weight", "conv.bias"):
        assert torch.equal(loaded.model.get_parameter(name), trained[name])
    assert list(prunable(loaded.model)) == list(loaded.mask) == ["linear.weight"]
    assert loaded.card.frozen == count_frozen(loaded.model) == 36
    assert "160 of 640 weights kept, 36 more frozen and not pruned" in markdown(loaded.card)
    plain = loaded.card.model_copy(update={"frozen": 0})
    assert b"frozen" in card_bytes(loaded.card)
    assert b"frozen" not in card_bytes(plain)


@pytest.mark.parametrize("method", ["ballot", "lth_bias"])
def test_a_frozen_head_stays_as_it_is_where_outputs_are_shifted(own, trained, method, tmp_path):
    net = holding(trained)
    net.linear.requires_grad_(False)
    models.add("mine", net, SHAPE, 10, weights="keep")
    run = run_of(method, 0.5)
    record = experiments.run(run, tmp_path)
    model = tickets.load(config.ticket_path(run, tmp_path), run).model
    assert torch.equal(model.linear.weight, trained["linear.weight"])
    assert torch.equal(model.linear.bias, trained["linear.bias"])
    assert model.class_shift.tolist() == pytest.approx(record.notes["shift"])
    assert any(record.notes["shift"])


def test_what_is_frozen_is_told_by_the_fingerprint(own, trained):
    models.add("mine", holding(trained), SHAPE, 10, weights="keep")
    learning = models.fingerprint("mine")
    models.add("mine", frozen(trained), SHAPE, 10, weights="keep")
    assert models.fingerprint("mine") != learning


class Blurred(Net):
    """A Net whose convolution is a frozen filter with frozen biases."""

    def __init__(self, kernel, in_shape=SHAPE, n_classes=10):
        super().__init__(in_shape, n_classes)
        with torch.no_grad():
            self.conv.weight.copy_(kernel)
            self.conv.bias.fill_(0.25)
        self.conv.requires_grad_(False)


FILTERS = {
    "box blur": torch.full((3, 3), 1 / 9),
    "Sobel": torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]),
}


@pytest.mark.parametrize("form", ["network", "builder"])
@pytest.mark.parametrize("kernel", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("weights", [None, "draw", "keep"])
def test_frozen_filters_are_never_drawn(own, form, kernel, weights):
    def build_it(in_shape, n_classes):
        return Blurred(kernel, in_shape, n_classes)

    given_now = Blurred(kernel) if form == "network" else build_it
    models.add("mine", given_now, SHAPE, 10, weights=weights)
    one, other = of_seed(0), of_seed(1)
    for state in (one, other):
        assert torch.equal(state["conv.weight"], kernel.expand(4, 1, 3, 3))
        assert state["conv.bias"].tolist() == [0.25] * 4
    as_given = form == "network" and weights == "keep"
    assert torch.equal(one["linear.weight"], other["linear.weight"]) == as_given


def test_a_frozen_parameter_needs_no_reset(own):
    scale = torch.linspace(1, 2, 10)
    net = Scaled(scale)
    net.scale.requires_grad_(False)
    models.add("mine", net, SHAPE, 10, weights="draw")
    assert torch.equal(of_seed(0)["scale"], scale)
    assert not torch.equal(of_seed(0)["linear.weight"], of_seed(1)["linear.weight"])


@pytest.mark.parametrize("layer", ["weight", "bias"])
def test_only_what_is_frozen_of_a_layer_is_left(layer):
    def build_it(in_shape, n_classes):
        attention = nn.MultiheadAttention(4, 1)
        nn.init.ones_(attention.in_proj_weight)
        nn.init.ones_(attention.in_proj_bias)
        attention.get_parameter(f"in_proj_{layer}").requires_grad_(False)
        return attention

    attention = models.registry.draw(build_it, SHAPE, 10, torch.Generator().manual_seed(0))
    assert bool((attention.in_proj_weight == 1).all()) == (layer == "weight")
    assert bool((attention.in_proj_bias == 1).all()) == (layer == "bias")
    assert bool((attention.in_proj_bias == 0).all()) == (layer == "weight")


def test_a_reset_takes_layers_whose_reset_has_an_underscore():
    attention = nn.MultiheadAttention(4, 1)
    nn.init.constant_(attention.in_proj_bias, 3.0)
    given.reset(attention)
    assert attention.in_proj_bias.unique().tolist() == [0.0]
