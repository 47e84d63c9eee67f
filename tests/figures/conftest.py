"""Tables that several tests of the figures draw."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def summary():
    """Two methods and the dense net at two densities, as `summaries.summary` gives them."""
    rows = []
    for method, density in (
        ("dense", 1.0),
        ("lth", 0.05),
        ("lth", 0.02),
        ("ballot", 0.05),
        ("ballot", 0.02),
    ):
        row = {
            "dataset": "digits",
            "target": "label",
            "group_by": "class",
            "model": "mlp",
            "method": method,
            "density": density,
            "n": 3,
            "cwv_floor": 0.0002,
        }
        for name, mean in (("accuracy", 0.8), ("cwv", 0.004 * density), ("mcd", 0.2)):
            row |= {name: mean, f"{name}_low": mean * 0.9, f"{name}_high": mean * 1.1}
        rows.append(row)
    return pd.DataFrame(rows)
