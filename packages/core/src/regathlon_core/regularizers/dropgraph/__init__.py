"""DropGraph: dropped features are replaced by distortions from a small graph network."""
