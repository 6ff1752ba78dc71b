"""Data sets: manifests, download, verification, and embedded data that needs no network. Imports no torch.

Names are imported when they are first used: reading a manifest needs neither numpy nor a downloader.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
