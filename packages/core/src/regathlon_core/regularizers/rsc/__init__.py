"""Representation Self-Challenging: mutes the features that the true class leans on most (Huang et al., 2020)."""
