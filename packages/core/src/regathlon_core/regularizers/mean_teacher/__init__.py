"""Mean Teacher: agree with an average of your past weights, on unlabelled samples too."""
