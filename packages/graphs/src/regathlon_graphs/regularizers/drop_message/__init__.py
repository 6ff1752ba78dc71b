"""drops entries of the messages between nodes (Fang et al., 2023)."""
