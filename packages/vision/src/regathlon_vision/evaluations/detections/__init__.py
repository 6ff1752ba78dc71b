"""Pictures of what a detector finds."""
