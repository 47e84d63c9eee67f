"""Runs, presets, methods and paths: what everything else is told. No torch in it.

- schema: strict records, exact shares of counts
- presets: the scale of an experiment
- method_table: a row per method
- runs: one training each, and the grids of the notebooks
- paths: where things are, how files are written; the only reader of environment variables
"""

from fairlth.config.method_table import KNOBS as KNOBS
from fairlth.config.method_table import METHOD_TABLE as METHOD_TABLE
from fairlth.config.method_table import STUDIES as STUDIES
from fairlth.config.presets import LISTS as LISTS
from fairlth.config.presets import PRESETS as PRESETS
from fairlth.config.presets import USUAL_TARGETS as USUAL_TARGETS
from fairlth.config.presets import Cell as Cell
from fairlth.config.presets import Preset as Preset
from fairlth.config.presets import Schedule as Schedule
from fairlth.config.presets import Task as Task
from fairlth.config.presets import check_preset as check_preset
from fairlth.config.presets import own_presets as own_presets
from fairlth.config.runs import TASK as TASK
from fairlth.config.runs import Run as Run
from fairlth.config.runs import every_run as every_run
from fairlth.config.runs import grid as grid
from fairlth.config.runs import record_path as record_path
from fairlth.config.runs import seed_for as seed_for
from fairlth.config.runs import study as study
from fairlth.config.runs import task_name as task_name
from fairlth.config.runs import ticket_path as ticket_path
from fairlth.config.schema import Strict as Strict
from fairlth.config.schema import check_name as check_name
from fairlth.config.schema import exact as exact
from fairlth.config.schema import share_of as share_of
