import numpy as np
import pandas as pd
import pytest

from fairlth.analysis import records, summaries
from fairlth.config import paths
from fairlth.metrics import Interval, mean_interval

PLACE = ["dataset", "density", "seed"]


def test_the_cheaper_ballot_is_as_good_on_validation_images(monkeypatch):
    """Paired by task, density and seed; a seed's four settings are averaged first."""
    monkeypatch.setattr(paths, "TABLES", paths.ROOT / "data" / "results")
    new = pd.read_csv(paths.ROOT / "studies" / "ballot_again.csv")
    old = records.load("small")
    old = old[old["method"].eq("ballot") & old["pressure"].isna() & old["group_by"].eq("class")]
    now = summaries.per_run(new, "val").set_index(PLACE)
    then = summaries.per_run(old, "val").set_index(PLACE).loc[now.index]
    points = ((now["accuracy"] - then["accuracy"]) * 100).groupby("seed").mean()
    ratios = mean_interval(np.log(now["cwv"] / then["cwv"]).groupby("seed").mean())
    ratio = Interval(np.exp(ratios.mean), np.exp(ratios.low), np.exp(ratios.high), ratios.n)
    assert len(now) == 2 * 2 * 5 and ratios.n == 5
    assert now["spent"].groupby("density").first()[0.05] == pytest.approx(4.68, abs=0.005)
    told = " ".join((paths.ROOT / "ERRATA.md").read_text().split())
    assert f"accuracy {mean_interval(points):.1f} points, CWV {ratio:.2f} times" in told
