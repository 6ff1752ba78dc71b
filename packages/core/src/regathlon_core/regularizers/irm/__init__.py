"""Invariant Risk Minimization (Arjovsky et al., 2019)."""
