"""GradAug and the ablations in its paper: the full network teaches its own sub-networks."""
