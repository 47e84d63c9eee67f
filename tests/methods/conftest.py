import pytest

from fairlth import data, methods


@pytest.fixture(scope="module")
def made_once():
    """A function from a run to its ticket, which trains each run once."""
    made = {}

    def make(run):
        if run not in made:
            made[run] = methods.make(run, data.load(run))
        return made[run]

    return make
