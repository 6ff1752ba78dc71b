"""consistent predictions over graphs with dropped nodes (Feng et al., 2020)."""
