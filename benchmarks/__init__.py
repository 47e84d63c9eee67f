"""Speed and memory of the package, as ratios measured in one run."""
