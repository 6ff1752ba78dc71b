"""How accuracy falls with the share of the inputs that is occluded."""
