"""torchvision's networks as they come are accepted: dropout, stochastic depth, auxiliary heads."""

import pytest
import torch
import torchvision
import zoo

from fairlth import config, data, models
from fairlth.config import Run, Schedule
from fairlth.images import Data, Split
from fairlth.shipping import export
from fairlth.shipping import ticket as tickets
from fairlth.training import count, logits
from fairlth.workflow import experiments, yours

FAMILIES = (
    "alexnet",
    "vgg11_bn",
    "resnet34",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "googlenet",
    "inception_v3",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "convnext_tiny",
    "swin_t",
)
SIDES = {"inception_v3": 299}  # pixels, others 64


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore")  # torchvision's own, on how weights are drawn
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_torchvision_are_accepted_as_they_come(own, name):
    builder = getattr(torchvision.models, name)
    side = SIDES.get(name, 64)

    def build_it(in_shape, n_classes):
        return builder(num_classes=n_classes)

    models.add("zoo", build_it, in_shape=(3, side, side))


def go_all_the_way(build_it, side, run, tmp_path, monkeypatch):
    """Adds, trains, prunes, stores, reads and exports a network; the number of weights per kind."""
    model = models.add("zoo", build_it, in_shape=(3, side, side), n_classes=3)
    images = random_images(side)
    monkeypatch.setattr(data, "load", lambda run: images)
    monkeypatch.setitem(config.PRESETS, "zoo", SHORT)
    record = experiments.run(run, tmp_path)
    n_prunable = sum(weight.numel() for weight in models.prunable(model).values())
    assert (record.kept, record.total) == (n_prunable // 2, n_prunable)
    loaded = tickets.load(config.ticket_path(run, tmp_path))
    counts = count(logits(loaded.model, images.test), images.test)
    assert counts.correct.tolist() == record.counts["test"]["correct"]
    session = export.session(
        export.onnx(loaded.model, (3, side, side), loaded.card, even_if_dead=True)
    )
    found = export.logits(session, images.test)
    expected = logits(loaded.model, images.test)
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    return loaded.card.parameters, n_prunable


def random_images(side):
    generator = torch.Generator().manual_seed(0)

    def split(n):
        shape = (n, 3, side, side)
        x = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return Split(x, torch.arange(n) % 3, torch.arange(n) % 3, 3, 3)

    return Data(split(6), split(6), split(6), ["a", "b", "c"], ["a", "b", "c"], mirror=False)


SHORT = config.PRESETS["smoke"].model_copy(
    update={"schedule": Schedule(epochs=2, batch_size=6, lr=0.01, warmup=0), "rewind_epochs": 1}
)
RUN = Run(dataset="digits", model="zoo", method="magnitude", density=0.5, seed=0, preset="smoke")
FAST = ("densenet", "convnext")


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore")  # torchvision's own
@pytest.mark.parametrize("network", zoo.NETWORKS, ids=lambda network: network.family)
def test_a_small_network_of_each_family_goes_all_the_way(own, tmp_path, monkeypatch, network):
    run = RUN.model_copy(update={"preset": "zoo"})
    weights = go_all_the_way(
        lambda in_shape, n_classes: network.build(n_classes),
        network.side,
        run,
        tmp_path,
        monkeypatch,
    )
    assert weights == (network.weights, network.prunable)


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore")  # timm's own
@pytest.mark.parametrize("name", zoo.TIMM)
def test_networks_of_timm_go_all_the_way(own, tmp_path, monkeypatch, name):
    pytest.importorskip("timm", reason="timm is not installed (extra `timm`)")
    _, build_it = yours.network(f"timm/{name}")
    go_all_the_way(build_it, 96, RUN.model_copy(update={"preset": "zoo"}), tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore")  # torchvision's own, on how weights are drawn
def test_mnasnet_is_refused_since_files_do_not_tell_its_version(own):
    def build_it(in_shape, n_classes):
        return torchvision.models.MNASNet(0.1, n_classes, dropout=0.0)

    with pytest.raises(ValueError, match="names and values alone .version should be set to 1 or 2"):
        models.add("zoo", build_it, (3, 32, 32))


@pytest.mark.parametrize(
    "network", [one for one in zoo.NETWORKS if one.family in FAST], ids=lambda one: one.family
)
def test_two_small_networks_are_counted_exactly(own, network):
    model = models.add(
        "zoo", lambda in_shape, n_classes: network.build(n_classes), (3, network.side, network.side)
    )
    found = sum(weight.numel() for weight in models.prunable(model).values())
    assert found == network.prunable
    assert sum(value.numel() for value in model.parameters()) == network.weights


def test_the_page_of_networks_is_what_code_writes():
    assert zoo.PAGE.read_text() == zoo.page()
