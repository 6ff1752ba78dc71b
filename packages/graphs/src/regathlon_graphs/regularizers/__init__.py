"""Regularizers that act on graphs alone."""
