"""Data sets: manifests, download, verification, and the embedded data that needs no network. Imports no torch."""

from regathlon_data.digits import Digits, load_digits

__all__ = ["Digits", "load_digits"]
