import pytest

from fairlth import models


@pytest.fixture
def own():
    """After the test no model that it added."""
    before = dict(models.MODELS)
    yield
    models.MODELS.clear()
    models.MODELS.update(before)
    models.OWN.clear()
