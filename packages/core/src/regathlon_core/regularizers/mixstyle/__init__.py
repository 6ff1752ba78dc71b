"""MixStyle: mixes the feature statistics of samples (Zhou et al., 2021)."""
