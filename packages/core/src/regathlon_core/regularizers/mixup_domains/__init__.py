"""Mixup across domains: averages samples with samples of other domains."""
