"""MLDG: meta-learning for domain generalization (Li et al., 2018)."""
