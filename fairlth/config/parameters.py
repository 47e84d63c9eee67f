"""Parameters of notebooks as a shell passes them: `name=value` pairs, true and false."""

import json
from typing import Any

PYTHON = {"True": True, "False": False, "None": None}  # how Python spells what JSON calls otherwise
SPELLED = {"true": True, "True": True, "false": False, "False": False}


def parse(pairs: list[str]) -> dict[str, Any]:
    """Reads `name=value` pairs, such as `density=0.05`, `train=False`, `seeds=[0, 1]`.

    A value is read as JSON or as one of Python's True, False and None; anything else is a string.

    Raises:
        ValueError: a pair has no name or no `=`, or a name stands twice.
    """
    parameters: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"{pair!r} is not a parameter: write name=value.")
        if name in parameters:
            raise ValueError(f"{name!r} is given twice: give it once.")
        parameters[name] = _value(text)
    return parameters


def _value(text: str) -> Any:
    if text in PYTHON:
        return PYTHON[text]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def truth(name: str, value: Any) -> bool:
    """The value of a parameter that is true or false, which `papermill -p` passes as a string.

    Args:
        name: of the parameter, for the message.
        value: True, False or one of the strings "true", "True", "false", "False".

    Raises:
        ValueError: it is anything else.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in SPELLED:
        return SPELLED[value]
    raise ValueError(f"{name}={value!r} is refused: expected true or false.")
