"""SpatialDropout (Tompson et al., 2015), in both readings."""
