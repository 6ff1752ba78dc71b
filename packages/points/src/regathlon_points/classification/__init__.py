"""Classification of point clouds: one label for each cloud."""
