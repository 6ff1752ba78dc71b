"""What GSNR-guided dropout would drop in a trained model."""
