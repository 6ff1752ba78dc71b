"""drops all features of random nodes (Feng et al., 2020)."""
