"""Where a classifier looks, by relevance propagation."""
