"""How the commands of the package end: bad input is one sentence on standard error, and never a traceback."""

import sys
from collections.abc import Callable


def ended(action: Callable[[], object]) -> int:
    """Does `action` and returns the exit status: 0, or 2 where it raised ValueError or OSError, whose sentence is printed."""
    try:
        action()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0
