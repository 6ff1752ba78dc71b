"""Group distributionally robust optimization (Sagawa et al., 2020)."""
