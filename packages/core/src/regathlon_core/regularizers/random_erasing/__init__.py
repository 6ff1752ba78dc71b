"""Random Erasing (Zhong et al., 2020)."""
