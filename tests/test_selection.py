import math

import pytest
import torch

from fairlth.masks import MaskSet
from fairlth.selection import all_alive, conflict_aware, levels, magnitude, select, select_by_layer

WEIGHTS = {"a": torch.tensor([[1.0, -2.0], [3.0, -4.0]]), "b": torch.tensor([[0.5, -0.5]])}


def test_magnitude_is_the_absolute_value():
    assert magnitude(WEIGHTS)["a"].tolist() == [[1, 2], [3, 4]]


def test_conflict_lowers_the_weights_of_units_in_conflict_only():
    conflict = {"a": torch.tensor([0.5, -0.5]), "b": torch.tensor([0.3])}
    scores = conflict_aware(WEIGHTS, conflict, strength=0.1)
    demoted = math.exp(-0.1)  # the first unit stands one standard deviation above its layer's mean
    assert scores["a"].flatten().tolist() == pytest.approx([demoted, 2 * demoted, 3, 4])
    assert scores["b"].tolist() == [[0.5, 0.5]]  # alone in its layer, it stands out from nothing


def test_units_of_which_nothing_is_known_do_not_shift_the_others():
    few, many = torch.tensor([0.3, -0.3, 0.1]), torch.tensor([0.3, -0.3, 0.1] + [0.0] * 100)
    factors = [
        conflict_aware({"a": torch.ones(len(c), 1)}, {"a": c}, 0.1)["a"].flatten()[:3]
        for c in (few, many)
    ]
    assert torch.equal(factors[0], factors[1])


def test_conflicts_that_differ_by_rounding_alone_are_equal():
    """The two outputs of a binary task have mirrored gradients."""
    conflict = {"a": torch.tensor([0.082010791, 0.082011253])}
    scores = conflict_aware({"a": torch.ones(2, 1)}, conflict, strength=0.1)
    assert scores["a"].flatten().tolist() == pytest.approx([1, 1], abs=0.003)
    conflict = {"a": torch.full((11,), 0.7)}
    scores = conflict_aware({"a": torch.ones(11, 1)}, conflict, strength=0.1)
    assert scores["a"].flatten().tolist() == pytest.approx([1] * 11, abs=0.003)


def test_strength_is_a_switch_with_a_sign():
    conflict = {"a": torch.tensor([0.5, -0.5]), "b": torch.tensor([0.3])}
    none, some, other = (
        conflict_aware(WEIGHTS, conflict, strength)["a"][0, 0] for strength in (0.0, 0.1, -0.1)
    )
    assert some < none == 1 < other


def test_units_that_agree_are_left_alone_even_above_the_mean():
    scores = conflict_aware(
        {"a": torch.ones(2, 1)}, {"a": torch.tensor([-0.1, -0.9])}, strength=1.0
    )
    assert scores["a"].flatten().tolist() == [1, 1]


def test_select_keeps_the_floor_and_never_brings_a_weight_back():
    scores = {"w": torch.arange(10.0)}
    first = select(scores, 0.55)
    assert first["w"].nonzero().flatten().tolist() == [5, 6, 7, 8, 9]
    second = select({"w": torch.arange(10.0).flip(0)}, 0.3, within=first)
    assert second["w"].nonzero().flatten().tolist() == [5, 6, 7]


def test_select_refuses_to_keep_more_than_there_is():
    first = select({"w": torch.arange(16.0)}, 0.25)
    assert torch.equal(select({"w": torch.arange(16.0)}, 0.25, within=first)["w"], first["w"])
    with pytest.raises(ValueError, match=r"density=0.5 keeps 8 weights, .* has 4: choose a lower"):
        select({"w": torch.arange(16.0)}, 0.5, within=first)


def test_select_never_brings_back_a_weight_whose_rivals_are_zero():
    within = MaskSet({"w": torch.tensor([False, False, True, True])})
    assert select({"w": torch.tensor([0.0, 0.0, 0.0, 1.0])}, 0.5, within)["w"].tolist() == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("density", "keep", "expected"),
    [(0.05, 0.36, 3), (0.02, 0.36, 4), (0.05, 0.8, 14), (1.0, 0.36, 1), (0.36, 0.36, 1)],
)
def test_levels_are_geometric_and_end_at_the_density(density, keep, expected):
    found = levels(density, keep)
    assert len(found) == expected and found[-1] == density
    ratios = [after / before for before, after in zip([1.0, *found], found, strict=False)]
    assert ratios == pytest.approx([ratios[0]] * expected)
    assert min(ratios) >= keep - 1e-12


def test_a_budget_of_nothing_keeps_nothing():
    kept = select_by_layer(magnitude(WEIGHTS), {"a": 2, "b": 0})
    assert kept["a"].tolist() == [[False, False], [True, True]] and not kept["b"].any()


def test_no_layer_and_no_class_loses_its_last_weight():
    """By hand: 4 of 10 weights; the highest are all in the first layer, the second layer and both
    classes would die.
    """
    scores = {
        "first": torch.tensor([[9.0, 8.0, 7.0, 6.0]]),
        "second": torch.tensor([[0.1, 0.2]]),
        "classes": torch.tensor([[0.3, 0.4], [0.6, 0.5]]),
    }
    mask = select(scores, 0.4)
    assert mask["first"].tolist() == [[True, False, False, False]]
    assert mask["second"].tolist() == [[False, True]] and mask["classes"].tolist() == [
        [False, True],
        [True, False],
    ]
    assert (
        mask.rescued == {"second": 1, "classes": 2}
        and mask.n_kept == 4
        and all_alive(mask, "classes")
    )


def test_the_output_layer_need_not_be_the_last():
    """The same scores with the classes named first: each of them keeps its best weight."""
    scores = {
        "classes": torch.tensor([[0.3, 0.4], [0.6, 0.5]]),
        "first": torch.tensor([[9.0, 8.0], [7.0, 6.0]]),
    }
    assert select(scores, 0.5)["classes"].sum() == 1
    mask = select(scores, 0.5, head="classes")
    assert mask["classes"].tolist() == [[False, True], [True, False]]
    assert mask.rescued == {"classes": 2}


def test_where_the_output_layer_stays_whole_no_class_needs_a_rescue():
    """The last layer with scores has a row without weights, and no row of it is a class."""
    scores = {"a": torch.tensor([[9.0, 8.0]]), "b": torch.tensor([[3.0], [4.0]])}
    assert select(scores, 0.75, head="b").rescued == {"b": 1}
    mask = select(scores, 0.75, head="classes")
    assert mask["b"].tolist() == [[False], [True]]
    assert mask.rescued == {} and all_alive(mask, "classes")
    one_layer = select(scores, 0.5, head="classes")  # a layer is still kept alive
    assert one_layer["b"].tolist() == [[False], [True]] and one_layer.rescued == {"b": 1}


def test_the_rule_leaves_a_mask_alone_that_needs_it_not_or_cannot_have_it():
    alive = select({"a": torch.tensor([[1.0, 4.0]]), "b": torch.tensor([[2.0, 3.0]])}, 0.5)
    assert (
        alive["a"].tolist() == [[False, True]]
        and alive["b"].tolist() == [[False, True]]
        and alive.rescued == {}
    )
    three_alike = {name: torch.full((2, 2), float(place)) for place, name in enumerate("abc")}
    starved = select(three_alike, 0.25)  # 3 weights, and two layers and two classes need 4
    assert starved["c"].sum() == 3 and starved.rescued == {} and not all_alive(starved, "c")


def test_a_layer_that_an_earlier_level_has_emptied_is_not_brought_back():
    within = MaskSet({"a": torch.tensor([[False, False]]), "b": torch.tensor([[True, True]])})
    mask = select({"a": torch.tensor([[5.0, 5.0]]), "b": torch.tensor([[1.0, 2.0]])}, 0.25, within)
    assert mask["b"].tolist() == [[False, True]] and not mask["a"].any()
