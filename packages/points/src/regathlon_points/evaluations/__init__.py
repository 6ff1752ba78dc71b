"""What can be measured and drawn of models of point clouds."""
