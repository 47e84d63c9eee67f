import matplotlib.pyplot as plt
import pandas as pd
import pytest

from fairlth import figures
from fairlth.analysis import records, report, summaries
from fairlth.config import paths


def test_the_headline_counts_verdicts():
    claims = pd.DataFrame({"claim": ["a", "b", "c (control)"], "paper": [0.3, 0.4, float("nan")],
                           "verdict": ["reproduced", "not reproduced", "better"]})  # fmt: skip
    duels = pd.DataFrame(
        [
            ("lth", "all", 0.5, 0.4, 0.6, 5, "better"),
            ("lth", "d", 0.3, 0.2, 0.4, 5, "better"),
            ("lth", "e", 1, 0.5, 2, 5, "open"),
        ],
        columns=["rival", "dataset", "ratio", "low", "high", "n", "verdict"],
    )
    assert report.headline(claims, duels).splitlines() == [
        "Claims of the paper: 1 reproduced, 1 not reproduced.",
        "At equal accuracy Ballot's CWV is 0.50 (0.40 to 0.60) times lth's, n = 5 seeds: better; "
        "better in 1 of 2 settings, open in 1, worse in 0.",
    ]


COMMITTED = sorted(  # tables that are whole have a page
    path.with_suffix(".csv")
    for path in (paths.ROOT / "data" / "results").glob("*.md")
    if path.stem not in ("smoke", "README")
)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_page_of_a_committed_table_is_what_the_table_says(path, monkeypatch):
    monkeypatch.setattr(paths, "TABLES", path.parent)
    assert path.with_suffix(".md").read_text() == report.page(path.stem)


def test_a_page_follows_its_table(tmp_path, monkeypatch):
    frame = pd.read_csv(
        COMMITTED[0], dtype={"class": str, "group": str}, keep_default_na=False, na_values=[""]
    )
    monkeypatch.setattr(paths, "TABLES", tmp_path)
    frame[frame["seed"] != 0].to_csv(tmp_path / f"{COMMITTED[0].stem}.csv", index=False)
    assert (
        report.write(COMMITTED[0].stem).read_text() != COMMITTED[0].with_suffix(".md").read_text()
    )
    with pytest.raises(ValueError, match="other.csv is not there"):
        report.write("other")


@pytest.fixture(scope="module")
def small():
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(paths, "TABLES", paths.ROOT / "data" / "results")
    yield records.load("small")
    monkeypatch.undo()


@pytest.fixture(scope="module")
def found(small):
    return report.findings(small, "small")


def test_claims_are_over_all_tasks_and_the_subset_by_class_is_named(found):
    shown = report.claims_table(*found)
    assert list(shown) == [
        *("claim", "paper", "all tasks", "settings", "n", "verdict"),
        *("by class only", "n, by class", "verdict, by class"),
    ]
    first = shown.iloc[0]
    assert (first["all tasks"], first["by class only"]) == (
        "55.2% (44.3% to 66.2%)",
        "81.9% (79.1% to 84.8%)",
    )
    assert first["settings"] == 6
    assert "cifar10 by class, convnet; utkface race by class, convnet" in report.subset(
        found[0].runs
    )


def test_the_first_lines_are_the_premise_and_the_even_fight(found):
    lines = found[0].in_short().splitlines()
    assert [line.split(":")[0] for line in lines[:5]] == [
        *("Pruning alone, lth", "Pruning alone, lth_rate", "Pruning alone, magnitude"),
        "Ballot is not shown to be fairer at equal accuracy and epochs",
        "Claims of the paper",
    ]
    printed = report.text(*found, "small")
    assert printed.startswith(lines[0]) and "divided by the rival's at equal accuracy\n" in printed


def test_smoke_says_first_that_it_is_no_evidence(found, small, monkeypatch):
    """Not after the verdicts, which a reader takes for results."""
    meaning = "Preset smoke proves only that everything runs"
    assert report.text(*found, "smoke").startswith(meaning)
    assert report.in_short(found[0], "small") == found[0].in_short()
    monkeypatch.setattr(records, "load", lambda preset: small)
    monkeypatch.setattr(report, "findings", lambda table, preset: found)
    page = report.page("smoke")
    assert page.index("## In short") < page.index(meaning) < page.index("Claims of the paper")


def test_the_page_does_not_depend_on_the_order_of_rows(small, monkeypatch):
    few = small[small["seed"].lt(2)]
    monkeypatch.setattr(records, "load", lambda preset: few)
    first = report.page("small")
    monkeypatch.setattr(records, "load", lambda preset: few.sample(frac=1, random_state=0))
    assert report.page("small") == first


def test_chance_is_told_as_it_is_drawn(small):
    rows = summaries.summary(summaries.per_run(small, names=summaries.METRICS))
    own = rows[rows["group_by"].eq("race") & rows["density"].isin([0.02, 1.0])]
    [drawn] = figures.comparison(own, "cwv", plt.subplots()[1]).texts
    [page] = [part for part in report.tasks(own) if "By chance alone" in part]
    assert drawn.get_text() == " chance: 0.8"  # the mean over methods; their median is 0.7
    assert "CWV x1e4 0.8," in page


def test_a_method_that_is_unknown_here_comes_last(small):
    """A table may be of a later version."""
    frame = small.assign(method=small["method"].replace("magnitude", "another"))
    rows = summaries.summary(summaries.per_run(frame, names=summaries.METRICS))
    page = "\n".join(report.tasks(rows))
    tables = [part for part in page.split("## ") if "another" in part]
    assert tables
    for part in tables:
        assert part.rstrip().splitlines()[-1].startswith("| another")
