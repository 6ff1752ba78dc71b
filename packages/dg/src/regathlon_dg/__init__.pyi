from .backbones import AlexNet
from .base import DomainData, DomainTask
from .digits import DigitDomainsTask
from .digitsnet import DigitsNet
from .folder_settings import (
    DigitsDGSettings,
    DomainNetSettings,
    FiveDigitsSettings,
    FolderSettings,
    OfficeHomeSettings,
    PACSSettings,
    PhotoSettings,
    TerraIncognitaSettings,
    VLCSSettings,
)
from .folders import FolderTask
from .gsnr_drops.evaluation import GSNRDrops
from .gsnr_drops.settings import GSNRDropsSettings
from .layouts import Layout
from .model_settings import AlexNetSettings, DigitsNetSettings, ResNet18Settings, ResNet50Settings
from .protocols import Protocol
from .settings import DigitDomainsSettings, DomainSettings

__all__ = [
    "AlexNet",
    "AlexNetSettings",
    "DigitDomainsSettings",
    "DigitDomainsTask",
    "DigitsDGSettings",
    "DigitsNet",
    "DigitsNetSettings",
    "DomainData",
    "DomainNetSettings",
    "DomainSettings",
    "DomainTask",
    "FiveDigitsSettings",
    "FolderSettings",
    "FolderTask",
    "GSNRDrops",
    "GSNRDropsSettings",
    "Layout",
    "OfficeHomeSettings",
    "PACSSettings",
    "PhotoSettings",
    "Protocol",
    "ResNet18Settings",
    "ResNet50Settings",
    "TerraIncognitaSettings",
    "VLCSSettings",
]
