from . import ops
from .base import ImageTask
from .classification.cifar import CifarTask
from .classification.digits import DigitsTask
from .classification.folders import ImageNetTask, TinyImageNetTask
from .classification.settings import (
    Cifar10Settings,
    Cifar100Settings,
    CifarSettings,
    ClassificationSettings,
    DigitsSettings,
    ImageNetSettings,
    Stl10Settings,
    TinyImageNetSettings,
)
from .models.attention_unet import AttentionUNet
from .models.dense import DeepLabV3, FCN32s
from .models.dense_settings import AttentionUNetSettings, DeepLabV3Settings, Fcn32sSettings
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
    ResNet152Settings,
    UNetSettings,
    WideResNetSettings,
)
from .models.unet import UNet
from .models.wide_resnet import WideResNet
from .segmentation.folder import PairFolderTask
from .segmentation.monuseg import MoNuSegTask
from .segmentation.scenes import ScenesTask
from .segmentation.settings import (
    MoNuSegSettings,
    PairFolderSettings,
    ScenesSettings,
    SegmentationSettings,
    VocSettings,
)
from .segmentation.voc import VocTask

__all__ = [
    "AttentionUNet",
    "AttentionUNetSettings",
    "Cifar10Settings",
    "Cifar100Settings",
    "CifarSettings",
    "CifarTask",
    "ClassificationSettings",
    "DeepLabV3",
    "DeepLabV3Settings",
    "DigitsSettings",
    "DigitsTask",
    "FCN32s",
    "Fcn32sSettings",
    "ImageNetSettings",
    "ImageNetTask",
    "ImageTask",
    "MoNuSegSettings",
    "MoNuSegTask",
    "PairFolderSettings",
    "PairFolderTask",
    "PyramidNet",
    "PyramidNetSettings",
    "RegNetX200Settings",
    "ResNet",
    "ResNet8Settings",
    "ResNet18Settings",
    "ResNet50Settings",
    "ResNet110Settings",
    "ResNet152Settings",
    "ScenesSettings",
    "ScenesTask",
    "SegmentationSettings",
    "Stl10Settings",
    "TinyImageNetSettings",
    "TinyImageNetTask",
    "UNet",
    "UNetSettings",
    "VocSettings",
    "VocTask",
    "WideResNet",
    "WideResNetSettings",
    "feature_points",
    "ops",
    "output_layers",
]
