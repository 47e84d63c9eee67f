import pandas as pd
import pytest

from fairlth.analysis import audit
from fairlth.config import paths
from fairlth.workflow import audits, experiments


def test_the_audit_of_breadth_has_all_tasks_and_the_sparser_setting_beside_them():
    found = audits.settings("breadth")
    assert len(found) == 15 + 1
    assert [{run.density for run in runs} for runs in found] == [{1.0, 0.05}] * 15 + [{1.0, 0.02}]
    assert {run.dataset for run in found[-1]} == {"fer2013"}
    assert all(len(runs) == 5 * 3 for runs in found)


def test_the_audit_of_small_takes_the_lowest_density_and_the_seeds_of_the_sweep():
    runs = [run for setting in audits.settings("small") for run in setting]
    assert {run.density for run in runs} == {1.0, 0.02} and {run.seed for run in runs} == {0, 1, 2}
    assert {run.label for run in runs} == {"label", "race", "gender"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def places(home, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", home / "runs")
    monkeypatch.setattr(paths, "TABLES", home / "results")
    monkeypatch.setattr(paths, "COMMITTED_TABLES", home / "none")


def test_what_was_found_is_written_and_read_again(places, monkeypatch):
    [by_class, _] = audits.settings("smoke")
    monkeypatch.setattr(audits, "settings", lambda preset: [by_class])
    with pytest.raises(
        ValueError, match=r"^data/results/smoke\.audit\.csv is not there: use train=True\."
    ):
        audits.table("smoke", train="False")
    made = audits.table("smoke", train=True)
    assert len(made) == 4 * 3 * 11 and set(made["method"]) == set(audits.AUDITED) - {"dense"}
    again = audits.table("smoke", train=False)
    pd.testing.assert_frame_equal(again, made.assign(group=made["group"].astype(str)))
    right = made[(made["group"] == audit.EVERYONE) & (made["method"] == "lth")]["right"]
    dense = experiments.run_or_load(by_class[:3])
    assert [*right] == [int(record.split("test").correct.sum()) for record in dense]
