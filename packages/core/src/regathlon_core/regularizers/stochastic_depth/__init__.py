"""Stochastic depth (Huang et al., 2016)."""
