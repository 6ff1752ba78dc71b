from .engine import Cost, EpochRecord, FitResult, Interrupted, NonFiniteLoss, Observer, fit
from .errors import UserError
from .features import FeaturePoint
from .passes import PassRole, current_role, run_as
from .recipe import Budget, Recipe
from .regularizer import Compose, FeatureRegularizer, Regularizer, build_regularizer
from .regularizers.none.regularizer import NoRegularizer
from .regularizers.none.settings import NoRegularizerSettings
from .rng import SampleDraw, derive_seed, stream
from .settings import ModelSettings, RegularizerSettings, Stage, TaskSettings, check_composition
from .task import Batch, Mixed, Task, View

__all__ = [
    "Batch",
    "Budget",
    "Compose",
    "Cost",
    "EpochRecord",
    "FeaturePoint",
    "FeatureRegularizer",
    "FitResult",
    "Interrupted",
    "Mixed",
    "ModelSettings",
    "NoRegularizer",
    "NoRegularizerSettings",
    "NonFiniteLoss",
    "Observer",
    "PassRole",
    "Recipe",
    "Regularizer",
    "RegularizerSettings",
    "SampleDraw",
    "Stage",
    "Task",
    "TaskSettings",
    "UserError",
    "View",
    "build_regularizer",
    "check_composition",
    "current_role",
    "derive_seed",
    "fit",
    "run_as",
    "stream",
]
