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


COMMITTED = sorted(path for path in (config.ROOT / "data" / "results").glob("*.csv") if path.stem != "smoke")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_page_of_a_committed_table_is_what_the_table_says(path, monkeypatch):
    monkeypatch.setattr(config, "TABLES", path.parent)
    assert path.with_suffix(".md").read_text() == sheets.page(path.stem)


def test_a_page_follows_its_table(tmp_path, monkeypatch):
    frame = pd.read_csv(COMMITTED[0], dtype={"class": str, "group": str}, keep_default_na=False, na_values=[""])
    monkeypatch.setattr(config, "TABLES", tmp_path)
    frame[frame["seed"] != 0].to_csv(tmp_path / f"{COMMITTED[0].stem}.csv", index=False)
    assert sheets.write(COMMITTED[0].stem).read_text() != COMMITTED[0].with_suffix(".md").read_text()
    with pytest.raises(ValueError, match="other.csv is not there"):
        sheets.write("other")
