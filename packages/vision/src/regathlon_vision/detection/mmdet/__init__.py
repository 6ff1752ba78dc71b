"""MMDetection: its detectors as models of our tasks (``detector``), and GradAug as a hook for its own configs.

Models are trained by our engine, the hook is used with mmengine's ``Runner``. Importing this package registers ``GradAugHook``
(``custom_imports`` of a config does it). Where mmcv was installed without its compiled operators, those that two-stage
detectors need are taken from torchvision.

Raises:
    UserError: MMDetection is not installed.
"""

import importlib.util

from regathlon_core.errors import UserError
from regathlon_vision.detection.mmdet.operators import use_torchvision_operators

if importlib.util.find_spec("mmdet") is None:
    raise UserError("MMDetection is not installed: pip install 'regathlon-vision[mmdet]'")
use_torchvision_operators()

from regathlon_vision.detection.mmdet.hook import GradAugHook  # noqa: E402  needs the operators

__all__ = ["GradAugHook", "use_torchvision_operators"]
