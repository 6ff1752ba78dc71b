"""No regularizer: the baseline of every comparison."""
