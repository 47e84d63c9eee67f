import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.transforms import Bbox

from fairlth import labels


@pytest.fixture
def ax():
    yield plt.subplots(figsize=(4, 3))[1]
    plt.close("all")


def boxes(ax):
    ax.figure.draw_without_rendering()
    return [labels._words(text) for text in ax.texts]


def test_values_far_enough_apart_stay_and_near_ones_move_by_the_least():
    assert labels.spread([3, 0, 1], 0.5) == [3, 0, 1]
    assert labels.spread([0, 0, 10], 1) == pytest.approx([-0.5, 0.5, 10])
    assert labels.spread([], 1) == []


@pytest.mark.parametrize("label", [labels.name, labels.name_in_margin])
def test_names_of_near_points_are_moved_apart(ax, label):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    for place in range(4):
        label(ax, f"name {place}", (0.5, 0.5 + place / 1000), "#000000")
    assert Bbox.intersection(*boxes(ax)[:2]) is not None
    labels.untangle(ax.figure)
    moved = boxes(ax)
    for place, box in enumerate(moved):
        for other in moved[place + 1 :]:
            assert labels._hidden(box.extents[None], other.extents[None])[0] < 0.05 * box.width * box.height


def test_a_name_hides_no_marker_and_stays_within_the_axes(ax):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    labels.name(ax, "a name that is long", (0.95, 0.5), "#000000")
    labels.untangle(ax.figure)
    [box] = boxes(ax)
    assert box.x1 <= ax.bbox.x1 and not box.contains(*ax.transData.transform((0.95, 0.5)))


def test_untangling_again_changes_nothing(ax):
    for place in range(6):
        labels.name(ax, f"name {place}", (np.cos(place) / 9, np.sin(place) / 9), "#000000")
    labels.untangle(ax.figure)
    before = [text.get_position() for text in ax.texts]
    labels.untangle(ax.figure)
    assert [text.get_position() for text in ax.texts] == before
