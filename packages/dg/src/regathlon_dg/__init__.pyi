from .base import DomainData, DomainTask
from .digits import DigitDomainsTask
from .settings import DigitDomainsSettings, DomainSettings

__all__ = [
    "DigitDomainsSettings",
    "DigitDomainsTask",
    "DomainData",
    "DomainSettings",
    "DomainTask",
]
