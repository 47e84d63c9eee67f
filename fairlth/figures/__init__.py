"""Figures of the notebooks: methods compared, ratios, groups, the walkthrough; one style.

Each function takes a table or arrays, and axes; it draws and returns the axes.
"""

from fairlth.figures import walkthrough as walkthrough
from fairlth.figures.compare import comparison, cost, curves, panels, rows, sweep, tradeoff
from fairlth.figures.groups import by_group, forgotten, gaps, group_accuracy, pictures
from fairlth.figures.paired import effects, forest, heat_map, pairs, premise
from fairlth.figures.style import (
    COLOURS,
    GREY,
    LOOKS,
    MARKERS,
    NAMES,
    SCALES,
    Look,
    legend_below,
    legible,
    name,
    place_names,
    save,
    titled,
)

__all__ = [
    "COLOURS",
    "GREY",
    "LOOKS",
    "MARKERS",
    "NAMES",
    "SCALES",
    "Look",
    "by_group",
    "comparison",
    "cost",
    "curves",
    "effects",
    "forest",
    "forgotten",
    "gaps",
    "group_accuracy",
    "heat_map",
    "legend_below",
    "legible",
    "name",
    "pairs",
    "panels",
    "pictures",
    "place_names",
    "premise",
    "rows",
    "save",
    "sweep",
    "titled",
    "tradeoff",
    "walkthrough",
]
