"""Flipping curves: how fast predictions break when relevant positions go first."""
