"""What the tests of tickets and cards share."""

from types import SimpleNamespace

import pytest

from fairlth import config, data
from fairlth.workflow import experiments


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A trained run with its record, its data, and where its ticket is."""
    run = config.Run(
        dataset="digits", model="mlp", method="magnitude", density=0.05, seed=0, preset="smoke"
    )
    runs = tmp_path_factory.mktemp("tickets")
    record = experiments.run(run, runs)
    path = config.ticket_path(run, runs)
    return SimpleNamespace(run=run, record=record, path=path, data=data.load(run))
