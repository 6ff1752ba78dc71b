from .base import DomainTask
from .digits import DigitDomainsTask
from .settings import DigitDomainsSettings, DomainSettings

__all__ = [
    "DigitDomainsSettings",
    "DigitDomainsTask",
    "DomainSettings",
    "DomainTask",
]
