"""DropPath: residual branches dropped sample by sample."""
