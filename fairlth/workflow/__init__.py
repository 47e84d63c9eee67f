"""Running many things: notebooks by Papermill, grids by Snakemake, and the command `fairlth`."""
