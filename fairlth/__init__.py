"""Fair lottery tickets: the helper package of the notebooks.

Values flow one way: Run -> Data -> model -> fit -> scores -> MaskSet -> refined ticket -> counts -> metrics -> Record ->
table -> figure. A module imports only modules above it in `fairlth.ORDER`.
"""

__version__ = "0.1.0"

ORDER = (
    "config",
    "progress",
    "images",
    "data",
    "masks",
    "models",
    "metrics",
    "training",
    "shift",
    "conflict",
    "selection",
    "allocation",
    "refinement",
    "surrogates",
    "popup",
    "importance",
    "multipliers",
    "regrowth",
    "methods",
    "analysis",
    "shipping",
    "experiments",
    "figures",
    "workflow",
    "__main__",
)
