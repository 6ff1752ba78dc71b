"""What is measured or drawn on models of images after their training."""
