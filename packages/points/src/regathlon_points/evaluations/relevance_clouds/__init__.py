"""Clouds coloured by the relevance of their points."""
