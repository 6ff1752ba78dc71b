"""ImageNet-A, -R and -O: no training, other images."""
