"""Grad-CAM: where a classifier looks, and what its gaze is worth."""
