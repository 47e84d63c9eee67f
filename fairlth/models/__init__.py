"""The networks by name, and your own."""

from fairlth.masks import prunable
from fairlth.models.checks import check_fits
from fairlth.models.networks import Residual
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

__all__ = [
    "MODELS",
    "OWN",
    "Build",
    "Residual",
    "add",
    "build",
    "check",
    "check_fits",
    "fingerprint",
    "given_as_trained",
    "prunable",
]
