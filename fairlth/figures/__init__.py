"""Figures of the notebooks: methods compared, ratios, groups, the walkthrough; one style.

Each function takes a table or arrays, and axes; it draws and returns the axes.
"""

from fairlth.figures import walkthrough as walkthrough
from fairlth.figures.compare import comparison, cost, curves, panels, rows, sweep, tradeoff
from fairlth.figures.groups import by_group, forgotten, gaps, group_accuracy, pictures
from fairlth.figures.paired import effects, forest, heat_map, heat_maps, pairs, premise, ratios
from fairlth.figures.style import (
    COLOURS,
    GREY,
    LOOKS,
    NAMES,
    SCALES,
    legend_below,
    legible,
    name,
    place_names,
    save,
    titled,
)
