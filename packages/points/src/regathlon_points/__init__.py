"""regathlon_points."""
