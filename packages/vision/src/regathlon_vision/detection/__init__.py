"""Object detection and instance segmentation.

Names are imported when they are first used, so that declarations can be read without importing torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
