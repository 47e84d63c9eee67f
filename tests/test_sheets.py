import pandas as pd
import pytest

from fairlth import config, sheets


def test_the_headline_counts_verdicts():
    claims = pd.DataFrame({"claim": ["CWV lower than a", "CWV lower than b", "CWV lower than c (control)"],
                           "verdict": ["reproduced", "not reproduced", "better"]})  # fmt: skip
    duels = pd.DataFrame({"rival": ["lth", "lth", "lth_rate"], "verdict": ["better", "open", "worse"]})
    assert sheets.headline(claims, duels).splitlines() == [
        "Claims of the paper: 1 reproduced, 1 not reproduced.",
        "At equal accuracy against lth: better in 1 of 2 settings, open in 1, worse in 0.",
        "At equal accuracy against lth_rate: better in 0 of 1 settings, open in 0, worse in 1.",
    ]


@pytest.mark.parametrize("path", sorted((config.ROOT / "data" / "results").glob("*.md")), ids=lambda path: path.stem)
def test_committed_pages_are_what_their_tables_say(path):
    assert path.read_text() == sheets.page(path.stem)


def test_every_committed_table_has_its_page():
    there = {path.stem for path in (config.ROOT / "data" / "results").glob("*.md")}
    assert there >= {"small", "confirm"}
