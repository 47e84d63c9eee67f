"""Runs, presets, methods and paths: what everything else is told. No torch in it.

- schema: strict records, exact shares of counts
- presets: the scale of an experiment
- method_table: a row per method
- runs: one training each, and the grids of the notebooks
- paths: where things are, how files are written; the only reader of environment variables
"""

from fairlth.config.method_table import KNOBS, METHOD_TABLE, STUDIES
from fairlth.config.presets import (
    LISTS,
    PRESETS,
    USUAL_TARGETS,
    Preset,
    Schedule,
    Task,
    check_preset,
)
from fairlth.config.runs import (
    TASK,
    Run,
    every_run,
    grid,
    record_path,
    seed_for,
    study,
    task_name,
    ticket_path,
)
from fairlth.config.schema import Strict, check_name, exact, share_of
