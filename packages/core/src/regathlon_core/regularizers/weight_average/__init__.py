"""Weight averaging: what is evaluated is the mean of the weights that the training passes through."""
