"""How few channels of each layer hold the relevance."""
