import pytest
import torch
from safetensors.torch import load, save

from fairlth.packing import pack, unpack


def weights(n, density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, generator=generator) < density
    return torch.randn(n, generator=generator) * mask, mask


def places(density, n=100_000):
    """Bytes that the places of a tensor's kept weights take, and how they are stored."""
    parts = pack(*weights(n, density))
    [kind] = {"bits", "gaps"} & set(parts)
    return kind, parts[kind].dtype, parts[kind].nbytes


def test_parts_worked_by_hand():
    weight = torch.tensor([[0.0, 0.0, 0.0, 0.0, 7.0], [-1.0, 0.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[False, True, False, False, True], [True, False, False, False, False]])
    parts = pack(weight, mask)
    assert parts["values"].tolist() == [0.0, 7.0, -1.0]  # a kept weight may be 0
    assert parts["shape"].tolist() == [2, 5]
    assert parts["bits"].tolist() == [0b01001100, 0]
    gaps = pack(torch.zeros(99), torch.arange(99) % 40 == 10)
    assert gaps["gaps"].tolist() == [11, 40, 40] and gaps["gaps"].dtype == torch.uint8


def test_the_smaller_way_is_taken():
    assert places(0.5) == ("bits", torch.uint8, 12_500)
    assert places(0.2) == ("bits", torch.uint8, 12_500)
    kind, dtype, size = places(0.05)
    assert kind == "gaps" and dtype == torch.uint8 and size < 12_500 / 2
    kind, dtype, size = places(0.002)
    assert kind == "gaps" and dtype == torch.uint16 and size < 600
    assert pack(*weights(200_000, 0.0))["gaps"].numel() == 0
    far = torch.arange(100_000) == 99_999
    assert pack(far.float(), far)["gaps"].dtype == torch.int32


@pytest.mark.parametrize("density", [0.0, 0.001, 0.02, 0.2, 1.0])
@pytest.mark.parametrize("shape", [(1,), (7, 3), (16, 5, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_bit_comes_back_through_a_file(shape, density, dtype):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < density
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)).to(dtype).masked_fill(~mask, 0)
    if len(shape) == 4:
        weight, mask = (tensor.to(memory_format=torch.channels_last) for tensor in (weight, mask))
    found, kept = unpack(load(save(pack(weight, mask))))
    assert found.dtype == dtype and torch.equal(found, weight) and torch.equal(kept, mask)


def test_a_weight_that_would_be_lost_is_refused():
    with pytest.raises(ValueError, match="a pruned weight is not 0 and would be lost: apply the mask first"):
        pack(torch.ones(3), torch.tensor([True, True, False]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"values": torch.ones(2)}, "2 values are stored for 3 places"),
        ({"gaps": torch.tensor([1, 0, 5])}, "not among 99 weights"),
        ({"gaps": torch.tensor([1, 5, 94])}, "not among 99 weights"),
        ({"gaps": torch.tensor([1, -1, 5])}, "not among 99 weights"),
        ({"bits": torch.zeros(12, dtype=torch.uint8)}, "12 bytes of places are stored for 99 weights"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change, sentence):
    parts = pack(torch.zeros(99), torch.arange(99) % 40 == 10)
    with pytest.raises(ValueError, match=sentence):
        unpack(parts | change)
