import hashlib
import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from fairlth import figures
from fairlth.config import paths
from fairlth.figures import style
from fairlth.methods import METHODS


@pytest.fixture
def ax():
    return plt.subplots(figsize=(4, 3))[1]


def boxes(ax):
    return [Text.get_window_extent(text) for text in ax.texts]


def leaders(ax):
    return [patch for patch in ax.patches if patch.get_gid() == style.LEADER]


def crowd(ax, n=6):
    """Names of points that stand close to each other."""
    for place in range(n):
        at = (np.cos(place) / 5, np.sin(place) / 5)
        ax.plot(*at, "o")
        figures.name(ax, f"name of {place}", at, f"C{place}")
    ax.set(xlim=(-1, 1), ylim=(-1, 1))


def test_every_method_has_its_own_marker_and_name_and_its_familys_colour():
    assert set(figures.LOOKS) == set(METHODS) | {"lth_long"}
    for number, own in (
        (len(figures.LOOKS), {look.name for look in figures.LOOKS.values()}),
        (len(figures.LOOKS), {look.marker for look in figures.LOOKS.values()}),
        (7, {look.colour for look in figures.LOOKS.values()}),
    ):  # no reader tells more apart
        assert len(own) == number
    assert figures.LOOKS["lth_long"][:2] == (
        "learning-rate rewinding, long",
        figures.COLOURS["lth_rate"],
    )
    assert (figures.NAMES["lth"], figures.COLOURS["lth"]) == figures.LOOKS["lth"][:2]


def test_names_are_moved_apart_and_off_markers_and_stay_within_the_axes(ax):
    crowd(ax)
    ax.figure.draw_without_rendering()
    names = list(ax.texts)
    assert style.collisions(ax, names) >= 6  # each lies on its own marker
    figures.place_names(ax.figure)
    assert style.collisions(ax, names) == 0
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes(ax), 2))
    for box in boxes(ax):
        assert ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1
        assert ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1
    colours = {text.get_color() for text in names}
    assert {line.patchA.get_color() for line in leaders(ax)} <= colours


CROWDED = {  # CWV × 10⁴ and accuracy (%) of a task on which all methods are alike
    "dense": (8.76, 87.71), "random": (9.32, 83.0), "magnitude": (7.53, 87.31), "lth": (8.05, 87.51),
    "lth_rate": (9.11, 88.1), "lth_bias": (8.26, 87.51), "safecompress": (9.54, 85.82),
    "fairscratch": (10.54, 82.92), "fairscratch_train": (10.42, 85.51), "fairgrape": (9.76, 86.19),
    "pw_loss": (8.88, 86.61), "constrained": (8.32, 87.4), "shuffled": (7.38, 87.42), "ballot": (7.92, 88.14),
}  # fmt: skip


def test_fourteen_methods_that_are_nearly_alike_are_told_apart():
    ax = plt.subplots(figsize=(6.4, 4.2))[1]
    for method, at in CROWDED.items():
        ax.plot(*at, **style.look(method))
        figures.name(ax, figures.NAMES[method], at, figures.COLOURS[method])
    ax.set(xlim=(0, 12.65), ylim=(81.9, 89.2))
    figures.place_names(ax.figure)
    assert style.collisions(ax, list(ax.texts)) == 0


def test_a_name_at_the_edge_stays_within_the_axes_and_beside_its_marker(ax):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.plot(0.95, 0.5, "o")
    figures.name(ax, "a name that is long", (0.95, 0.5), "#000000")
    figures.place_names(ax.figure)
    [box] = boxes(ax)
    assert box.x1 <= ax.bbox.x1 and not box.contains(*ax.transData.transform((0.95, 0.5)))


def test_the_first_push_without_collisions_is_taken_or_else_the_best(ax, monkeypatch):
    crowd(ax, 2)
    taken = []
    monkeypatch.setattr(style, "_push_apart", lambda ax, names, push: taken.append(push))
    found = iter([3, 0])
    monkeypatch.setattr(style, "collisions", lambda ax, names: next(found))
    figures.place_names(ax.figure)
    assert taken == style.PUSHES[:2]
    taken.clear()
    found = iter([3, 1, 2, 4, 5])
    figures.place_names(ax.figure)
    assert taken == [*style.PUSHES, style.PUSHES[1]]


def test_placing_names_again_changes_nothing(ax):
    crowd(ax)
    figures.place_names(ax.figure)
    before = np.array([text.get_position() for text in ax.texts])
    lines = len(leaders(ax))
    figures.place_names(ax.figure)
    after = np.array([text.get_position() for text in ax.texts])
    assert np.abs(after - before).max() < 1e-12 and len(leaders(ax)) == lines


def test_a_figure_is_saved_in_another_folder_under_its_whole_name(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    figure = plt.figure()
    found = figures.save(figure, "run_d0.1_s0.40_deploy", "smoke", tmp_path / "runs")
    plt.close(figure)
    assert found == "runs/run_d0.1_s0.40_deploy.png"
    names = sorted(path.name for path in tmp_path.rglob("*.*"))
    assert names == ["run_d0.1_s0.40_deploy.pdf", "run_d0.1_s0.40_deploy.png"]


def test_a_saved_figure_has_the_same_bytes_again(tmp_path, monkeypatch, summary):
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paths, "HOME", tmp_path)
    hashes = []
    for seed in range(2):
        np.random.seed(seed)  # noqa: NPY002  (places must not depend on it)
        figure = figures.panels(summary, figures.tradeoff)
        crowd(figure.axes[0], 9)
        assert figures.save(figure, "10_test", "smoke") == "figures/smoke/10_test.png"
        path = tmp_path / "figures/smoke/10_test"
        files = [path.with_suffix(ending).read_bytes() for ending in (".png", ".pdf")]
        hashes.append([hashlib.sha256(content).hexdigest() for content in files])
        assert len(set(files)) == 2 and files[0].startswith(b"\x89PNG")
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("$a$ | <b> _c", "$a$ | <b> _c"),
        ("日本", r"\u65e5\u672c"),
        ("\U0001f9d1 é", r"\U0001f9d1 é"),
        ("two\nlines\t", "two\nlines" + r"\t"),
    ],
)
def test_texts_are_drawn_as_they_are_and_what_has_no_glyph_as_an_escape(ax, text, drawn):
    figures.titled(ax, text, text)
    figures.name(ax, text, (0.5, 0.5), "#000000")
    assert figures.legible(text) == drawn
    assert ax.get_title(loc="left") == drawn and [note.get_text() for note in ax.texts] == [
        drawn,
        drawn,
    ]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        ax.figure.draw_without_rendering()
    assert not found


def test_no_text_is_a_formula(ax):
    figures.titled(ax, "$\\frac{1$ and $5", "$\\nonsense$")
    ax.set_xticks([0], ["$\\also{$"])
    ax.figure.draw_without_rendering()  # a formula that is none is an error


def test_an_axis_of_doublings_leaves_out_what_has_no_logarithm(ax):
    style.doublings(ax.xaxis, [0.0, np.nan, np.inf, 0.5, 4.0])
    assert ax.get_xlim() == pytest.approx((1 / 3, 6))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1/2", "1", "2", "4"]
    style.doublings(ax.xaxis, [1 / 2000, 20.0])
    told = [tick.get_text() for tick in ax.get_xticklabels()]
    assert told == ["1/1024", "1/256", "1/64", "1/16", "1/4", "1", "4", "16"]  # not on each other
    style.doublings(ax.yaxis, [np.nan])
    assert ax.get_ylim() == pytest.approx((1 / 1.5, 1.5))


def test_whiskers_reach_from_the_mean_to_both_ends_and_are_0_without_an_interval():
    assert style.whiskers([1, 2], [0.5, np.nan], [3, np.nan]).tolist() == [[0.5, 0], [2, 0]]
    assert style.whiskers(1, 0.5, 3).tolist() == [[0.5], [2]]
