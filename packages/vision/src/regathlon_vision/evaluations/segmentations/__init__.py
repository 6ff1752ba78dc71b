"""Predicted masks beside their references."""
