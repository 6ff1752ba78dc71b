"""CORAL: aligns the feature statistics of domains (Sun and Saenko, 2016)."""
