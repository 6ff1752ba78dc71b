"""RelDrop: occludes what relevance propagation says the model relies on."""
