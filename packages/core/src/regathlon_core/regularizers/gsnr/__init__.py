"""GSNR-guided dropout: drops the features whose gradients have the highest signal-to-noise ratio."""
