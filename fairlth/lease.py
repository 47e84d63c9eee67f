"""Which GPU a process may use where several processes share several: ids are leased by locks on files, one file a slot."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WAIT = 0.5  # seconds between two tries while every slot is taken


def slots(variables: Mapping[str, str]) -> list[str]:
    """The id of each slot, in the order in which slots are filled: every GPU once before any has two.

    Args:
        variables: those of the shell; FAIRLTH_GPUS holds the ids with commas or spaces between them ("0,1"),
            FAIRLTH_GPU_SLOTS how many processes may share each (1). Without FAIRLTH_GPUS there are no slots.

    Raises:
        ValueError: FAIRLTH_GPU_SLOTS is no whole number of at least 1.
    """
    ids, number = variables.get("FAIRLTH_GPUS", "").replace(",", " ").split(), variables.get("FAIRLTH_GPU_SLOTS", "1")
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"FAIRLTH_GPU_SLOTS={number!r} is refused: expected how many processes share a GPU, at least 1.")
    return ids * int(number)


@contextmanager
def gpu(variables: Mapping[str, str], folder: Path | None = None) -> Iterator[str | None]:
    """Holds one slot, waiting for it where all are taken, and yields its id; None, at once, where no GPUs are named.

    A lock ends with the process that holds it, however that ends, so no slot is ever lost.

    Args:
        variables: see `slots`.
        folder: of the lock files, on a disk of this machine; None: the system's temporary folder.
    """
    ids = slots(variables)
    if not ids:
        yield None
        return
    folder = folder or Path(tempfile.gettempdir()) / f"fairlth-gpus-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    number, file = _first_free(ids, folder)
    try:
        yield ids[number]
    finally:
        os.close(file)


def _first_free(ids: list[str], folder: Path) -> tuple[int, int]:
    """The first slot that nobody holds, and its open, locked file."""
    import fcntl  # not on Windows, where nothing asks for it

    while True:
        for number, name in enumerate(ids):
            file = os.open(folder / f"{name}-{ids[:number].count(name)}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return number, file
            except BlockingIOError:
                os.close(file)
        time.sleep(WAIT)
