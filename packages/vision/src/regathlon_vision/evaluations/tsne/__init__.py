"""A map of a classifier's features in two dimensions."""
