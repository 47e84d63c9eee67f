"""Re-executes the notebooks of a preset: one run = one Papermill call of 03_one_run = one JSON; one notebook = one figure.

    snakemake --cores 2 --config preset=small

A run's record is the only mark that it is done: it appears whole or not at all, and Snakemake never takes one away. Executed
notebooks are logs, kept also where they fail. With train=False the experiment notebooks read data/results/<preset>.csv and train
nothing. Where it runs is said by profiles/, see profiles/README.md.
"""

import csv
import hashlib
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from fairlth import config as house
from fairlth import processes, status, upkeep, workload

DEFAULTS = {"preset": "smoke", "train": True}
if unknown := set(config) - set(DEFAULTS):
    raise ValueError(f"{', '.join(sorted(unknown))} is not a setting of this workflow: choose among {', '.join(DEFAULTS)}.")
PRESET, TRAIN = config.get("preset", DEFAULTS["preset"]), config.get("train", DEFAULTS["train"])
if PRESET not in house.PRESETS:
    raise ValueError(f"preset={PRESET!r} is unknown: choose one of {', '.join(house.PRESETS)}.")
if not isinstance(TRAIN, bool):
    raise ValueError(f"train={TRAIN!r} is refused: write True or False.")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FAIRLTH_CODE", house.code_fingerprint(upkeep.DECIDES))  # runs of other code are refused


def methods_in_table(preset):
    """The methods that data/results/<preset>.csv has runs of; experiments with others cannot be drawn from it."""
    path = house.TABLES / f"{preset}.csv"
    if not path.exists():
        raise ValueError(f"{path} is not there: run `make reproduce PRESET={preset}` first.")
    with path.open(newline="") as file:
        return {row["method"] for row in csv.DictReader(file)}


try:
    (house.RUNS / PRESET).mkdir(parents=True, exist_ok=True)
    for sentence in upkeep.put_in_order(PRESET) if TRAIN and workflow.is_main_process else []:
        print(f"== {sentence}", file=sys.stderr)
except OSError as error:
    raise WorkflowError(f"{house.RUNS / PRESET} cannot be worked in ({error.strerror}): give it a folder with access.") from None

RUNS = os.path.relpath(house.RUNS / PRESET)
FIGURES = os.path.relpath(house.FIGURES / PRESET)
PYTHON = shlex.quote(sys.executable)
EXECUTE = f"{PYTHON} -m fairlth.execute"
STUDIES = [
    name
    for name, methods in house.STUDIES.items()
    if house.study(name, PRESET) and (TRAIN or set(methods) <= methods_in_table(PRESET))
]
LESSONS = ["01_data", "02_walkthrough", "03_one_run", "30_your_data", "40_deploy"]
TEACHING = LESSONS if house.PRESETS[PRESET].in_process and TRAIN else []
FANS_OUT = TRAIN and not house.PRESETS[PRESET].in_process
IN_TABLE = house.RUNS / PRESET / "in_table.json"  # slugs of the runs that the preset's table has


def in_table():
    """Slugs of the runs whose rows the preset's table has; the main process looks, its jobs read what it found."""
    if FANS_OUT and workflow.is_main_process:
        from fairlth import experiments  # takes seconds to import

        done = experiments.in_table(PRESET)
        slugs = [run.slug() for run in house.every_run(PRESET) if experiments.key(run) in done]
        house.write_atomically(IN_TABLE, json.dumps(slugs).encode())
    return frozenset(json.loads(IN_TABLE.read_text())) if FANS_OUT and IN_TABLE.exists() else frozenset()


DONE = in_table()
FAN_OUT = {run.slug(): run for run in house.every_run(PRESET) if run.slug() not in DONE} if FANS_OUT else {}
PLANNED = frozenset(FAN_OUT.values())
RECORDS = [f"{RUNS}/records/{slug}.json" for slug in FAN_OUT]
CODE = [path.relative_to(house.ROOT).as_posix() for path in sorted(house.PACKAGE.rglob("*.py"))]


def values(**parameters):
    """Parameters as arguments of fairlth.execute."""
    return " ".join(shlex.quote(f"{name}={json.dumps(value)}") for name, value in parameters.items() if value is not None)


def code(wildcards):
    """What makes a notebook out of date: at smoke all code, elsewhere nothing that cost hours."""
    return CODE if house.PRESETS[PRESET].in_process else ancient(CODE)


def first(wildcards):
    """The record of the run that makes what this one shares: its search for a ticket where it has one, else the dense net."""
    base = workload.needs(FAN_OUT[wildcards.slug], PLANNED)
    return [] if base is None else ancient(f"{RUNS}/records/{base.slug()}.json")


def fetched(wildcards):
    """What says that a run's data set is there and decoded; nothing for a preset whose data come with a package."""
    dataset = FAN_OUT[wildcards.slug].dataset
    return ancient(f"{RUNS}/data/{dataset}.txt") if house.PRESETS[PRESET].downloads else []


def settings(wildcards):
    """Changes when the preset does in what decides a run."""
    return hashlib.sha256(json.dumps(upkeep.settings_of(FAN_OUT[wildcards.slug])).encode()).hexdigest()[:12]


def started():
    """Takes the folder of results for this workflow and has every finished output printed; clear words where it is taken."""
    try:
        outputs = [Path(job.output[0]) for job in workflow.dag.needrun_jobs() if job.output]
        return processes.hold(PRESET), status.Watch(status.weights(PRESET, outputs))
    except ValueError as error:
        raise WorkflowError(str(error)) from None


AT_WORK = []


onstart:
    AT_WORK.extend(started())


onsuccess:
    AT_WORK[1].look()


onerror:
    AT_WORK[1].look()
    print(f"== Some of it failed; the others went on. {status.report(PRESET)}", file=sys.stderr)


localrules: all, records


rule all:
    input:
        f"{RUNS}/claims.txt",
        expand(f"{FIGURES}/{{notebook}}.png", notebook=TEACHING + STUDIES),


rule records:
    input:
        RECORDS,


rule data:
    output:
        f"{RUNS}/data/{{dataset}}.txt",
    params:
        preset=PRESET,
    shell:
        "{PYTHON} -m fairlth.prepare {wildcards.dataset} {params.preset} {output}"


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
        "{EXECUTE} {input.notebook} {log.notebook} {params.run} || [ -s {output} ]"  # a run whose record is there is done


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
        "{EXECUTE} {input.notebook} {log.notebook}"


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
        notebook="|".join(STUDIES),
    params:
        values=values(preset=PRESET, train=TRAIN),
    shell:
        "{EXECUTE} {input.notebook} {log.notebook} {params.values}"


rule overview:
    input:
        notebook="notebooks/00_overview.ipynb",
        studies=expand(f"{FIGURES}/{{notebook}}.png", notebook=STUDIES),
    output:
        f"{RUNS}/claims.txt",
    log:
        notebook=f"{RUNS}/notebooks/00_overview.ipynb",
    params:
        values=values(preset=PRESET, train=TRAIN),
    shell:
        "{EXECUTE} {input.notebook} {log.notebook} {params.values}"
