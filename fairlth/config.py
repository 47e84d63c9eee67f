"""Runs, presets and directories: the only file that knows paths."""

import hashlib
import json
import math
import os
import re
import socket
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else Path.cwd()
DATA = ROOT / os.environ.get("FAIRLTH_DATA", "data/sets")  # a relative path counts from the project's root
HOME = ROOT / os.environ.get("FAIRLTH_HOME", ".")  # of all results
RUNS = HOME / "runs"
TABLES = HOME / "data" / "results"
FIGURES = HOME / "figures"
CACHE = ROOT / "data" / "cache"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # of a data set or model of your own, safe in every file name
TASK = ["dataset", "target", "group_by", "model"]  # columns that name what is learned, by what, for whom
THREADS = int(os.environ.get("FAIRLTH_THREADS", "1"))  # per run: a grid fans out over the cores, and one thread keeps bits
if (_asked := os.environ.get("FAIRLTH_DETERMINISTIC", "0")) not in ("0", "1"):
    raise ValueError(f"FAIRLTH_DETERMINISTIC={_asked!r} is refused: expected 0 or 1.")
if DETERMINISTIC := _asked == "1":  # only operations that give the same bits twice, on a GPU, too
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA's matrix products need for it


class Strict(BaseModel):
    """A frozen record that refuses unknown names and converts nothing (`"1e-3"` is not a number)."""

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
        if fault["type"] == "extra_forbidden":
            faults.append(f"{name!r} is not one of its names ({', '.join(kind.model_fields)})")
        elif fault["type"] == "missing":
            faults.append(f"{name} is missing")
        elif not name:
            faults.append(fault["msg"].removeprefix("Value error, "))
        else:
            faults.append(f"{name}={fault['input']!r} is refused: {fault['msg'].removeprefix('Value error, ')}")
    return f"{kind.__name__}: " + "; ".join(faults).replace("\n", " ") + "."


class Schedule(Strict):
    """How one training goes: SGD or AdamW, linear warm-up, then a cosine down to zero."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 128
    lr: Annotated[float, Field(gt=0)] = 0.1  # at the top of the warm-up
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    warmup: Annotated[float, Field(ge=0)] = 1.0  # epochs
    optimizer: Literal["sgd", "adamw"] = "sgd"
    shift: Annotated[int, Field(ge=0)] = 0  # pixels that a training image is moved at most, each way
    mirror: bool = True  # half of the training images, where the data set allows it
    precision: Literal["float32", "bfloat16"] = "float32"  # of products while training, where the device has it
    compile: bool = False  # the network by torch.compile: a minute at the start, worth it for long trainings


class Task(Strict):
    """What is learned and over which groups fairness is measured; None takes the data set's default."""

    dataset: str
    model: str
    target: str | None = None
    group_by: str | None = None


class Preset(Strict):
    """The scale of an experiment: its tasks, how much data, how long, how many repetitions."""

    tasks: tuple[Task, ...]
    group_tasks: tuple[Task, ...] = ()  # of 20_groups
    densities: tuple[float, ...]
    seeds: tuple[int, ...]
    schedule: Schedule
    n_train: int | None = None  # training images, None: all that validation leaves
    n_val: int = 2000  # validation images where the source has no validation split
    image_size: int = 64  # pixels a side at most
    rewind_epochs: Annotated[int, Field(ge=0)] = 1  # theta_k is the state after k epochs
    keep_per_level: Annotated[float, Field(gt=0, lt=1)] = 0.36  # share of the weights that a level of pruning keeps
    epsilon: Annotated[float, Field(ge=0)] = 0.05  # accuracy a fair ticket may lose against the dense net, validation
    sparsities: tuple[float, ...] = (0.2, 0.1, 0.05, 0.02, 0.01)  # densities of the sparsity sweep
    sweep_seeds: tuple[int, ...] = (0, 1, 2)  # seeds of 12_sparsity, which has many runs a seed
    in_process: bool = False  # notebooks train their grid themselves: importing costs more than training
    downloads: bool = True  # may fetch a data set that is not on disk
    epochs: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)  # data set -> epochs other than the schedule's

    @model_validator(mode="after")
    def _rewinds_before_the_end(self) -> "Preset":
        if self.rewind_epochs >= (least := min([self.schedule.epochs, *self.epochs.values()])):
            raise ValueError(f"rewind_epochs={self.rewind_epochs} is refused: expected fewer than the {least} epochs")
        return self

    def at(self, dataset: str) -> "Preset":
        """The preset as one data set has it: with its number of epochs."""
        epochs = self.epochs.get(dataset, self.schedule.epochs)
        return self.model_copy(update={"schedule": self.schedule.model_copy(update={"epochs": epochs})})


SMALL = Preset(
    tasks=(
        Task(dataset="cifar10", model="convnet"),
        Task(dataset="utkface", model="convnet", target="race"),
        Task(dataset="utkface", model="convnet", target="gender", group_by="race"),
    ),
    group_tasks=(
        Task(dataset="utkface", model="convnet", target="gender", group_by="race"),
        Task(dataset="utkface", model="convnet", target="gender", group_by="age_band"),
        Task(dataset="utkface", model="convnet", target="race"),
    ),
    densities=(0.05, 0.02),
    seeds=(0, 1, 2, 3, 4),
    schedule=Schedule(epochs=8, batch_size=64, lr=0.05, precision="bfloat16"),
    n_train=8000,
    n_val=4000,
    image_size=32,
    epsilon=0.08,  # at density 0.02 no ticket of this network comes within 0.05 of the dense net
)
UNTOUCHED = (  # nothing was chosen on these
    Task(dataset="fashion_mnist", model="convnet"),
    Task(dataset="cifar100", model="convnet", target="coarse_label"),
)
DEEPER = (Task(dataset="cifar10", model="resnet20"),)

PRESETS = {
    "smoke": Preset(
        tasks=(Task(dataset="digits", model="mlp"),),
        group_tasks=(Task(dataset="digits", model="mlp", target="odd", group_by="ink"),),
        densities=(0.02,),  # 340 of 17 024 weights: sparse enough for digits to show who pays
        sparsities=(0.1, 0.02),
        seeds=(0, 1, 2),
        schedule=Schedule(epochs=10, batch_size=64),
        n_val=269,
        epsilon=0.2,
        in_process=True,
        downloads=False,
    ),
    "small": SMALL,
    "confirm": SMALL.model_copy(update={"tasks": UNTOUCHED, "group_tasks": ()}),
    "deeper": SMALL.model_copy(update={"tasks": DEEPER, "group_tasks": (), "densities": (0.05,), "seeds": (0, 1, 2)}),
    "paper": Preset(
        tasks=tuple(
            Task(dataset=dataset, model=model, target=target, group_by=group_by)
            for dataset, target, group_by in (
                ("cifar10", None, None),
                ("cifar100", None, None),
                ("tiny_imagenet", None, None),
                ("celeba", "Smiling", "Male"),
                ("utkface", "race", "gender"),
                ("utkface", "race", "age_band"),
            )
            for model in ("resnet18", "vgg16", "mobilenet_v2")
        ),
        group_tasks=(
            Task(dataset="utkface", model="resnet18", target="gender", group_by="race"),
            Task(dataset="utkface", model="resnet18", target="gender", group_by="age_band"),
            Task(dataset="celeba", model="resnet18", target="Smiling", group_by="Male"),
        ),
        densities=(0.2, 0.1, 0.05, 0.02),
        seeds=(0, 1, 2, 3, 4),
        # 160 epochs in batches of 128, crops and mirrored images: Frankle and Carbin, 2019, on CIFAR-10, after He et al., 2016;
        # the cosine is from Loshchilov and Hutter, 2017, the weight decay from DeVries and Taylor, 2017
        schedule=Schedule(epochs=160, batch_size=128, lr=0.1, weight_decay=5e-4, shift=4, precision="bfloat16"),
        epochs={"celeba": 50, "utkface": 50},  # Sagawa et al., 2020 (group DRO); code of Hashemizadeh et al., 2024
        n_val=5000,
        rewind_epochs=2,  # about 1 % of the training, late rewinding of Frankle et al., 2020
        keep_per_level=0.8,  # Frankle and Carbin, 2019
        epsilon=0.02,
    ),
}

LISTS = {  # what decides no single run
    *("tasks", "group_tasks", "densities", "sparsities", "sweep_seeds", "seeds", "epochs", "in_process", "downloads"),
}


def own_presets(path: Path) -> dict[str, Preset]:
    """The user's own presets, from a JSON file: name -> {"like": another preset, fields that differ, of the schedule too}.

    Raises:
        ValueError: the file is not there, not such a file, or has a field that a preset refuses.
    """
    try:
        return {name: _like(**fields) for name, fields in json.loads(path.read_text()).items()}
    except (OSError, TypeError, AttributeError, KeyError, ValueError) as error:
        wrong = f"there is no preset {error} to be like" if isinstance(error, KeyError) else str(error).rstrip(".")
        expected = '{"mine": {"like": "small", "seeds": [0]}}'
        raise ValueError(f"FAIRLTH_PRESETS={path} cannot be used ({wrong}): expected such as {expected}.") from None


def _like(like: str, **fields: Any) -> Preset:
    """A preset with some fields in place of those of another, from JSON values."""
    model = PRESETS[like]
    if "schedule" in fields:
        fields["schedule"] = Schedule(**model.schedule.model_dump() | fields["schedule"])
    if "tasks" in fields:
        fields["tasks"] = [Task(**task) for task in fields["tasks"]]
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Preset(**{name: getattr(model, name) for name in Preset.model_fields} | own)


if os.environ.get("FAIRLTH_PRESETS"):
    PRESETS |= own_presets(ROOT / os.environ["FAIRLTH_PRESETS"])

STUDIES = {  # the methods that each experiment notebook compares
    "10_motivation": ("dense", "random", "magnitude", "lth", "lth_rate", "ballot_select", "ballot_refine", "ballot"),
    "11_comparison": (
        *("dense", "random", "magnitude", "lth", "lth_rate", "lth_bias", "safecompress", "fairscratch"),
        *("fairscratch_train", "fairgrape", "pw_loss", "constrained", "shuffled", "ballot"),
    ),
    "12_sparsity": (
        *("dense", "magnitude", "lth", "lth_rate", "lth_bias", "safecompress", "fairscratch_train"),
        *("fairgrape", "pw_loss", "constrained", "ballot"),
    ),
    "13_ablation": ("lth", "lth_rate", "lth_bias", "ballot_select", "ballot_refine", "shuffled", "ballot"),
    "14_cost": (
        *("dense", "magnitude", "lth", "lth_fine", "lth_rate", "lth_bias", "safecompress", "fairscratch"),
        *("fairscratch_train", "fairgrape", "pw_loss", "constrained", "shuffled", "ballot"),
    ),
    "15_equal_accuracy": (*("dense", "lth", "lth_rate", "lth_bias", "fairgrape", "constrained", "ballot"),),
    "20_groups": ("dense", "magnitude", "lth", "ballot"),
}


class Knob(NamedTuple):
    """A method's pressure: its own value, the highest that it takes, and the other values of its accuracy-fairness curve."""

    default: float
    highest: float = math.inf
    others: tuple[float, ...] = ()


KNOBS = {  # what the pressure is stands with each method
    "lth_bias": Knob(0.5, 1.0, (0.25, 1.0)),
    "safecompress": Knob(1.0, 1.0, (0.0, 0.5)),
    "fairscratch": Knob(1.0),
    "fairscratch_train": Knob(1.0, others=(0.1, 0.3)),
    "pw_loss": Knob(0.5, 1.0, (0.0, 1.0)),
    "constrained": Knob(0.03, others=(0.01, 0.1)),
    "shuffled": Knob(0.05),
    "ballot": Knob(0.05, others=(0.0, 0.1, 0.2)),
    "ballot_refine": Knob(0.05),
}


class Run(Strict):
    """One training with everything that decides its outcome.

    `density` is the fraction of prunable weights kept, `pressure` moves a method along its accuracy-fairness curve (None:
    the method's own default), `target` is the label column, `group_by` the attribute that fairness is over (None: the
    classes themselves). A `model` of None takes the first one of the preset's tasks.
    """

    dataset: str
    model: str
    method: str
    density: Annotated[float, Field(gt=0, le=1)]
    seed: Annotated[int, Field(ge=0)]
    preset: str
    pressure: Annotated[float, Field(ge=0)] | None = None
    target: str | None = None
    group_by: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_model(cls, values: dict[str, Any]) -> dict[str, Any]:
        preset = values.get("preset")
        if values.get("model") is None and isinstance(preset, str) and preset in PRESETS:
            return values | {"model": PRESETS[preset].tasks[0].model}
        return values

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, preset: str) -> str:
        if preset not in PRESETS:
            raise ValueError(f"there is no such preset, choose one of {', '.join(PRESETS)}")
        return preset

    @model_validator(mode="after")
    def _dense_is_dense(self) -> "Run":
        if self.method == "dense" and self.density != 1:
            raise ValueError(f"the dense method keeps every weight, so its density is 1.0 and not {self.density}")
        return self

    @property
    def settings(self) -> Preset:
        """The preset's content, as the run's data set has it."""
        return PRESETS[self.preset].at(self.dataset)

    @property
    def knob(self) -> float:
        """The pressure, or where none is given the method's own; 0 for a method without one."""
        own = KNOBS[self.method].default if self.method in KNOBS else 0.0
        return own if self.pressure is None else self.pressure

    def slug(self) -> str:
        """A file name that a person can read; runs of one preset never share one."""
        parts = [self.dataset, self.model, self.method, f"d{self.density!r}", f"s{self.seed}"]
        for name in ("pressure", "target", "group_by"):
            if (value := getattr(self, name)) is not None:
                parts.append(f"{name.replace('_', '-')}-{value}")
        return "_".join(parts).replace("/", "-")


def check_preset(preset: str) -> None:
    """Raises ValueError if there is no such preset."""
    if preset not in PRESETS:
        raise ValueError(f"preset={preset!r} is refused: choose one of {', '.join(PRESETS)}.")


def check_name(name: str) -> None:
    """Raises ValueError if a data set or a model cannot be called so."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for files: use letters, digits, _ and -, at most 40.")


def grid(
    preset: str,
    methods: Iterable[str],
    densities: tuple[float, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
    pressure: float | None = None,
    tasks: tuple[Task, ...] | None = None,
) -> list[Run]:
    """All runs of a preset for some methods; the dense net, which has one density, once per task and seed.

    Args:
        preset: a key of PRESETS.
        methods: their names.
        densities, seeds, tasks: None: the preset's.
        pressure: of all of them.
    """
    check_preset(preset)
    scale = PRESETS[preset]
    return [
        Run(method=method, density=density, seed=seed, preset=preset, pressure=pressure, **task.model_dump())
        for task in (scale.tasks if tasks is None else tasks)
        for method in methods
        for density in ((1.0,) if method == "dense" else densities or scale.densities)
        for seed in seeds or scale.seeds
    ]


def study(notebook: str, preset: str) -> list[Run]:
    """The runs that an experiment notebook shows.

    12_sparsity goes along densities and pressures; 14_cost and 20_groups have one density, 20_groups tasks of its own.
    """
    check_preset(preset)
    if notebook == "20_groups":
        return grid(preset, STUDIES[notebook], PRESETS[preset].densities[:1], tasks=PRESETS[preset].group_tasks)
    if notebook == "14_cost":
        return grid(preset, STUDIES[notebook], PRESETS[preset].densities[:1], PRESETS[preset].sweep_seeds)
    if notebook != "12_sparsity":
        return grid(preset, STUDIES[notebook])
    runs = grid(preset, STUDIES[notebook], PRESETS[preset].sparsities, PRESETS[preset].sweep_seeds)
    for name, knob in KNOBS.items():
        for pressure in knob.others:
            runs += grid(preset, [name], PRESETS[preset].densities[:1], PRESETS[preset].sweep_seeds, pressure)
    return runs


def every_run(preset: str) -> list[Run]:
    """The runs of all experiment notebooks of a preset, each once."""
    return list(dict.fromkeys(run for notebook in STUDIES for run in study(notebook, preset)))


def task_name(row: Mapping[str, Any]) -> str:
    """A task for a title, from a table's row: data set, what fairness is over, and the model."""
    target = "" if row["target"] == "label" else f" {row['target']}"
    return f"{row['dataset']}{target} by {row['group_by']}, {row['model']}"


def record_path(run: Run, runs: Path = RUNS) -> Path:
    """Where the run's record lies; that file is the only mark of a finished run."""
    return runs / run.preset / "records" / f"{run.slug()}.json"


def ticket_path(run: Run, runs: Path = RUNS) -> Path:
    """Where the run's trained ticket lies."""
    return runs / run.preset / "tickets" / f"{run.slug()}.safetensors"


def shared_path(run: Run, kind: str, digest: str) -> Path:
    """Where a training lies that the run shares with others of its task and seed."""
    return RUNS / run.preset / "shared" / f"{kind}_{run.dataset}_{run.model}_s{run.seed}_{digest}.safetensors"


def code_fingerprint(modules: Iterable[str]) -> str:
    """Changes when the code of one of these modules of the package does."""
    digest = hashlib.sha256()
    for module in modules:
        path = PACKAGE / module
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def seed_for(seed: int, purpose: str) -> int:
    """One independent seed per purpose ("init", "order", "selection", ...) from the run's seed."""
    return zlib.crc32(f"{purpose}/{seed}".encode())


def writer() -> str:
    """Who writes: this process on this machine, as the names of temporary files have it."""
    return f"{socket.gethostname()}-{os.getpid()}"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all; raises OSError in one sentence where it cannot.

    The temporary file beside it is named `.<name>.<writer>.<random>`; what a killed writer leaves is swept by `upkeep.sweep`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.{writer()}.", delete=False) as file:
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
        raise OSError(f"{path} could not be written ({error.strerror}): give it a folder with room and access.") from error


def check_writable(path: Path) -> None:
    """Raises OSError now if the file could not be written later: no access, or no room for a megabyte."""
    probe = path.parent / f".{path.name}.{writer()}.probe"
    write_atomically(probe, bytes(1 << 20))
    probe.unlink()
