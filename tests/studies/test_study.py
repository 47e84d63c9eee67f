import re

from fairlth.config import paths
from studies import study_curves

TEXT = (paths.ROOT / "studies" / "study.md").read_text()


def test_ratios_of_the_prose_stand_in_the_tables():
    rows = [line for line in TEXT.splitlines() if line.startswith("|")]
    prose = " ".join(line for line in TEXT.splitlines() if not line.startswith("|"))
    told = re.findall(r"\d\.\d\d \(\d\.\d\d–\d\.\d\d\)", prose)
    assert len(told) >= 8
    for ratio in told:
        assert any(f"/ {ratio} |" in row for row in rows), ratio


def test_tables_of_other_seeds_have_no_panel_and_the_first_table_counts():
    found = study_curves.tables()
    assert [*found][:2] == ["cifar10, density 0.02", "cifar10, density 0.05"]
    assert not any("seeds" in title for title in found)
    accuracies = [
        accuracy for _, accuracy in found["cifar10, density 0.02"]["fine1-magnitude_plain"]
    ]
    assert accuracies == [60.5, 59.6, 58.2]  # not 60.2 and 59.0 of the later table
