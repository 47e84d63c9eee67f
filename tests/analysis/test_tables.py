import pandas as pd

from fairlth.analysis import tables

ROWS = pd.DataFrame(
    {
        "dataset": ["d", "d", "e"],
        "target": "label",
        "group_by": "class",
        "model": "m",
        "method": ["lth", "ballot", "lth"],
        "density": [0.05, 0.05, 0.02],
        "verdict": "better",
        "n": [5, 5, 3],
    }
)


def test_one_table_per_task_with_what_does_not_vary_in_its_caption():
    shown = tables.by_task(ROWS)
    assert [caption for caption, _ in shown.parts] == [
        "d by class, m, density 0.05, n 5",
        "e by class, m",
    ]
    assert [list(frame) for _, frame in shown.parts] == [
        ["method", "verdict"],  # a verdict is a result: it stays in the table
        ["method", "density", "verdict", "n"],
    ]
    assert repr(shown).splitlines()[:3] == [
        "d by class, m, density 0.05, n 5",
        "method verdict",
        "   lth  better",
    ]


def test_a_long_table_is_not_cut_and_its_cells_do_not_wrap():
    many = pd.DataFrame(
        {"seed": range(300), "text": ["76.1 ± 0.3"] * 300, "value": [float("nan")] * 300}
    )
    page = tables.shown(many, "all seeds")._repr_html_()
    assert (
        page.count("<tr") == 301 and page.count("white-space: nowrap") == 900 and "..." not in page
    )
    assert "<strong>all seeds</strong>" in page and page.count("–</td>") == 300
    assert len(repr(tables.shown(many)).splitlines()) == 301


def test_rows_over_all_have_a_table_of_their_own():
    rows = pd.DataFrame({"task": ["all", "d"], "rival": ["lth", "lth"]})
    assert [caption for caption, _ in tables.by_task(rows).parts] == ["over all tasks", "d"]
