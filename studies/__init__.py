"""Research on the method: what was tried, and how long grids are made."""
