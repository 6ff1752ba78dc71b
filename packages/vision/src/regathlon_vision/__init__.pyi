from .base import ImageTask
from .classification.digits import DigitsTask
from .classification.settings import DigitsSettings
from .models.points import feature_points, output_layers
from .models.resnet import ResNet
from .models.settings import ResNet8Settings, ResNet18Settings, UNetSettings
from .models.unet import UNet
from .segmentation.scenes import ScenesTask
from .segmentation.settings import ScenesSettings

__all__ = [
    "DigitsSettings",
    "DigitsTask",
    "ImageTask",
    "ResNet",
    "ResNet8Settings",
    "ResNet18Settings",
    "ScenesSettings",
    "ScenesTask",
    "UNet",
    "UNetSettings",
    "feature_points",
    "output_layers",
]
