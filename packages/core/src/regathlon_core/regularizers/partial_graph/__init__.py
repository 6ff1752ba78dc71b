"""Partial graph reasoning: sampled positions are replaced by what a graph convolution makes of them."""
