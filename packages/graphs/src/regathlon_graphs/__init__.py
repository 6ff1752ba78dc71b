"""regathlon_graphs."""
