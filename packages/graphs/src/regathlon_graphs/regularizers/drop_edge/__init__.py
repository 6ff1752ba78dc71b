"""drops edges anew in every step (Rong et al., 2020)."""
