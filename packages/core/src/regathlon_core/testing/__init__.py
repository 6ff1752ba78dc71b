"""The conformance kit: what every regularizer must do, importable by anyone."""
from regathlon_core.testing.toys import ToyImages

__all__ = ["ToyImages"]
