import itertools
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fairlth import bias_shift, config, data, models
from fairlth.config import Run
from fairlth.masks import prunable
from fairlth.methods import sharing
from fairlth.models import build, checks
from fairlth.models import own as own_module
from fairlth.shipping import export
from fairlth.shipping import ticket as tickets
from fairlth.training import count, logits
from fairlth.workflow import experiments


def make(name, seed=0, in_shape=(3, 32, 32)):
    return build(name, in_shape, 7, torch.Generator().manual_seed(seed))


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


def tie_biases(model):
    model.second = nn.Linear(4, 3)
    model.linear.bias = model.second.bias


def parametrised(model):
    torch.nn.utils.parametrizations.weight_norm(model.conv)


class Layer(nn.Module):
    """A layer of the user's that applies a function of itself and its input."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def layer(function, **parts):
    """A Net whose activation is a Layer."""
    return net(lambda model: setattr(model, "activation", Layer(function, **parts)))


class Viewed(Net):
    """Flattens by view, which needs channels first."""

    def forward(self, x):
        return self.linear(self.conv(x).view(-1, 4)[: len(x)])


class Ending(Net):
    """A Net with one more step at its end."""

    def __init__(self, in_shape, n_classes, end):
        super().__init__(in_shape, n_classes)
        self.end = end

    def forward(self, x):
        return self.end(super().forward(x))


def ending_in(end):
    return lambda in_shape, n_classes: Ending(in_shape, n_classes, end)


def clamp_own_weight(own, x):
    with torch.no_grad():
        own.scale.mul_(0.9)
    return x * own.scale


def replace_own_weight(own, x):
    own.scale = nn.Parameter(own.scale.detach().clone())
    return x * own.scale


def count_calls(own, x):
    own.calls += 1
    return x * own.calls


CALLS = [0]


class Often:
    """An object of the user's that counts."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.calls


def now_and_then(number, x):
    """x, but 0 in every 997th call, so that a few calls find no difference."""
    return x * (number % 997 > 0)


def in_the_attribute(own, x):
    own.calls += 1
    return now_and_then(own.calls, x)


def in_a_list(own, x):
    own.calls.append(0)
    return now_and_then(len(own.calls), x)


def in_a_list_of_lists(own, x):
    own.calls["all"][0].append(0)
    return now_and_then(len(own.calls["all"][0]), x)


def in_the_class(own, x):
    type(own).calls = getattr(type(own), "calls", 0) + 1
    return now_and_then(type(own).calls, x)


def in_the_function(own, x):
    in_the_function.calls += 1
    return now_and_then(in_the_function.calls, x)


in_the_function.calls = 0


def in_a_global_list(own, x):
    CALLS[0] += 1
    return now_and_then(CALLS[0], x)


def in_a_tensor(own, x):
    own.calls += 1
    return now_and_then(int(own.calls), x)


def in_the_next_value(own, x):
    return now_and_then(next(own.calls), x)


def in_its_own_generator(own, x):
    return x * (own.calls.random() < 1 - 1e-9)


def in_its_own_generator_of_torch(own, x):
    return x * (torch.rand((), generator=own.calls) < 1 - 1e-9)


def in_what_is_called(own, x):
    return now_and_then(own.calls(), x)


def only_in_training(own, x):
    own.calls += own.training
    return now_and_then(own.calls, x)


def in_a_closure():
    calls = 0

    def count(own, x):
        nonlocal calls
        calls += 1
        return now_and_then(calls, x)

    return layer(count)


def in_what_is_read(own, x):
    return now_and_then(own.calls, x)


class Helped(Layer):
    """Counts in a method without an object."""

    @staticmethod
    def calls():
        CALLS[0] += 1
        return CALLS[0]


class Read(Layer):
    """Counts where it is read."""

    @property
    def calls(self):
        CALLS[0] += 1
        return CALLS[0]


def numbers():
    number = 0
    while True:
        number += 1
        yield number


NUMBERS = numbers()


class Yielding(Layer):
    """Takes numbers from a generator."""

    def forward(self, x):
        return now_and_then(next(NUMBERS), x)


class Counting(Layer):
    """Counts in its class."""

    calls = 0


def fill_buffer(own, x):
    own.mean.mul_(0.5).add_(x.mean())
    return x + own.mean


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
    models.add("mine", given, weights="draw")
    fresh = build("mine", (3, 32, 32), 3, torch.Generator().manual_seed(0))
    assert fresh[1].weight.tolist() == [1.0] * 4 and not torch.equal(
        fresh[0].weight, before["0.weight"]
    )
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    with pytest.raises(
        ValueError, match="model 'mine' has 3 outputs and digits has 10 classes: add"
    ):
        models.check_fits("mine", fresh, (3, 32, 32), 10, "digits")


def test_a_network_that_does_not_fit_the_images_of_a_run_is_refused_before_training(
    own, tmp_path, monkeypatch
):
    models.add(
        "mine", lambda in_shape, n_classes: nn.Sequential(nn.Conv2d(3, n_classes, 32), nn.Flatten())
    )
    monkeypatch.setattr(experiments.methods, "make", None)
    run = Run(dataset="digits", model="mine", method="dense", density=1.0, seed=0, preset="smoke")
    with pytest.raises(
        ValueError, match=r"model 'mine' fails on a batch of 2 of in_shape=\(1, 8, 8\): "
    ):
        experiments.run(run, tmp_path)


GENERATOR = torch.Generator()
REMEMBERS = {
    "attribute": (layer(in_the_attribute, calls=0), "predicts, in activation.calls"),
    "list": (layer(in_a_list, calls=[]), "predicts, in activation.calls"),
    "nested": (layer(in_a_list_of_lists, calls={"all": ([],)}), "predicts, in activation.calls"),
    "tensor": (layer(in_a_tensor, calls=torch.zeros(())), "predicts, in activation.calls"),
    "iterator": (layer(in_the_next_value, calls=itertools.count(1)), "predicts, in activation.calls"),
    "cycle": (layer(in_the_next_value, calls=itertools.cycle(range(1, 8))), "predicts, in activation.calls"),
    "generator": (
        layer(in_its_own_generator, calls=np.random.default_rng(0)),
        "predicts, in activation.calls",
    ),
    "Python's generator": (
        layer(in_its_own_generator, calls=random.Random(0)),
        "predicts, in activation.calls",
    ),
    "torch's generator": (
        layer(in_its_own_generator_of_torch, calls=torch.Generator()),
        "predicts, in activation.calls",
    ),
    "object": (layer(in_what_is_called, calls=Often()), "predicts, in activation.calls"),
    "bound method": (layer(in_what_is_called, calls=Often().__call__), "predicts, in activation.calls"),
    "partial": (layer(in_what_is_called, calls=partial(Often())), "predicts, in activation.calls"),
    "while it trains alone": (layer(only_in_training, calls=0), "trains, in activation.calls"),
    "method": (
        net(lambda model: setattr(model, "activation", Helped(in_what_is_called))),
        "predicts, in Helped.calls",
    ),
    "read": (
        net(lambda model: setattr(model, "activation", Read(in_what_is_read))),
        "predicts, in Read.calls",
    ),
    "class": (
        net(lambda model: setattr(model, "activation", Counting(in_the_class))),
        "predicts, in Counting.calls",
    ),
    "generator function": (
        net(lambda model: setattr(model, "activation", Yielding(None))),
        "predicts, in Yielding.forward",
    ),
    "closure": (in_a_closure(), "predicts, in activation.function"),
    "function": (layer(in_the_function), "predicts, in activation.function"),
    "global": (layer(in_a_global_list), "predicts, in activation.function"),
}  # fmt: skip

REFUSED = {
    "lazy": (
        lambda in_shape, n_classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes)),
        "1.weight is lazy, of no size yet",
    ),
    "meta": (
        lambda in_shape, n_classes: Net(in_shape, n_classes).to("meta"),
        "scale is on the device meta",
    ),
    "a buffer on meta": (
        net(set_to(mean=nn.Buffer(torch.zeros(3, device="meta")))),
        "mean is on the device meta, without values: build it on cpu",
    ),
    "nothing to prune": (
        lambda in_shape, n_classes: nn.AdaptiveAvgPool2d(1),
        "has no convolution, no linear layer and no nn.MultiheadAttention: there is nothing to",
    ),
    "no network": (lambda in_shape, n_classes: "resnet", "is a str: expected an nn.Module"),
    "no builder": (
        lambda in_shape: None,
        r"cannot be built for in_shape=\(3, 32, 32\) and n_classes=3: .*positional",
    ),
    "other images": (
        lambda in_shape, n_classes: nn.Linear(7, n_classes),
        r"fails on a batch of 2 of in_shape=\(3, 32, 32\): ",
    ),
    "a fixed batch": (
        lambda in_shape, n_classes: nn.Sequential(
            nn.Flatten(), nn.Linear(3072, n_classes), nn.Unflatten(0, (2, 1)), nn.Flatten()
        ),
        r"fails on a batch of 1 of in_shape",
    ),
    "other classes": (
        lambda in_shape, n_classes: Net(in_shape, n_classes + 1),
        "has 4 outputs and n_classes=3 was expected: give models.add n_classes=4",
    ),
    "a view of channels that are last": (
        lambda in_shape, n_classes: Viewed(in_shape, n_classes),
        r"fails on a batch of 2 .*: view size is not compatible .* Use .reshape\(...\) instead",
    ),
    "a map": (
        lambda in_shape, n_classes: nn.Conv2d(3, n_classes, 1),
        r"gives \(2, 3, 32, 32\) for 2 images, expected \(2, 3\)",
    ),
    "nothing": (net(set_to(forward=lambda x: None)), "gives NoneType for 2 images"),
    "a dictionary": (
        net(set_to(forward=lambda x: {"features": x})),
        r"gives dict for 2 images, expected a tensor \(2, 3\): .* or name them logits or out",
    ),
    "a tuple without names": (
        net(set_to(forward=lambda x: (x, x))),
        r"gives tuple for 2 images, expected a tensor \(2, 3\)",
    ),
    "a dictionary of maps": (
        net(set_to(forward=lambda x: {"out": x})),
        r"gives \(2, 3, 32, 32\) for 2 images, expected \(2, 3\)",
    ),
    "infinite": (
        layer(lambda own, x: x.sign().sub(x.sign()).log()),
        "gives outputs that are not finite",
    ),
    "double outputs": (
        net(lambda model: setattr(model, "forward", lambda x: Net.forward(model, x).double())),
        "gives float64 outputs, expected float32",
    ),
    "a weight in bfloat16": (
        net(lambda model: model.conv.to(torch.bfloat16) and None),
        'conv.weight is bfloat16, expected float32: .*precision="bfloat16"',
    ),
    "all in float16": (
        lambda in_shape, n_classes: Net(in_shape, n_classes).half(),
        "scale is float16, expected float32",
    ),
    "integers": (
        net(
            lambda model: setattr(
                model, "places", nn.Parameter(torch.arange(3), requires_grad=False)
            )
        ),
        "places is a parameter of int64, expected float32: make it a buffer",
    ),
    "compiled": (
        lambda in_shape, n_classes: torch.compile(Net(in_shape, n_classes)),
        "is compiled: give the nn.Module that it was made from",
    ),
    "dropout that never ends": (
        layer(lambda own, x: F.dropout(x, 0.5)),
        r"activation \(Layer\) draws random numbers while it predicts, .*: let it draw none\.",
    ),
    "Python's numbers": (
        layer(lambda own, x: x * 0.5 if own.training and random.random() < 0.01 else x),
        r"activation \(Layer\) draws random numbers while it trains",
    ),
    "numpy's numbers": (
        layer(lambda own, x: x + np.random.rand() if own.training else x),  # noqa: NPY002
        r"activation \(Layer\) draws random numbers while it trains, from no seed of the run: draw "
        r"from torch's global generator alone\.",
    ),
    "several that draw": (
        net(
            set_to(
                activation=nn.Sequential(
                    Layer(lambda own, x: x * random.random() if own.training else x),
                    nn.ReLU(),
                    Layer(lambda own, x: x * random.random() if own.training else x),
                )
            )
        ),
        r"activation.0 \(Layer\) and 1 more draw random numbers while it trains",
    ),
    "numbers between two layers": (
        net(
            lambda model: setattr(
                model,
                "forward",
                lambda x: model.linear(model.conv(x + random.random()).mean((2, 3)) * model.scale),
            )
        ),
        "the forward of Net draws random numbers while it predicts",
    ),
    "a generator of its own": (
        layer(lambda own, x: x * torch.rand((), generator=GENERATOR) if own.training else x),
        r"activation \(Layer\) gives other outputs for the same images each time while it trains",
    ),
    "a memory": (
        layer(count_calls, calls=0),
        r"activation \(Layer\) gives other outputs for the same images each time",
    ),
    "a memory beside dropout": (
        layer(lambda own, x: F.dropout(count_calls(own, x), 0.5, own.training), calls=0),
        r"activation \(Layer\) gives other outputs for the same images each time",
    ),
    "a buffer that moves in evaluation": (
        layer(fill_buffer, mean=nn.Buffer(torch.zeros(()))),
        "changes activation.mean while it predicts: .*leave buffers in evaluation mode as they are",
    ),
    "weights changed in place": (
        layer(clamp_own_weight, scale=nn.Parameter(torch.ones(4, 1, 1))),
        "changes activation.scale while it predicts: let its forward leave weights as they are",
    ),
    "weights replaced": (
        layer(replace_own_weight, scale=nn.Parameter(torch.ones(4, 1, 1))),
        "changes activation.scale while it predicts",
    ),
    "batch norm of each batch": (
        net(set_to(activation=nn.BatchNorm2d(4, track_running_stats=False))),
        r"activation \(BatchNorm2d\) keeps no running statistics, .*track_running_stats=True",
    ),
    "a mean over the batch": (
        layer(lambda own, x: x - x.mean(0)),
        "gives an image other outputs alone than among others",
    ),
    "softmax": (
        ending_in(nn.Softmax(1)),
        r"gives probabilities, expected logits: leave out the softmax at its end, in end \(Softmax\)",
    ),
    "sigmoid": (ending_in(nn.Sigmoid()), r"leave out the sigmoid at its end, in end \(Sigmoid\)"),
    "softmax when it predicts": (
        ending_in(Layer(lambda own, x: x if own.training else x.softmax(1))),
        r"leave out the softmax at its end, in end \(Layer\)",
    ),
    "an idle layer": (
        net(set_to(spare=nn.Linear(2, 2))),
        "spare.weight has no part in the output while it predicts: leave the layer out",
    ),
    "no gradients": (
        net(lambda model: setattr(model, "forward", lambda x: Net.forward(model, x).detach())),
        "gives outputs without gradients",
    ),
    "spoilt gradients": (
        layer(lambda own, x: x.exp().mul_(2)),
        "its gradients fail: one of the variables needed .* inplace",
    ),
    "tied weights": (net(tie), "second.weight is shared with linear.weight"),
    "tied biases": (net(tie_biases), "second.bias is shared with linear.bias"),
    "computed weights": (net(parametrised), "conv.weight is computed from others"),
    "all is frozen": (
        net(lambda model: model.requires_grad_(False) and None),
        "all its layers that could be pruned are frozen, and .* let the weight of one at least be",
    ),
    "a buffer called as that of shifts": (
        net(lambda model: model.register_buffer("class_shift", torch.zeros(3))),
        "has class_shift, the name of the constants that a shift adds to its outputs: call yours otherwise.",
    ),
    "a parameter called so": (
        net(set_to(class_shift=nn.Parameter(torch.zeros(3)))),
        "has class_shift, the name of the constants",
    ),
    "an attribute called so": (net(set_to(class_shift=0.5)), "has class_shift, the name"),
    "a slash": (
        net(lambda model: model.add_module("kept_zeros/conv", nn.BatchNorm1d(4))),
        "kept_zeros/conv has a slash, by which a ticket's file tells its masks apart: name the layer",
    ),
}


@pytest.mark.parametrize(("make_it", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_network_that_cannot_be_trained_and_pruned_gets_one_sentence(own, make_it, sentence):
    with pytest.raises(ValueError, match=f"^model 'mine'.*{sentence}") as caught:
        models.add("mine", make_it)
    assert "\n" not in str(caught.value) and "mine" not in models.MODELS


def test_logits_that_are_small_and_positive_are_let_in(own):
    """Within [0, 1] for images three times as large, and beyond it for larger ones."""
    net = models.add("mine", ending_in(lambda x: x.abs() * 0.2))
    x = 2 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    assert net(3 * x).max() < 1 < net(30 * x).max()


class Versioned(Net):
    """Loads nothing that does not tell its version, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        if local_metadata.get("version") != 2:
            raise ValueError("version should be 2.")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_a_network_that_files_cannot_fill_is_refused(own):
    with pytest.raises(ValueError) as caught:
        models.add("mine", Versioned)
    assert str(caught.value) == (
        "model 'mine' cannot be filled from names and values alone (version should be 2): "
        "let its loading ask for nothing else."
    )


class Small(nn.Module):
    """Its outputs are small whatever the scale of the image, since batch norm sees to that."""

    def __init__(self, in_shape, n_classes, end):
        super().__init__()
        self.conv = nn.Conv2d(in_shape[0], n_classes, 3)
        self.norm = nn.BatchNorm2d(n_classes)
        self.last = nn.Conv2d(n_classes, n_classes, 1)
        self.end = end

    def forward(self, x):
        return self.end(0.1 * self.last(self.norm(self.conv(x))).mean((2, 3)))


def test_small_outputs_of_one_sign_are_no_probabilities(own):
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(2, 3, 32, 32, generator=generator) - 1

    def made(end):
        torch.manual_seed(0)
        return Small((3, 32, 32), 3, end)

    with torch.no_grad():
        outputs = made(torch.abs)(30 * x)
    assert outputs.min() > 0 and outputs.max() < 1  # batch norm: whatever the scale of the image
    models.check_fits("mine", made(torch.abs), (3, 32, 32), 3)
    with pytest.raises(ValueError, match="gives probabilities"):
        models.check_fits("mine", made(torch.sigmoid), (3, 32, 32), 3)


@pytest.mark.parametrize(("make_it", "place"), REMEMBERS.values(), ids=REMEMBERS)
def test_a_network_that_differs_now_and_then_is_refused(own, make_it, place):
    """A few calls find no difference: what it remembers is looked for."""
    CALLS[0] = 0
    with pytest.raises(ValueError) as caught:
        models.add("mine", make_it)
    told = f"model 'mine' remembers calls while it {place} or what that refers to: "
    assert str(caught.value) == f"{told}let its forward change nothing but its buffers."


def test_the_name_that_is_taken_is_that_of_shifts():
    assert checks.TAKEN == bias_shift.ROOM


def test_class_shift_deeper_in_a_network_is_another_name(own):
    def shift_own(own, x):
        return x + own.class_shift

    def add_layer(model):
        model.activation = Layer(shift_own, class_shift=nn.Parameter(torch.ones(1)))

    models.add("mine", net(add_layer))


def test_what_a_call_writes_again_each_time_is_no_memory(own):
    """Values that are kept for a look, a table that the first call fills, names in use elsewhere."""

    def keep(own, x):
        own.last = x.detach()
        own.table.setdefault(x.shape[1:], 2.0)
        return x * own.table[x.shape[1:]]

    models.add("mine", layer(keep, table={}))


def test_a_refused_network_stays_as_it_is_and_so_do_generators(own):
    given = Net((3, 32, 32), 3, activation=nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in given.state_dict().items()}
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = (torch.rand(()), random.random(), np.random.rand())  # noqa: NPY002
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    models.check_fits("mine", given, (3, 32, 32), 3)
    models.add("mine", given, weights="keep")
    with pytest.raises(ValueError, match="4 outputs"):
        models.add("mine", lambda in_shape, n_classes: Net(in_shape, 4))
    assert (torch.rand(()), random.random(), np.random.rand()) == expected  # noqa: NPY002
    assert given.training
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())


ONE = Net((3, 32, 32), 3)
MEAN = torch.full((3, 1, 1), 0.5)


def half_shared(in_shape, n_classes):
    model = Net(in_shape, n_classes)
    model.conv = ONE.conv
    return model


def drawn_by_a_generator(in_shape, n_classes):
    model = Net(in_shape, n_classes)
    model.scale = nn.Parameter(torch.rand(4, generator=GENERATOR))
    return model


def drawn_width(in_shape, n_classes):
    return Net(in_shape, n_classes, width=random.randint(1, 10_000))


def drawn_and_not_stored(in_shape, n_classes):
    factor = torch.rand(())
    return Net(in_shape, n_classes, activation=Layer(lambda own, x: x * own.factor, factor=factor))


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (lambda in_shape, n_classes: ONE, "share scale: let the function build every layer anew"),
        (half_shared, "share conv.weight: let the function build every layer anew"),
        (drawn_by_a_generator, "scale differs when it is built twice from one seed"),
        (drawn_width, "has other layers when it is built from another seed"),
        (drawn_and_not_stored, "is not in its state_dict, so no file can store it"),
    ],
)
def test_a_builder_that_does_not_follow_from_the_seed_gets_one_sentence(own, make_it, sentence):
    with pytest.raises(ValueError, match=f"^model 'mine'.*{sentence}") as caught:
        models.add("mine", make_it)
    assert "\n" not in str(caught.value) and "mine" not in models.MODELS


def test_numbers_of_python_and_numpy_that_a_builder_draws_follow_from_the_seed(own):
    def with_numbers(in_shape, n_classes):
        model = Net(in_shape, n_classes)
        model.register_buffer("of_python", torch.tensor(random.random()))
        model.register_buffer("of_numpy", torch.tensor(np.random.rand()))  # noqa: NPY002
        return model

    models.add("mine", with_numbers)
    first, again, other = make("mine"), make("mine"), make("mine", seed=1)
    for name in ("of_python", "of_numpy"):
        assert torch.equal(first.get_buffer(name), again.get_buffer(name))
        assert not torch.equal(first.get_buffer(name), other.get_buffer(name))


def test_a_constant_that_all_networks_of_a_builder_share_is_copied(own):
    def with_constant(in_shape, n_classes):
        model = Net(in_shape, n_classes)
        model.register_buffer("mean", MEAN)
        return model

    models.add("mine", with_constant)
    make("mine").mean.zero_()
    assert MEAN.unique().tolist() == [0.5] and make("mine").mean.unique().tolist() == [0.5]


class Again(nn.Module):
    """Calls one layer twice and ends in a layer without biases."""

    def __init__(self, in_shape, n_classes):
        super().__init__()
        self.first = nn.Linear(64, 32)
        self.middle = nn.Linear(32, 32)
        self.last = nn.Linear(32, n_classes, bias=False)

    def forward(self, x):
        x = self.first(x.flatten(1)).relu()
        return self.last(self.middle(self.middle(x).relu()).relu())


def test_a_layer_called_twice_and_outputs_without_biases_go_all_the_way(own, tmp_path):
    """Trained by Ballot, which shifts the outputs; the file gives the counts of the record, and so does ONNX."""
    models.add("mine", Again, in_shape=(1, 8, 8), n_classes=10)
    run = Run(dataset="digits", model="mine", method="ballot", density=0.5, seed=0, preset="smoke")
    record = experiments.run(run, tmp_path)
    loaded = tickets.load(config.ticket_path(run, tmp_path))
    test = data.load(run).test
    assert (
        count(logits(loaded.model, test), test).correct.tolist() == record.counts["test"]["correct"]
    )
    assert loaded.model.class_shift.tolist() == pytest.approx(record.notes["shift"])
    assert any(record.notes["shift"])
    session = export.session(export.onnx(loaded.model, (1, 8, 8)))
    assert (
        count(export.logits(session, test), test).correct.tolist()
        == record.counts["test"]["correct"]
    )


def test_a_run_names_its_data_and_their_classes(own, tmp_path):
    models.add("mine", nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), in_shape=(1, 8, 8))
    run = Run(dataset="digits", model="mine", method="dense", density=1.0, seed=0, preset="smoke")
    with pytest.raises(
        ValueError, match="has 3 outputs and digits has 10 classes: .* n_classes=10"
    ):
        experiments.run(run, tmp_path)


def test_a_lazy_network_given_whole_gets_its_sentence_before_it_is_copied(own):
    with pytest.raises(ValueError, match="model 'mine': 1.weight is lazy"):
        models.add("mine", nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))


def test_names_of_models_are_fit_for_files_and_not_taken(own):
    with pytest.raises(
        ValueError, match="'mlp' is a model that comes with the package: choose another name"
    ):
        models.add("mlp", Net)
    with pytest.raises(ValueError, match="'a/b' is no name for files"):
        models.add("a/b", Net)
    models.add("mine", Net)
    models.add("mine", Net)


@pytest.mark.parametrize("change", [{"activation": torch.tanh}, {"width": 5}])
def test_two_networks_of_one_name_are_told_apart(own, random_data, change):
    run = Run(dataset="digits", model="mine", method="dense", density=1.0, seed=0, preset="smoke")
    models.add("mine", Net, in_shape=(1, 8, 8))
    first, trained = models.fingerprint("mine"), sharing.dense_once(run, random_data).trained
    models.add("mine", Net, in_shape=(1, 8, 8))
    assert models.fingerprint("mine") == first
    sharing.LEDGER.made.clear()
    sharing.dense_once(run, random_data)
    assert not sharing.LEDGER.made
    models.add(
        "mine", lambda in_shape, n_classes: Net(in_shape, n_classes, **change), in_shape=(1, 8, 8)
    )
    assert models.fingerprint("mine") != first
    other = sharing.dense_once(run, random_data).trained
    assert len(sharing.LEDGER.made) == 1
    assert other["conv.weight"].shape != trained["conv.weight"].shape or not torch.equal(
        other["conv.weight"], trained["conv.weight"]
    )
    assert sharing.fresh(run, random_data).conv.out_channels == change.get("width", 4)


@pytest.mark.parametrize("change", ["rate", "held"])
def test_what_a_network_does_in_training_alone_is_part_of_its_fingerprint(own, change):
    """Neither shows in its layers nor in its outputs for an image."""

    class Dropping(Net):
        rate = 0.1
        held = False

        def forward(self, x):
            features = self.activation(self.conv(x)).mean((2, 3)) * self.scale
            if self.held and self.training:
                features = features.detach() + 0 * features
            return self.linear(F.dropout(features, self.rate, self.training))

    found = []
    for value in (getattr(Dropping, change), 0.9):
        setattr(Dropping, change, value)
        models.add("mine", Dropping, (1, 8, 8), 3)
        found.append(models.fingerprint("mine"))
    setattr(Dropping, change, 0.9)
    models.add("mine", Dropping, (1, 8, 8), 3)
    assert found[0] != found[1] == models.fingerprint("mine")


def test_a_network_may_use_its_buffers_while_it_trains(own):
    """From the same buffers it gives the same outputs."""

    class Centred(Net):
        def __init__(self, in_shape, n_classes):
            super().__init__(in_shape, n_classes)
            self.register_buffer("middle", torch.zeros(4))

        def forward(self, x):
            features = self.activation(self.conv(x)).mean((2, 3))
            if self.training:
                self.middle.lerp_(features.detach().mean(0), 0.1)
            return self.linear((features - self.middle) * self.scale)

    models.add("mine", Centred, (1, 8, 8), 3)
    assert "mine" in models.MODELS


def test_one_output_is_answered_with_what_can_be_done(own):
    with pytest.raises(ValueError, match=r"has 1 output and n_classes=3 was expected: let the"):
        models.add("mine", lambda in_shape, n_classes: Net(in_shape, 1), (1, 8, 8), 3)


def test_a_gradient_of_rounding_alone_is_0_in_the_fingerprint():
    """That of a bias in front of batch norm: with other threads it would be rounded otherwise."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    model = nn.Sequential(*layers)
    largest, *told = own_module._trained_on(model, (1, 8, 8))
    outputs, norms = told[:6], told[7:]  # of two images, then the largest norm
    assert float(largest) > 0 and "1.0" in [value.lstrip("-") for value in outputs]
    assert norms[0] != "0.0" and norms[1] == "0.0" and "1.0" in norms
