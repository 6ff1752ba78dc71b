"""Data sets: manifests, download, verification, and embedded data that needs no network. Imports no torch."""

from regathlon_data.digits import Digits, load_digits, split_digits

__all__ = ["Digits", "load_digits", "split_digits"]
