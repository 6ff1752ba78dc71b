"""Training one trial: the loop, its checkpoints and what it costs. Knows no regularizer by name."""

from regathlon_core.engine.cost import Cost
from regathlon_core.engine.fit import (
    EpochRecord,
    FitResult,
    Interrupted,
    NonFiniteLoss,
    Observer,
    fit,
)

__all__ = ["Cost", "EpochRecord", "FitResult", "Interrupted", "NonFiniteLoss", "Observer", "fit"]
