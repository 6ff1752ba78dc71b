"""Classification of whole graphs."""
