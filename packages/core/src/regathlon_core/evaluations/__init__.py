"""Evaluations that any modality can use, one folder each."""
