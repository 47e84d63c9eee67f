import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fairlth import experiments, models
from fairlth.config import Run
from fairlth.masks import prunable
from fairlth.methods import base, shared
from fairlth.methods.dense import train_once
from fairlth.models import build


def make(name, seed=0, in_shape=(3, 32, 32)):
    return build(name, in_shape, 7, torch.Generator().manual_seed(seed))


@pytest.fixture
def own():
    """After the test no model that it added."""
    before = dict(models.MODELS)
    yield
    models.MODELS.clear()
    models.MODELS.update(before)
    models.OWN.clear()


class Net(nn.Module):
    """One convolution and a linear layer, with a parameter that is neither, and a forward that can be told to differ."""

    def __init__(self, in_shape, n_classes, activation=F.relu, width=4):
        super().__init__()
        self.conv, self.linear = (
            nn.Conv2d(in_shape[0], width, 3, padding=1),
            nn.Linear(width, n_classes),
        )
        self.scale, self.activation = nn.Parameter(torch.rand(width)), activation

    def forward(self, x):
        return self.linear(self.activation(self.conv(x)).mean((2, 3)) * self.scale)


def net(change):
    """Builds a Net and changes it."""

    def build_it(in_shape, n_classes):
        model = Net(in_shape, n_classes)
        return change(model) or model

    return build_it


def set_to(**values):
    return lambda model: [setattr(model, name, value) for name, value in values.items()] and None


def tie(model):
    model.second = nn.Linear(4, 3)
    model.linear.weight = model.second.weight


def freeze(model):
    model.conv.weight.requires_grad = False


def parametrised(model):
    torch.nn.utils.parametrizations.weight_norm(model.conv)


def test_a_network_of_ones_own_is_trained_pruned_and_recorded(own, tmp_path):
    model = models.add("mine", Net, in_shape=(1, 8, 8))
    assert list(prunable(model)) == ["conv.weight", "linear.weight"] and not model.training
    run = Run(dataset="digits", model="mine", method="ballot", density=0.5, seed=0, preset="smoke")
    record = experiments.run(run, tmp_path)
    assert (record.kept, record.total) == (38, 4 * 9 + 4 * 10)
    assert record.settings["model"] == models.fingerprint("mine") != ""


def test_the_generator_decides_all_weights_of_ones_own_network(own):
    models.add("mine", Net)
    torch.manual_seed(1)
    one = make("mine").state_dict()
    torch.manual_seed(2)
    same, other = make("mine").state_dict(), make("mine", seed=1).state_dict()
    assert set(one) == {"conv.weight", "conv.bias", "linear.weight", "linear.bias", "scale"}
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["scale"], other["scale"]) and not torch.equal(
        one["conv.weight"], other["conv.weight"]
    )


def test_a_network_given_whole_is_reset_and_stays_as_it_is(own):
    given = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 30 * 30, 3)
    )
    nn.init.constant_(given[1].weight, 5.0)
    before = {name: value.clone() for name, value in given.state_dict().items()}
    models.add("mine", given)
    fresh = build("mine", (3, 32, 32), 3, torch.Generator().manual_seed(0))
    assert fresh[1].weight.tolist() == [1.0] * 4 and not torch.equal(
        fresh[0].weight, before["0.weight"]
    )
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    with pytest.raises(
        ValueError, match=r"model 'mine' gives \(4, 3\) for 4 images, expected \(4, 10\)"
    ):
        models.check_fits("mine", fresh, (3, 32, 32), 10)


def test_a_network_that_does_not_fit_the_images_of_a_run_is_refused_before_training(
    own, tmp_path, monkeypatch
):
    models.add(
        "mine", lambda in_shape, n_classes: nn.Sequential(nn.Conv2d(3, n_classes, 32), nn.Flatten())
    )
    monkeypatch.setattr(experiments, "METHODS", {})
    run = Run(dataset="digits", model="mine", method="dense", density=1.0, seed=0, preset="smoke")
    with pytest.raises(ValueError, match=r"model 'mine' fails on images of shape \(1, 8, 8\): "):
        experiments.run(run, tmp_path)


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (
            lambda in_shape, n_classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes)),
            "1.weight is lazy, of no size yet",
        ),
        (lambda in_shape, n_classes: nn.AdaptiveAvgPool2d(1), "has no Conv2d and no Linear layer"),
        (lambda in_shape, n_classes: "resnet", "is a str: expected an nn.Module"),
        (lambda in_shape: None, "cannot be built for .* and 3 classes: .*positional"),
        (
            lambda in_shape, n_classes: nn.Linear(7, n_classes),
            r"fails on images of shape \(3, 32, 32\)",
        ),
        (
            lambda in_shape, n_classes: Net(in_shape, n_classes + 1),
            r"gives \(4, 4\) for 4 images, expected \(4, 3\)",
        ),
        (net(set_to(forward=lambda x: None)), "gives NoneType for 4 images"),
        (
            net(set_to(activation=nn.Dropout(0.1))),
            "draws random numbers while it trains.*set its dropout to 0",
        ),
        (
            net(set_to(activation=lambda x: F.dropout(x, 0.5))),
            "draws random numbers while it trains",
        ),
        (
            net(set_to(spare=nn.Linear(2, 2))),
            "spare.weight has no part in the output: leave the layer out",
        ),
        (net(tie), "linear.weight is shared|second.weight is shared"),
        (net(parametrised), "conv.weight is shared or computed from others"),
        (net(freeze), "conv.weight is frozen"),
    ],
)
def test_a_network_that_cannot_be_pruned_gets_one_sentence(own, make_it, sentence):
    with pytest.raises(ValueError, match=f"model 'mine'.*({sentence})") as caught:
        models.add("mine", make_it)
    assert "\n" not in str(caught.value) and "mine" not in models.MODELS


def test_names_of_models_are_fit_for_files_and_not_taken(own):
    with pytest.raises(
        ValueError, match="'mlp' is a model that comes with the package: choose another name"
    ):
        models.add("mlp", Net)
    with pytest.raises(ValueError, match="'a/b' is no name for files"):
        models.add("a/b", Net)
    models.add("mine", Net)
    models.add("mine", Net)


def test_dropout_that_is_off_is_let_in_and_checks_leave_the_generator_alone(own):
    torch.manual_seed(0)
    models.add("mine", net(set_to(activation=nn.Dropout(0.0))))
    with pytest.raises(ValueError, match="random numbers"):
        models.add("mine", net(set_to(activation=nn.Dropout(0.5))))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


@pytest.mark.parametrize("change", [{"activation": torch.tanh}, {"width": 5}])
def test_two_networks_of_one_name_are_told_apart(own, random_data, change):
    run = Run(dataset="digits", model="mine", method="dense", density=1.0, seed=0, preset="smoke")
    models.add("mine", Net, in_shape=(1, 8, 8))
    first, trained = models.fingerprint("mine"), train_once(run, random_data).trained
    models.add("mine", Net, in_shape=(1, 8, 8))
    assert models.fingerprint("mine") == first
    shared.LEDGER.made.clear()
    train_once(run, random_data)
    assert not shared.LEDGER.made
    models.add(
        "mine", lambda in_shape, n_classes: Net(in_shape, n_classes, **change), in_shape=(1, 8, 8)
    )
    assert models.fingerprint("mine") != first
    other = train_once(run, random_data).trained
    assert len(shared.LEDGER.made) == 1
    assert other["conv.weight"].shape != trained["conv.weight"].shape or not torch.equal(
        other["conv.weight"], trained["conv.weight"]
    )
    assert base.fresh_model(run, random_data).conv.out_channels == change.get("width", 4)
