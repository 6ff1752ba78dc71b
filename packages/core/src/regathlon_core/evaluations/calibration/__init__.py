"""How far predicted probabilities can be believed."""
