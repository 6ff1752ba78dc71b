"""Cutout (DeVries and Taylor, 2017)."""
