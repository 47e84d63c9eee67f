import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from fairlth import config
from fairlth.masks import MaskSet, count_kept, kept_whole, output_layer, prunable
from fairlth.models import build
from fairlth.training import snapshot


def slow_mask(scores, n_keep):
    """Positions kept when sorted by falling score, then by place: the plain twin of
    `from_scores`.
    """
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return sorted(order[:n_keep])


def net(seed=0, name="convnet"):
    return build(name, (3, 16, 16), 10, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("coarse", [1, 3, 1000])
@pytest.mark.parametrize("n_keep", [1, 7, 50, 99, 100])
def test_from_scores_is_exact_and_gives_ties_to_the_earlier_weight(coarse, n_keep):
    generator = torch.Generator().manual_seed(n_keep)
    scores = {
        name: (torch.rand(50, generator=generator) * coarse).floor().reshape(5, 10) for name in "ab"
    }
    mask = MaskSet.from_scores(scores, n_keep)
    flat = torch.cat([mask["a"].flatten(), mask["b"].flatten()])
    everything = torch.cat([scores["a"].flatten(), scores["b"].flatten()]).tolist()
    assert mask.n_kept == n_keep
    assert flat.nonzero().flatten().tolist() == slow_mask(everything, n_keep)


def test_from_scores_keeps_order_for_channels_last_weights():
    score = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4).to(memory_format=torch.channels_last)
    mask = MaskSet.from_scores({"w": score.floor_divide(100)}, 10)
    assert mask["w"].contiguous().flatten().nonzero().flatten().tolist() == list(range(10))
    assert mask["w"].is_contiguous(memory_format=torch.channels_last)


def test_the_mask_is_torchs_own_global_one_where_there_are_no_ties():
    model, theirs = net(), net().to(memory_format=torch.contiguous_format)
    scores = {name: weight.detach().abs() for name, weight in prunable(model).items()}
    n_keep = count_kept(0.1, scores)
    modules = [(theirs.get_submodule(name.removesuffix(".weight")), "weight") for name in scores]
    total = sum(score.numel() for score in scores.values())
    prune.global_unstructured(modules, prune.L1Unstructured, amount=total - n_keep)
    mask = MaskSet.from_scores(scores, n_keep)
    for (module, _), kept in zip(modules, mask.values(), strict=True):
        assert torch.equal(module.weight_mask.bool(), kept)


@pytest.mark.parametrize(
    ("density", "kept"), [(1.0, 1000), (0.5, 500), (0.0509, 50), (0.001, 1), (1 / 3, 333)]
)
def test_count_kept_is_the_floor(density, kept):
    assert count_kept(density, {"a": torch.zeros(20, 30), "b": torch.zeros(400)}) == kept


def test_a_density_that_keeps_nothing_is_refused_with_what_would_do():
    with pytest.raises(
        ValueError, match="density=0.001 keeps none of 100 weights: choose at least 0.01"
    ):
        count_kept(0.001, {"w": torch.zeros(100)})


@pytest.mark.parametrize("total", [1, 3, 7, 99, 101, 90_000, 270_000, 11_173_962])
def test_the_density_that_is_advised_keeps_a_weight(total):
    weights = {"w": torch.zeros(1).expand(total)}
    with pytest.raises(ValueError, match="choose at least ") as refused:
        count_kept(1e-9, weights)
    advised = float(str(refused.value).split("choose at least ")[1].rstrip("."))
    assert count_kept(advised, weights) == 1 and advised <= 1.1 / total


def test_no_weights_to_choose_from_are_refused():
    with pytest.raises(ValueError, match="there are no weights to choose from"):
        count_kept(0.5, {})


@pytest.mark.parametrize("n_keep", [0, 101])
def test_a_count_out_of_range_is_refused(n_keep):
    with pytest.raises(ValueError, match=f"n_keep={n_keep} .*1 to 100"):
        MaskSet.from_scores({"w": torch.rand(100)}, n_keep)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="nan.*diverged"):
        MaskSet.from_scores({"w": torch.tensor([1.0, math.nan])}, 1)


def test_a_mask_is_bool():
    with pytest.raises(TypeError, match="mask of w is torch.float32"):
        MaskSet({"w": torch.ones(3)})


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_pruned_weights_are_exactly_zero_after_every_step(optimizer):
    model = net()
    weights = prunable(model)
    if optimizer == "sgd":
        stepper = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    else:
        stepper = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8)

    def step():
        stepper.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        stepper.step()

    for _ in range(3):  # fill the optimiser's buffers while dense
        step()
    mask = MaskSet.from_scores(
        {name: weight.detach().abs() for name, weight in weights.items()}, 500
    )
    revived = 0
    for _ in range(10):
        step()
        revived += sum(int((weights[name][~kept] != 0).sum()) for name, kept in mask.items())
        mask.apply(model)
        assert all((weights[name][~kept] == 0).all() for name, kept in mask.items())
        assert sum(int((weight != 0).sum()) for weight in weights.values()) == 500
    assert revived > 0  # without the mask, momentum brings them back


def test_apply_touches_pruned_weights_only():
    model = net()
    before = snapshot(model)
    mask = MaskSet.from_scores(
        {name: torch.rand_like(weight) for name, weight in prunable(model).items()}, 1000
    )
    mask.apply(model)
    for name, value in model.state_dict().items():
        kept = mask.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value[kept], before[name][kept])


def test_the_report_counts_layers_and_dead_units():
    mask = MaskSet(
        {"a": torch.tensor([[True, False], [False, False]]), "b": torch.tensor([[True, True]])}
    )
    assert mask.layers() == [
        {"layer": "a", "kept": 1, "total": 4, "density": 0.25, "dead_units": 1},
        {"layer": "b", "kept": 2, "total": 2, "density": 1.0, "dead_units": 0},
    ]
    assert (mask.n_kept, mask.total, mask.density) == (3, 6, 0.5)


def test_a_mask_that_does_not_fit_is_refused_by_name_and_shape():
    mask = MaskSet.full(prunable(net()))
    mask.check_fits(net(seed=1))
    with pytest.raises(
        ValueError,
        match=r"the mask of conv1.weight has shape \(16, 3, 3, 3\) and the model's is missing",
    ):
        mask.check_fits(net(name="resnet20"))
    wrong = MaskSet({"conv1.weight": torch.ones(16, 1, 3, 3, dtype=torch.bool)})
    with pytest.raises(
        ValueError,
        match=r"conv1.weight has shape \(16, 1, 3, 3\) and the model's is \(16, 3, 3, 3\)",
    ):
        wrong.check_fits(net())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_every_kind_of_number_is_counted_exactly_and_scores_stay_as_they_are(dtype):
    """Close and tied values, in two tensors; the twin sorts."""
    numbers = torch.randint(0, 50, (300,), generator=torch.Generator().manual_seed(0))
    scores = {
        "a": (numbers[:180] + (1e-12 if dtype == torch.float64 else 0)).to(dtype).reshape(9, 20),
        "b": numbers[180:].to(dtype),
    }
    before = {name: score.clone() for name, score in scores.items()}
    flat = torch.cat([score.flatten() for score in scores.values()]).double()
    for n_keep in (1, 77, 299, 300):
        mask = MaskSet.from_scores(scores, n_keep)
        first = sorted(range(300), key=lambda i: (-float(flat[i]), i))[:n_keep]
        assert torch.cat([kept.flatten() for kept in mask.values()]).nonzero()[
            :, 0
        ].tolist() == sorted(first)
    assert all(torch.equal(score, before[name]) for name, score in scores.items())


@pytest.mark.parametrize(
    ("density", "n", "kept"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.05, 89_000, 4450), (1.0, 7, 7), (0.1, 9, 0)],
)
def test_shares_of_counts_are_exact(density, n, kept):
    """In floats 0.29 * 100 and 0.57 * 100 are less than 29 and 57."""
    assert config.share_of(density, n) == kept


class HeadFirst(nn.Module):
    """Registers its output layer first; a layer with as many outputs is called before it."""

    def __init__(self, end, head):
        super().__init__()
        self.head = head
        self.body = nn.Linear(16, 3)
        self.beside = nn.Linear(3, 3)
        self.end = end

    def forward(self, x):
        h = self.body(x.flatten(1))
        outputs = self.head(h.reshape(-1, 3, 1, 1) if isinstance(self.head, nn.Conv2d) else h)
        self.beside(h)  # called last, gives nothing
        return self.end(outputs.flatten(1))


@pytest.mark.parametrize("head", [nn.Linear(3, 3), nn.Linear(3, 3, bias=False), nn.Conv2d(3, 3, 1)])
def test_the_output_layer_is_the_one_that_gives_the_outputs(head):
    model = HeadFirst(nn.Identity(), head).train()
    assert output_layer(model, torch.rand(2, 1, 4, 4)) == "head.weight"
    assert model.training and not head._forward_hooks


def test_before_a_function_of_it_the_output_layer_is_the_last_one_called():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 3), nn.LogSoftmax(1))
    assert output_layer(model, torch.rand(2, 1, 4, 4)) == "2.weight"


class Every(nn.Module):
    """A layer of each kind that is pruned, and of some that are not."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.conv1 = nn.Conv1d(2, 3, 2)
        self.conv3 = nn.Conv3d(1, 2, 2)
        self.up1 = nn.ConvTranspose1d(3, 2, 2)
        self.up2 = nn.ConvTranspose2d(3, 2, 2)
        self.up3 = nn.ConvTranspose3d(3, 2, 2)
        self.names = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.same = nn.MultiheadAttention(4, 2)
        self.split = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
        self.scale = nn.PReLU()
        self.linear = nn.Linear(4, 2)


EVERY = {
    "conv1.weight": (3, 2, 2),
    "conv3.weight": (2, 1, 2, 2, 2),
    "up1.weight": (3, 2, 2),
    "up2.weight": (3, 2, 2, 2),
    "up3.weight": (3, 2, 2, 2, 2),
    "same.in_proj_weight": (12, 4),
    "same.out_proj.weight": (4, 4),
    "split.q_proj_weight": (4, 4),
    "split.k_proj_weight": (4, 3),
    "split.v_proj_weight": (4, 5),
    "split.out_proj.weight": (4, 4),
    "linear.weight": (2, 4),
}


def test_every_kind_of_kernel_is_prunable_and_nothing_else():
    model = Every()
    found = prunable(model)
    assert {name: tuple(weight.shape) for name, weight in found.items()} == EVERY
    assert [*found] == [*EVERY]  # ties go to the earlier weight
    assert all(model.get_parameter(name) is weight for name, weight in found.items())


@pytest.mark.parametrize(
    ("patterns", "whole"),
    [
        (("linear",), ["linear.weight"]),
        (("same",), ["same.in_proj_weight"]),
        (("same*",), ["same.in_proj_weight", "same.out_proj.weight"]),
        (("up?", "conv[13]"), [name for name in EVERY if name[:2] in ("up", "co")]),
        (("Linear", "weight", "linear.weight", "token"), []),
    ],
)
def test_layers_that_a_pattern_names_stay_whole_in_copies_too(patterns, whole):
    model = Every()
    model.keep_whole = patterns
    model = copy.deepcopy(model)
    assert kept_whole(model) == whole
    assert [*prunable(model)] == [name for name in EVERY if name not in whole]


def test_attention_at_the_end_gives_the_outputs_by_its_output_projection():
    class Ends(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 6)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x):
            places = self.linear(x)
            return self.attention(places, places, places)[0].mean(1)

    torch.manual_seed(0)
    assert output_layer(Ends(), torch.rand(2, 3, 4)) == "attention.out_proj.weight"


def test_an_output_layer_that_stays_whole_is_still_the_output_layer():
    model = net()
    model.keep_whole = ("linear",)
    assert output_layer(model, torch.rand(2, 3, 16, 16)) == "linear.weight"
    assert "linear.weight" not in prunable(model)


def test_where_weights_are_used_by_function_alone_the_last_layer_is_taken():
    class Bare(nn.Sequential):
        def forward(self, x):
            return x @ self[0].weight.T @ self[1].weight.T

    assert output_layer(Bare(nn.Linear(3, 4), nn.Linear(4, 2)), torch.rand(2, 3)) == "1.weight"
