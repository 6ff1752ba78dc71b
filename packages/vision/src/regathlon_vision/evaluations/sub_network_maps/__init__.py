"""Where the full network and one of its sub-networks look."""
