"""Where things are, and how files are written: no other code knows environment variables."""

import errno
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PACKAGE = Path(__file__).resolve().parent.parent
HAS_PROJECT = (PACKAGE.parent / "pyproject.toml").exists()
ROOT = PACKAGE.parent if HAS_PROJECT else Path.cwd()
OF_GPUS = ("FAIRLTH_GPUS", "FAIRLTH_GPU_SLOTS")  # variables that `workflow.locks` reads


class Environment(BaseSettings):
    """Environment variables, each with FAIRLTH_ before its name.

    Relative paths count from the project's root. An empty variable is one that is not set.
    """

    model_config = SettingsConfigDict(env_prefix="FAIRLTH_", env_ignore_empty=True, frozen=True)

    data: Path = Path("data/sets")  # folders of data sets
    home: Path = Path(".")  # of all results
    presets: Path | None = None  # a JSON file of your own presets
    threads: Annotated[int, Field(ge=1, le=1024)] = 1  # per run: a grid fans out over the cores
    deterministic: Literal["0", "1"] = "0"  # 1: only operations that give the same bits twice
    code: str | None = None  # fingerprint of the code that a workflow began with


def read_environment() -> Environment:
    """The environment variables; ValueError names one that is refused and what was expected."""
    known = [*(f"FAIRLTH_{name}".upper() for name in Environment.model_fields), *OF_GPUS]
    for name in os.environ:
        if name.upper().startswith("FAIRLTH_") and name.upper() not in known:
            raise ValueError(f"{name} is no variable of fairlth: choose of {', '.join(known)}.")
    try:
        return Environment()
    except ValidationError as error:
        fault = error.errors()[0]
        name = f"FAIRLTH_{fault['loc'][0]}".upper()
        raise ValueError(f"{name}={fault['input']!r} is refused: {fault['msg']}.") from None


def from_root(path: Path) -> Path:
    """A path of an environment variable, without `..`: `~` is your home, what is relative counts
    from the project's root. ValueError where it is the home of nobody.
    """
    try:
        return Path(os.path.abspath(ROOT / path.expanduser()))
    except RuntimeError:
        raise ValueError(f"{path} is in the home of nobody here: give the whole path.") from None


ENVIRONMENT = read_environment()
DATA = from_root(ENVIRONMENT.data)
HOME = from_root(ENVIRONMENT.home)
RUNS = HOME / "runs"
TABLES = HOME / "data" / "results"
COMMITTED_TABLES = ROOT / "data" / "results"
FIGURES = HOME / "figures"
CACHE = ROOT / "data" / "cache"
THREADS = ENVIRONMENT.threads
GRID_CODE = ENVIRONMENT.code
DETERMINISTIC = ENVIRONMENT.deterministic == "1"
if DETERMINISTIC:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA's matrix products need it

CURES = {  # of errors in writing
    errno.ENAMETOOLONG: "choose shorter names",
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room on its disk",
}
DECIDES = (  # modules whose code decides a run's outcome
    *("config", "data", "models", "methods"),
    *("ballot", "lottery", "conflict", "selection", "retraining", "bias_shift"),
    *("metrics", "masks", "training", "images"),
)


def code_fingerprint(modules: Iterable[str]) -> str:
    """Changes when the code of one of these modules of the package does."""
    digest = hashlib.sha256()
    for module in modules:
        path = PACKAGE / module
        files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def writer() -> str:
    """Who writes: this process on this machine, as the names of temporary files have it."""
    return f"{socket.gethostname()}-{os.getpid()}"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all; OSError in one sentence if it cannot.

    The temporary file beside it is named `.<name>.<writer>.<random>`; what a killed writer leaves
    is swept by `grid.sweep`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.{writer()}.", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.close()
                temporary.chmod(0o644)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        cure = CURES.get(error.errno or 0, "give it a folder with room and access")
        raise OSError(f"{path} could not be written ({error.strerror}): {cure}.") from error


def free_name(path: Path) -> Path:
    """The path itself, or with .2, .3, ... after it, where nothing is yet."""
    free = path
    number = 1
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def check_writable(path: Path) -> None:
    """Raises OSError now if the file cannot be written later: no access, or no free megabyte."""
    probe = path.parent / f".{path.name}.{writer()}.probe"
    write_atomically(probe, bytes(1 << 20))
    probe.unlink()
