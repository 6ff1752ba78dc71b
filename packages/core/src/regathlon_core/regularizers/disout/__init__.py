"""Disout: feature maps are distorted instead of dropped."""
