"""Presets: the scale of an experiment, its tasks, data, training and repetitions."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from fairlth.config import paths
from fairlth.config.schema import Strict, check_name

Density = Annotated[float, Field(gt=0, le=1)]
Whole = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
NotEmpty = Field(min_length=1)
NEVER = object()  # equals no value
YOUNGER = {"count_flops": False, "round_units": 1}  # fields of a preset, and what is usual


class Schedule(Strict):
    """How one training goes: SGD or AdamW, linear warm-up, then a cosine down to zero."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 128
    lr: Annotated[float, Field(gt=0)] = 0.1  # at the top of the warm-up
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    warmup: Annotated[float, Field(ge=0)] = 1.0  # epochs
    optimizer: Literal["sgd", "adamw"] = "sgd"
    # pixels that a training image is moved at most, each way
    shift: Annotated[int, Field(ge=0)] = 0
    mirror: bool = True  # half of the training images, where the data set allows it
    # of products while training, where the device has it
    precision: Literal["float32", "bfloat16"] = "float32"
    # the network by torch.compile: a minute at the start, worth it for long trainings
    compile: bool = False


USUAL_TARGETS = {  # data set -> its usual label column, where that is not "label"
    "cifar100": "fine_label",
    "celeba": "Smiling",
    "utkface": "race",
    "fairface": "race",
}


def usual_target(dataset: str) -> str:
    """The label column that a data set is learned by where none is named."""
    return USUAL_TARGETS.get(dataset, "label")


def usual_is_none(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of a task or run, None in place of the label column and groups that are usual anyway.

    So that one training has one name.
    """
    usual = usual_target(str(values.get("dataset")))
    label = values.get("target") or usual
    if values.get("target") == usual:
        values = values | {"target": None}
    if values.get("group_by") == label:
        values = values | {"group_by": None}
    return values


class Task(Strict):
    """What is learned, and whose fairness is measured; None takes the data set's default."""

    dataset: str
    model: str
    target: str | None = None
    group_by: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_is_none(cls, values: dict[str, Any]) -> dict[str, Any]:
        return usual_is_none(values)


class Cell(Strict):
    """A task at some densities with some methods, beside the grid of a preset."""

    task: Task
    densities: Annotated[tuple[Density, ...], NotEmpty]
    methods: Annotated[tuple[str, ...], NotEmpty]


class Preset(Strict):
    """The scale of an experiment: its tasks, how much data, how long, how many repetitions."""

    tasks: Annotated[tuple[Task, ...], NotEmpty]
    group_tasks: tuple[Task, ...] = ()  # of 20_groups
    densities: Annotated[tuple[Density, ...], NotEmpty]
    seeds: Annotated[tuple[Seed, ...], NotEmpty]
    schedule: Schedule
    n_train: Whole | None = None  # training images, None: all that validation leaves
    n_val: Whole = 2000  # validation images where the source has no validation split
    image_size: Whole = 64  # pixels a side at most
    rewind_epochs: Annotated[int, Field(ge=0)] = 1  # theta_k is the state after k epochs
    # share of the weights that a level of pruning keeps
    keep_per_level: Annotated[float, Field(gt=0, lt=1)] = 0.36
    # accuracy a fair ticket may lose against the dense net, validation
    epsilon: Annotated[float, Field(ge=0)] = 0.05
    # densities of the sparsity sweep
    sparsities: Annotated[tuple[Density, ...], NotEmpty] = (0.2, 0.1, 0.05, 0.02, 0.01)
    # seeds of 12_sparsity, which has many runs a seed
    sweep_seeds: Annotated[tuple[Seed, ...], NotEmpty] = (0, 1, 2)
    # notebooks train their grid themselves: importing costs more than training
    in_process: bool = False
    downloads: bool = True  # may fetch a data set that is not on disk
    # data set -> epochs other than the schedule's
    epochs: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    limits: dict[str, Whole] = Field(default_factory=dict)  # data set -> n_train other than that
    # that its notebooks compare, None: all that each notebook names
    methods: Annotated[tuple[str, ...], NotEmpty] | None = None
    also: tuple["Cell", ...] = ()  # settings beside the grid of tasks and densities
    sweep_tasks: tuple[Task, ...] | None = None  # tasks of the sparsity sweep, None: all
    pressures: bool = True  # 12_sparsity goes along each method's pressure, too
    count_flops: bool = False  # a density is a share of FLOPs where whole units are pruned
    round_units: Whole = 1  # where they are, a layer that loses units keeps a multiple of it

    @field_validator("seeds", "sweep_seeds", "densities", "sparsities")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is there twice")
        return values

    @model_validator(mode="after")
    def _rewinds_before_the_end(self) -> "Preset":
        if self.rewind_epochs >= (least := min([self.schedule.epochs, *self.epochs.values()])):
            raise ValueError(
                f"rewind_epochs={self.rewind_epochs} is refused: expected fewer than the {least} "
                "epochs"
            )
        return self

    @model_serializer(mode="wrap")
    def _untold_while_usual(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Younger fields are told where they are set, so that older records stay as they are."""
        told: dict[str, Any] = dump(self)
        return {name: value for name, value in told.items() if value != YOUNGER.get(name, NEVER)}

    def at(self, dataset: str) -> "Preset":
        """The preset as one data set has it: with its numbers of epochs and training images."""
        epochs = self.epochs.get(dataset, self.schedule.epochs)
        schedule = self.schedule.model_copy(update={"epochs": epochs})
        n_train = self.limits.get(dataset, self.n_train)
        return self.model_copy(update={"schedule": schedule, "n_train": n_train})


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
    sweep_tasks=(
        Task(dataset="cifar10", model="convnet"),
        Task(dataset="utkface", model="convnet", target="race"),
    ),
)
UNTOUCHED = (  # nothing was chosen on these
    Task(dataset="fashion_mnist", model="convnet"),
    Task(dataset="cifar100", model="convnet", target="coarse_label"),
)
DEEPER = (Task(dataset="cifar10", model="resnet20"),)
CLAIMED = (
    "dense",
    "magnitude",
    "lth",
    "lth_rate",
    "lth_long",
    "safecompress",
    "fairscratch",
    "ballot",
)
BREADTH = tuple(  # five data sets, three models
    Task(dataset=dataset, model=model, target=target)
    for dataset, target in (
        ("cifar10", None),
        ("cifar100", "coarse_label"),
        ("fashion_mnist", None),
        ("utkface", "race"),
        ("fer2013", None),
    )
    for model in ("convnet", "vgg11_small", "resnet20")
)

WHOLE = Preset(
    tasks=(Task(dataset="cifar10", model="vgg11_small"),),
    densities=(0.02,),
    sparsities=(0.02,),
    seeds=(0, 1, 2),
    schedule=Schedule(epochs=20, batch_size=128, lr=0.1, warmup=2.0, shift=4, precision="bfloat16"),
    n_val=5000,
    image_size=32,
    epsilon=0.08,
    methods=CLAIMED,
    pressures=False,
)

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
    "confirm": SMALL.model_copy(
        update={"tasks": UNTOUCHED, "group_tasks": (), "sweep_tasks": None}
    ),
    "deeper": SMALL.model_copy(
        update={
            "tasks": DEEPER,
            "group_tasks": (),
            "densities": (0.05,),
            "sparsities": (0.05,),
            "seeds": (0, 1, 2),
            "methods": (*CLAIMED, "lth_bias"),
            "sweep_tasks": None,
            "pressures": False,
        }
    ),
    "breadth": SMALL.model_copy(
        update={
            "tasks": BREADTH,
            "group_tasks": (),
            "densities": (0.05,),
            "sparsities": (0.05,),
            "seeds": (0, 1, 2),
            "methods": CLAIMED,
            "also": (
                Cell(
                    task=Task(dataset="fer2013", model="convnet"),
                    densities=(0.02,),
                    methods=("dense", "lth", "lth_long", "ballot"),
                ),
            ),
            "sweep_tasks": None,
            "pressures": False,
        }
    ),
    "whole": WHOLE,
    "whole_gpu": WHOLE.model_copy(
        update={
            "tasks": (
                Task(dataset="cifar10", model="resnet18"),
                Task(dataset="cifar100", model="resnet18", target="coarse_label"),
            ),
        }
    ),
    # Some 16 hours of one H100, as `fairlth plan` reckons; 32 by three steps timed on an H200.
    # Batches of 512 and a learning rate that rises for a fifth of the epochs and falls to 0 (Smith
    # and Topin, 2018). Page, 2018 ("How to train your ResNet"), trains an 18-layer residual network
    # on cifar10 to 94 % in about as many epochs, with batches of this size, too. Not run here.
    "paper": Preset(
        tasks=tuple(
            Task(dataset=dataset, model=model, target=target, group_by=group_by)
            for dataset, target, group_by in (
                ("cifar10", None, None),
                ("cifar100", None, None),
                ("tiny_imagenet", None, None),
                ("celeba", "Smiling", "Male"),
                ("utkface", "race", None),
            )
            for model in ("resnet18", "vgg16", "mobilenet_v2")
        ),
        densities=(0.1, 0.02),
        sparsities=(0.1, 0.02),
        seeds=(0, 1, 2),
        schedule=Schedule(
            epochs=30,
            batch_size=512,
            lr=0.4,
            weight_decay=5e-4,
            warmup=6.0,
            shift=4,
            precision="bfloat16",
        ),
        epochs={"celeba": 20},
        limits={"celeba": 50_000},
        n_val=5000,
        epsilon=0.02,
        methods=CLAIMED,
        sweep_tasks=(),
        pressures=False,
    ),
    "paper_full": Preset(
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
        # 160 epochs in batches of 128, crops and mirrored images: Frankle and Carbin, 2019, on
        # CIFAR-10, after He et al., 2016; the cosine is from Loshchilov and Hutter, 2017, the
        # weight decay from DeVries and Taylor, 2017
        schedule=Schedule(
            epochs=160, batch_size=128, lr=0.1, weight_decay=5e-4, shift=4, precision="bfloat16"
        ),
        # Sagawa et al., 2020 (group DRO); code of Hashemizadeh et al., 2024
        epochs={"celeba": 50, "utkface": 50},
        n_val=5000,
        rewind_epochs=2,  # about 1 % of the training, late rewinding of Frankle et al., 2020
        keep_per_level=0.8,  # Frankle and Carbin, 2019
        epsilon=0.02,
    ),
    "finetune": Preset(  # of networks that come with trained weights, see `models.add`
        tasks=(Task(dataset="cifar10", model="resnet18"),),
        densities=(0.2,),
        sparsities=(0.2,),
        seeds=(0, 1, 2),
        # AdamW at 5e-5, weight decay 1e-8, a cosine without warm-up: fine-tuning of Liu et al.,
        # 2022 ("A ConvNet for the 2020s"); fewer epochs, in smaller batches
        schedule=Schedule(
            epochs=5,
            batch_size=64,
            lr=5e-5,
            weight_decay=1e-8,
            warmup=0.0,
            optimizer="adamw",
            precision="bfloat16",
        ),
        n_val=4000,
        epsilon=0.01,  # of a network that is in use little may be lost
        rewind_epochs=0,  # to the given weights, as Chen et al., 2020 rewind BERT
        methods=("dense", "magnitude", "lth", "lth_rate", "lth_long", "ballot"),
        pressures=False,
    ),
}

PUBLISHED = frozenset(PRESETS)  # the names of the package's own

LISTS = {  # what decides no single run
    *(
        "tasks",
        "group_tasks",
        "densities",
        "sparsities",
        "sweep_seeds",
        "sweep_tasks",
        "seeds",
        "epochs",
        "limits",
        "methods",
        "also",
    ),
    *("pressures", "in_process", "downloads"),
}


def own_presets(path: Path) -> dict[str, Preset]:
    """Your presets, from a JSON file: name -> {"like": another, fields that differ}.

    The schedule's fields may differ, too.

    Raises:
        ValueError: the file is not there, not such a file, has a name twice, a name that no folder
            may have or that of a preset of the package, or a field that a preset refuses.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_name_once)
        for name in found:
            _check_free(name)
        return {name: _like(**fields) for name, fields in found.items()}
    except (OSError, TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:
        wrong = (
            f"there is no preset {error} to be like"
            if isinstance(error, KeyError)
            else str(error).rstrip(".")
        )
        expected = '{"mine": {"like": "small", "seeds": [0]}}'
        raise ValueError(
            f"FAIRLTH_PRESETS={path} cannot be used ({wrong}): expected such as {expected}."
        ) from None


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError for a name that it has twice, of which JSON takes the last."""
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice")
    return dict(pairs)


def _check_free(name: str) -> None:
    """Raises ValueError if a preset of the user's cannot be called so."""
    check_name(name)
    if name.casefold() in PUBLISHED:  # some disks take Small for small
        raise ValueError(f"{name!r} is a preset of the package: choose another name")


def _cell(task: dict[str, Any], densities: list[float], methods: list[str]) -> Cell:
    """A setting beside a grid, from JSON values."""
    return Cell(task=Task(**task), densities=tuple(densities), methods=tuple(methods))


def _like(like: str, **fields: Any) -> Preset:
    """A preset with some fields in place of those of another, from JSON values; tasks of its own
    come without the other's.
    """
    model = PRESETS[like]
    if "schedule" in fields:
        fields["schedule"] = Schedule(**model.schedule.model_dump() | fields["schedule"])
    if "tasks" in fields:
        fields = {"sweep_tasks": None, "also": []} | fields
    for name in ("tasks", "group_tasks", "sweep_tasks"):
        if fields.get(name) is not None:
            fields[name] = [Task(**task) for task in fields[name]]
    if "also" in fields:
        fields["also"] = [_cell(**cell) for cell in fields["also"]]
    own = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Preset(**{name: getattr(model, name) for name in Preset.model_fields} | own)


def check_preset(preset: str) -> None:
    """Raises ValueError if there is no such preset."""
    if preset not in PRESETS:
        raise ValueError(f"preset={preset!r} is refused: choose one of {', '.join(PRESETS)}.")


if paths.ENVIRONMENT.presets is not None:
    PRESETS |= own_presets(paths.from_root(paths.ENVIRONMENT.presets))
