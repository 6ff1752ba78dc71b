"""What a model relied on: Layer-wise Relevance Propagation through any model, and its alternatives."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
