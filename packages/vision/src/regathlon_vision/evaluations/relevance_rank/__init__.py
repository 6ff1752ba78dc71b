"""Whether relevance lies on the object: against masks and boxes."""
