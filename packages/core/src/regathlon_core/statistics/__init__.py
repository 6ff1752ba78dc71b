"""What may be concluded from a table of scores: intervals, tests paired by seed, ranks, effect sizes.

On numpy and scipy alone; a report made without torch imports it.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
