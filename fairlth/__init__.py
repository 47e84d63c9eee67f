"""Fair lottery tickets: the helper package of the notebooks.

Values flow one way: Run -> Data -> model -> fit -> scores -> MaskSet -> refined ticket -> counts -> metrics -> Record ->
table -> figure. A module imports only modules above it in `fairlth.ORDER`.
"""

__version__ = "0.1.0"

ORDER = (
    "config",
    "progress",
    "sources",
    "listing",
    "folders",
    "data",
    "layers",
    "models",
    "masks",
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
    "results",
    "gains",
    "equal",
    "factors",
    "subgroups",
    "packing",
    "cards",
    "tickets",
    "experiments",
    "sheets",
    "compact",
    "export",
    "labels",
    "figures",
    "pictures",
    "workflow",
    "__main__",
)
