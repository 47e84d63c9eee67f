"""Re-executes the notebooks of a preset.

One run is one Papermill call of 03_one_run and one JSON; one notebook is one figure.

    snakemake --cores 2 --config preset=small

A run's record is the only mark that it is done: it appears whole or not at all, and Snakemake never
takes one away. Executed notebooks are logs, kept also where they fail. With train=False the
experiment notebooks read data/results/<preset>.csv and train nothing. Where it runs is said by
profiles/, see profiles/README.md.
"""

import csv
import hashlib
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from fairlth.config import paths, workload
from fairlth import config as house
from fairlth.config.method_table import drawable
from fairlth.workflow import grid, locks, status
from fairlth.config.parameters import truth

DEFAULTS = {"preset": "smoke", "train": True}
if unknown := set(config) - set(DEFAULTS):
    raise ValueError(
        f"{', '.join(sorted(unknown))} is not a setting of this workflow: "
        f"choose among {', '.join(DEFAULTS)}."
    )
PRESET = str(config.get("preset", DEFAULTS["preset"]))
TRAIN = truth("train", config.get("train", DEFAULTS["train"]))
house.check_preset(PRESET)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FAIRLTH_CODE", paths.code_fingerprint(paths.DECIDES))  # of a grid


def methods_in_table(preset):
    """The methods in data/results/<preset>.csv; experiments with others cannot be drawn from it."""
    name = f"{preset}.csv"
    committed = paths.COMMITTED_TABLES / name
    path = paths.TABLES / name if (paths.TABLES / name).exists() else committed
    if not path.exists():
        raise ValueError(f"{path} is not there: run `make reproduce PRESET={preset}` first.")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if "method" not in (reader.fieldnames or ()):
            raise ValueError(f"{path} is no table of results: its first line has no column method.")
        return {row["method"] for row in reader}


SCALE = house.PRESETS[PRESET]
PYTHON = shlex.quote(sys.executable)
FAIRLTH = f"{PYTHON} -m fairlth"
METHODS = set(house.METHOD_TABLE) if TRAIN else methods_in_table(PRESET)
STUDIES = [
    name
    for name in house.STUDIES
    if house.study(name, PRESET) and drawable(name, METHODS)
]
AUDIT = "21_audit"  # needs predictions, which records have and tables have not
if not TRAIN and (paths.COMMITTED_TABLES / f"{PRESET}.audit.csv").exists():
    STUDIES.append(AUDIT)
LESSONS = ["01_data", "02_walkthrough", "03_one_run", AUDIT, "30_your_data", "40_deploy"]
TEACHING = LESSONS if SCALE.in_process and TRAIN else []
FANS_OUT = TRAIN and not SCALE.in_process
IN_TABLE = paths.RUNS / PRESET / "in_table.json"  # slugs of the runs that the preset's table has


def in_table():
    """Slugs of the runs that the preset's table has; the main process looks, its jobs read that."""
    if not FANS_OUT:
        return frozenset()
    if workflow.is_main_process:
        from fairlth.workflow import experiments  # takes seconds to import
        from fairlth.analysis import scope

        done = experiments.in_table(PRESET)
        slugs = [run.slug() for run in house.every_run(PRESET) if scope.key(run) in done]
        paths.write_atomically(IN_TABLE, json.dumps(slugs).encode())
    return frozenset(json.loads(IN_TABLE.read_text()))


CODE = [path.relative_to(paths.ROOT).as_posix() for path in sorted(paths.PACKAGE.rglob("*.py"))]

try:
    (paths.RUNS / PRESET).mkdir(parents=True, exist_ok=True)
    DONE = in_table()
    PLANS = house.every_run(PRESET) if FANS_OUT else []
    FAN_OUT = {run.slug(): run for run in PLANS if run.slug() not in DONE}
    PLANNED = frozenset(FAN_OUT.values())
    if TRAIN and workflow.is_main_process:
        for sentence in grid.put_in_order(PRESET, PLANNED):
            print(f"== {sentence}", file=sys.stderr)
except OSError as error:
    raise WorkflowError(
        f"{paths.RUNS / PRESET} cannot be worked in ({error.strerror}): "
        "give it a folder with access."
    ) from None


def pattern(folder):
    """A folder as Snakemake's rules take it: its braces are no wildcards.

    Outside the project it stays absolute: Snakemake keeps copies of outputs under their names in
    its own folder, and each `..` in a name would lead them out of it.
    """
    inside = folder.is_relative_to(paths.ROOT)
    name = str(folder.relative_to(paths.ROOT) if inside else folder)
    return name.replace("{", "{{").replace("}", "}}")


RUNS = pattern(paths.RUNS / PRESET)
FIGURES = pattern(paths.FIGURES / PRESET)
RECORDS = [f"{RUNS}/records/{slug}.json" for slug in FAN_OUT]


def figures(notebooks):
    return [f"{FIGURES}/{notebook}.png" for notebook in notebooks]


def values(**parameters):
    """Parameters as arguments of `fairlth execute`."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return " ".join(shlex.quote(f"{name}={json.dumps(value)}") for name, value in given.items())


def code(wildcards):
    """What makes a notebook out of date: at smoke all code, elsewhere nothing that cost hours."""
    return CODE if SCALE.in_process else ancient(CODE)


def first(wildcards):
    """The record of the run that makes what this one shares: a search or a dense net."""
    base = workload.needs(FAN_OUT[wildcards.slug], PLANNED)
    return [] if base is None else ancient(f"{RUNS}/records/{base.slug()}.json")


def fetched(wildcards):
    """What says that a run's data set is there; nothing where the data come with a package."""
    dataset = FAN_OUT[wildcards.slug].dataset
    return ancient(f"{RUNS}/data/{dataset}.txt") if SCALE.downloads else []


def settings(wildcards):
    """Changes when the preset does in what decides a run."""
    decides = FAN_OUT[wildcards.slug].settings.model_dump(mode="json", exclude=house.LISTS)
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]


AT_WORK = {}


onstart:
    try:
        AT_WORK["lock"] = locks.hold(PRESET)  # until this process ends
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    outputs = [Path(job.output[0]) for job in workflow.dag.needrun_jobs() if job.output]
    AT_WORK["watch"] = status.Watch(status.weights(PRESET, outputs))


onsuccess:
    AT_WORK["watch"].look()


onerror:
    if "watch" in AT_WORK:
        AT_WORK["watch"].look()
        print(f"== Some of it failed; the others went on. {status.report(PRESET)}", file=sys.stderr)


localrules: all, records


rule all:
    input:
        f"{RUNS}/claims.txt",
        figures(TEACHING + STUDIES),


rule records:
    input:
        RECORDS,


rule data:
    output:
        f"{RUNS}/data/{{dataset}}.txt",
    params:
        preset=shlex.quote(PRESET),
    shell:
        "{FAIRLTH} prepare {wildcards.dataset:q} {params.preset} {output:q}"


rule run:
    input:
        notebook=ancient("notebooks/03_one_run.ipynb"),
        data=fetched,
        shared=first,
    output:
        update(f"{RUNS}/records/{{slug}}.json"),  # a job that finds it reads it
    log:
        notebook=f"{RUNS}/notebooks/{{slug}}.ipynb",
    benchmark:
        f"{RUNS}/benchmarks/{{slug}}.tsv"
    retries: 1
    resources:
        gpu_slots=1,
    params:
        run=lambda wildcards: values(**FAN_OUT[wildcards.slug].model_dump()),
        settings=settings,  # a preset that changed is run again
    shell:
        "{FAIRLTH} execute {input.notebook:q} {log.notebook:q} {params.run}"
        " || [ -s {output:q} ]"  # a run whose record is there is done


rule teaching:
    input:
        notebook="notebooks/{notebook}.ipynb",
        code=code,
    output:
        report(f"{FIGURES}/{{notebook}}.png", category=f"preset {PRESET}"),
    log:
        notebook=f"{RUNS}/notebooks/{{notebook}}.ipynb",
    wildcard_constraints:
        notebook="|".join(TEACHING) or "none",
    shell:
        "{FAIRLTH} execute {input.notebook:q} {log.notebook:q}"


rule study:
    input:
        notebook="notebooks/{notebook}.ipynb",
        code=code,
        records=RECORDS,
    output:
        report(f"{FIGURES}/{{notebook}}.png", category=f"preset {PRESET}"),
    log:
        notebook=f"{RUNS}/notebooks/{{notebook}}.ipynb",
    wildcard_constraints:
        notebook="|".join(STUDIES) or "none",
    params:
        values=values(preset=PRESET, train=TRAIN),
    shell:
        "{FAIRLTH} execute {input.notebook:q} {log.notebook:q} {params.values}"


rule overview:
    input:
        notebook="notebooks/00_overview.ipynb",
        studies=figures(STUDIES),
    output:
        f"{RUNS}/claims.txt",
    log:
        notebook=f"{RUNS}/notebooks/00_overview.ipynb",
    params:
        values=values(preset=PRESET, train=TRAIN),
    shell:
        "{FAIRLTH} execute {input.notebook:q} {log.notebook:q} {params.values}"
