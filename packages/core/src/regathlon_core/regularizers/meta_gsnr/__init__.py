"""Meta-GSNR: GSNR-guided dropout that learns how much to drop."""
