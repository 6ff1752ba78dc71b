"""GradAug with unlabelled data: sub-networks also learn what the full network says of samples without labels."""
