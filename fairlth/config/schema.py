"""Strict records, and exact shares of counts."""

import math
import re
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

# of your data set or model, for every file name
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class Strict(BaseModel):
    """A frozen record: refuses unknown names, converts nothing (`"1e-3"` is not a number)."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(_sentence(type(self), error)) from None


def _sentence(kind: type[BaseModel], error: ValidationError) -> str:
    """Says in one sentence what is wrong with which value and what was expected."""
    faults = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields)
            faults.append(f"{name!r} is not one of its names ({known})")
        elif fault["type"] == "missing":
            faults.append(f"{name} is missing")
        elif not name:
            faults.append(message)
        else:
            faults.append(f"{name}={fault['input']!r} is refused: {message}")
    return f"{kind.__name__}: " + "; ".join(faults).replace("\n", " ") + "."


def check_name(name: str) -> None:
    """Raises ValueError if a data set or a model cannot be called so."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name for files: use letters, digits, _ and -, at most 40."
        )


def exact(share: float) -> Fraction:
    """A number as it is written in decimals.

    0.29 is 29/100 and not the nearest float, of which 100 make less than 29.
    """
    return Fraction(repr(float(share)))


def share_of(share: float, n: int) -> int:
    """floor(share * n) by exact arithmetic: 0.29 of 100 is 29, where floats give 28."""
    return math.floor(exact(share) * n)
