"""A ticket of whole units without them: smaller, with equal outputs."""

import pytest
import torch
from torch import nn

from fairlth.masks import MaskSet, prunable
from fairlth.models import MODELS, build
from fairlth.models.units import unit_groups, unit_mask
from fairlth.selection import magnitude, select
from fairlth.shipping.remove import remove, rounded

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed (extra `units`)")
RGB = (3, 32, 32)


def pruned(name):
    """A network whose batch norms are not the identity, with a third of its units, and its mask."""
    generator = torch.Generator().manual_seed(0)
    model = build(name, RGB, 10, generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.bias.normal_(0, 0.3, generator=generator)
                module.running_mean.normal_(0, 0.3, generator=generator)
    groups = unit_groups(model, RGB)
    kept = [torch.randperm(one.n_units, generator=generator) < one.n_units // 3 for one in groups]
    mask = unit_mask(model, groups, kept)
    mask.apply(model)
    return model, MaskSet(mask)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "vgg16"])
@pytest.mark.parametrize("round_to", [1, 8])
def test_outputs_stay_and_units_go(name, round_to):
    model, mask = pruned(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    small = remove(model, mask, RGB, round_to)
    x = torch.randn(3, *RGB, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        torch.testing.assert_close(small(x), model.eval()(x), rtol=1e-5, atol=1e-5)
    left = sum(weight.numel() for weight in prunable(small).values())
    assert left == mask.n_kept if round_to == 1 else mask.n_kept < left < mask.total
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not small.training


def test_what_is_kept_is_rounded_up_to_a_multiple_or_to_all():
    kept = torch.tensor([True, False, False, True, True, False])
    assert rounded(kept, 1).equal(kept)
    assert rounded(kept, 3).equal(kept)
    assert rounded(kept, 4).tolist() == [True, True, False, True, True, False]
    assert rounded(kept, 8).all()


def test_convnet_is_rounded_in_every_layer():
    """A third of 16, 32, 64 and 112 units: 5, 10, 21 and 37."""
    model, mask = pruned("convnet")
    widths = {n: [len(w) for w in prunable(remove(model, mask, RGB, n)).values()] for n in (1, 8)}
    assert widths == {1: [5, 10, 21, 37, 10], 8: [8, 16, 24, 40, 10]}


def test_units_that_are_not_silent_are_refused():
    model, mask = pruned("convnet")
    with torch.no_grad():
        model.conv2.weight[~mask["conv2.weight"]] = 1.0
        model.norm2.weight.fill_(1.0)
        model.conv3.weight[~mask["conv3.weight"]] = 1.0
    with pytest.raises(ValueError) as caught:
        remove(model, mask, RGB)
    assert str(caught.value).startswith("outputs of the smaller network differ from")
    assert str(caught.value).endswith(
        "the removed units of the ticket are not silent, train it again."
    )


def test_a_ticket_of_weights_is_refused():
    model = build("convnet", RGB, 10, torch.Generator().manual_seed(0))
    mask = select(magnitude(prunable(model)), 0.2)
    with pytest.raises(ValueError, match=r"the mask of conv1.weight is not of whole units"):
        remove(model, mask, RGB)


def test_a_multiple_below_one_is_refused():
    model, mask = pruned("convnet")
    with pytest.raises(ValueError) as caught:
        remove(model, mask, RGB, 0)
    assert str(caught.value) == "round_to=0 is refused: expected 1 or more, such as 8."
