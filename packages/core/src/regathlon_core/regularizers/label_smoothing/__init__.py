"""Label smoothing (Szegedy et al., 2016)."""
