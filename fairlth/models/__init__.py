"""The networks by name, and your own."""

from fairlth.masks import prunable
from fairlth.models.checks import check_fits
from fairlth.models.own import add
from fairlth.models.registry import (
    MODELS,
    OWN,
    Build,
    build,
    check,
    fingerprint,
    given_as_trained,
)
