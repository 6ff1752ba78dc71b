from . import ops
from .base import ImageTask
from .classification.cifar import CifarTask
from .classification.digits import DigitsTask
from .classification.settings import (
    Cifar10Settings,
    Cifar100Settings,
    CifarSettings,
    ClassificationSettings,
    DigitsSettings,
)
from .models.points import feature_points, output_layers
from .models.pyramidnet import PyramidNet
from .models.resnet import ResNet
from .models.settings import (
    PyramidNetSettings,
    RegNetX200Settings,
    ResNet8Settings,
    ResNet18Settings,
    ResNet50Settings,
    ResNet110Settings,
    UNetSettings,
    WideResNetSettings,
)
from .models.unet import UNet
from .models.wide_resnet import WideResNet
from .segmentation.scenes import ScenesTask
from .segmentation.settings import ScenesSettings, SegmentationSettings

__all__ = [
    "Cifar10Settings",
    "Cifar100Settings",
    "CifarSettings",
    "CifarTask",
    "ClassificationSettings",
    "DigitsSettings",
    "DigitsTask",
    "ImageTask",
    "PyramidNet",
    "PyramidNetSettings",
    "RegNetX200Settings",
    "ResNet",
    "ResNet8Settings",
    "ResNet18Settings",
    "ResNet50Settings",
    "ResNet110Settings",
    "ScenesSettings",
    "ScenesTask",
    "SegmentationSettings",
    "UNet",
    "UNetSettings",
    "WideResNet",
    "WideResNetSettings",
    "feature_points",
    "ops",
    "output_layers",
]
