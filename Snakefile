"""Re-executes the notebooks of a preset: one run = one Papermill call of 03_one_run = one JSON; one notebook = one figure.

    snakemake --cores 2 --config preset=small

A run's record is the only mark that it is done; executed notebooks are logs, kept also where they fail. With train=False the
experiment notebooks read data/results/<preset>.csv and train nothing.
"""

import csv
import hashlib
import json
import os
import shlex
import sys

from fairlth import config as house

DEFAULTS = {"preset": "smoke", "train": True}
if unknown := set(config) - set(DEFAULTS):
    raise ValueError(f"{', '.join(sorted(unknown))} is not a setting of this workflow: choose among {', '.join(DEFAULTS)}.")
PRESET, TRAIN = config.get("preset", DEFAULTS["preset"]), config.get("train", DEFAULTS["train"])
if PRESET not in house.PRESETS:
    raise ValueError(f"preset={PRESET!r} is unknown: choose one of {', '.join(house.PRESETS)}.")
if not isinstance(TRAIN, bool):
    raise ValueError(f"train={TRAIN!r} is refused: write True or False.")

os.environ.setdefault("OMP_NUM_THREADS", "1")


def methods_in_table(preset):
    """The methods that data/results/<preset>.csv has runs of; experiments with others cannot be drawn from it."""
    path = house.TABLES / f"{preset}.csv"
    if not path.exists():
        raise ValueError(f"{path} is not there: run `make reproduce PRESET={preset}` first.")
    with path.open(newline="") as file:
        return {row["method"] for row in csv.DictReader(file)}


RUNS = os.path.relpath(house.RUNS / PRESET)
FIGURES = os.path.relpath(house.FIGURES / PRESET)
EXECUTE = f"{shlex.quote(sys.executable)} -m fairlth.execute"
SETTINGS = hashlib.sha256(house.PRESETS[PRESET].model_dump_json(exclude=house.LISTS).encode()).hexdigest()[:12]
STUDIES = [
    name
    for name, methods in house.STUDIES.items()
    if house.study(name, PRESET) and (TRAIN or set(methods) <= methods_in_table(PRESET))
]
TEACHING = ["01_data", "02_walkthrough", "03_one_run", "30_your_data"] if house.PRESETS[PRESET].in_process and TRAIN else []
FAN_OUT = {run.slug(): run for run in house.every_run(PRESET)} if TRAIN and not house.PRESETS[PRESET].in_process else {}
CODE = [path.relative_to(house.ROOT).as_posix() for path in sorted(house.PACKAGE.rglob("*.py"))]


def values(**parameters):
    """Parameters as arguments of fairlth.execute."""
    return " ".join(shlex.quote(f"{name}={json.dumps(value)}") for name, value in parameters.items() if value is not None)


def code(wildcards):
    """What makes a notebook out of date: at smoke all code, elsewhere nothing that cost hours."""
    return CODE if house.PRESETS[PRESET].in_process else ancient(CODE)


SEARCHES = {"lth": "lth", "lth_fine": "lth_fine", "lth_rate": "lth_rate", "lth_bias": "lth", "ballot_refine": "lth_rate"}  # method -> the one whose search for a ticket it shares
SEARCHES |= {"ballot": "ballot", "ballot_select": "ballot", "shuffled": "ballot"}


def first(wildcards):
    """The run whose shared training this one needs: of its search where it has one, else of the dense net."""
    run = FAN_OUT[wildcards.slug]
    base = run.model_copy(update={"method": SEARCHES.get(run.method, "dense"), "pressure": None})
    if base == run or base.slug() not in FAN_OUT:
        base = run.model_copy(update={"method": "dense", "density": 1.0, "pressure": None})
    return [] if run == base else ancient(f"{RUNS}/records/{base.slug()}.json")


localrules: all, records


rule all:
    input:
        f"{RUNS}/claims.txt",
        expand(f"{FIGURES}/{{notebook}}.png", notebook=TEACHING + STUDIES),


rule records:
    input:
        expand(f"{RUNS}/records/{{slug}}.json", slug=FAN_OUT),


rule run:
    input:
        notebook=ancient("notebooks/03_one_run.ipynb"),
        shared=first,
    output:
        f"{RUNS}/records/{{slug}}.json",
    log:
        notebook=f"{RUNS}/notebooks/{{slug}}.ipynb",
    params:
        run=lambda wildcards: values(**FAN_OUT[wildcards.slug].model_dump()),
        settings=SETTINGS,  # a preset that changed is run again
    shell:
        "{EXECUTE} {input.notebook} {log.notebook} {params.run}"


rule teaching:
    input:
        notebook="notebooks/{notebook}.ipynb",
        code=code,
    output:
        f"{FIGURES}/{{notebook}}.png",
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
        records=expand(f"{RUNS}/records/{{slug}}.json", slug=FAN_OUT),
    output:
        f"{FIGURES}/{{notebook}}.png",
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
