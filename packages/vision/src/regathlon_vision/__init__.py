"""regathlon_vision."""
