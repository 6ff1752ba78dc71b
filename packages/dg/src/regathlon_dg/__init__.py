"""regathlon_dg."""
