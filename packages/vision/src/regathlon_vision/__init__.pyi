from . import ops
from .base import ImageTask
from .classification.digits import DigitsTask
from .classification.settings import ClassificationSettings, DigitsSettings
from .models.points import feature_points, output_layers
from .models.resnet import ResNet
from .models.settings import ResNet8Settings, ResNet18Settings, UNetSettings
from .models.unet import UNet
from .segmentation.scenes import ScenesTask
from .segmentation.settings import ScenesSettings, SegmentationSettings

__all__ = [
    "ClassificationSettings",
    "DigitsSettings",
    "DigitsTask",
    "ImageTask",
    "ResNet",
    "ResNet8Settings",
    "ResNet18Settings",
    "ScenesSettings",
    "ScenesTask",
    "SegmentationSettings",
    "UNet",
    "UNetSettings",
    "feature_points",
    "ops",
    "output_layers",
]
