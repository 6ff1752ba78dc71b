from . import functional
from .engine import Cost, EpochRecord, FitResult, Interrupted, NonFiniteLoss, Observer, fit
from .errors import UserError
from .evaluation import Evaluation, Findings, Picture
from .features import FeaturePoint
from .passes import PassRole, current_role, run_as
from .recipe import Budget, Recipe
from .regularizer import Compose, FeatureRegularizer, Regularizer, build_regularizer
from .regularizers.coral.regularizer import CORAL
from .regularizers.coral.settings import CORALSettings
from .regularizers.cutmix.regularizer import CutMix
from .regularizers.cutmix.settings import CutMixSettings
from .regularizers.cutout.regularizer import Cutout
from .regularizers.cutout.settings import CutoutSettings
from .regularizers.disout.regularizer import Disout
from .regularizers.disout.settings import DisoutSettings
from .regularizers.distillation.regularizer import Distillation
from .regularizers.distillation.settings import DistillationSettings
from .regularizers.drop_path.regularizer import DropPath
from .regularizers.drop_path.settings import DropPathSettings
from .regularizers.dropblock.regularizer import DropBlock
from .regularizers.dropblock.settings import DropBlockSettings
from .regularizers.dropgraph.regularizer import DropGraph
from .regularizers.dropgraph.settings import DropGraphSettings
from .regularizers.dropout.regularizer import Dropout
from .regularizers.dropout.settings import DropoutSettings
from .regularizers.gradaug.regularizer import GradAug, RandDepth, RandRot, RandScale, RandWidth
from .regularizers.gradaug.settings import (
    GradAugSettings,
    RandDepthSettings,
    RandRotSettings,
    RandScaleSettings,
    RandWidthSettings,
)
from .regularizers.gradaug_semi.regularizer import GradAugSemi
from .regularizers.gradaug_semi.settings import GradAugSemiSettings
from .regularizers.group_dro.regularizer import GroupDRO
from .regularizers.group_dro.settings import GroupDROSettings
from .regularizers.gsnr.regularizer import GSNRDrop
from .regularizers.gsnr.settings import GSNRDropSettings
from .regularizers.irm.regularizer import IRM
from .regularizers.irm.settings import IRMSettings
from .regularizers.label_smoothing.regularizer import LabelSmoothing
from .regularizers.label_smoothing.settings import LabelSmoothingSettings
from .regularizers.mean_teacher.regularizer import MeanTeacher
from .regularizers.mean_teacher.settings import MeanTeacherSettings
from .regularizers.meta_gsnr.regularizer import MetaGSNR
from .regularizers.meta_gsnr.settings import MetaGSNRSettings
from .regularizers.mixstyle.regularizer import MixStyle
from .regularizers.mixstyle.settings import MixStyleSettings
from .regularizers.mixup.regularizer import Mixup
from .regularizers.mixup.settings import MixupSettings
from .regularizers.mixup_domains.regularizer import MixupDomains
from .regularizers.mixup_domains.settings import MixupDomainsSettings
from .regularizers.mldg.regularizer import MLDG
from .regularizers.mldg.settings import MLDGSettings
from .regularizers.none.regularizer import NoRegularizer
from .regularizers.none.settings import NoRegularizerSettings
from .regularizers.partial_graph.regularizer import PartialGraph
from .regularizers.partial_graph.settings import PartialGraphSettings
from .regularizers.random_erasing.regularizer import RandomErasing
from .regularizers.random_erasing.settings import RandomErasingSettings
from .regularizers.reldrop.regularizer import RelDrop
from .regularizers.reldrop.settings import RelDropSettings
from .regularizers.rsc.regularizer import RSC
from .regularizers.rsc.settings import RSCSettings
from .regularizers.shakedrop.regularizer import ShakeDrop
from .regularizers.shakedrop.settings import ShakeDropSettings
from .regularizers.spatial_dropout.regularizer import SpatialDropout
from .regularizers.spatial_dropout.settings import SpatialDropoutSettings
from .regularizers.stochastic_depth.regularizer import StochasticDepth
from .regularizers.stochastic_depth.settings import StochasticDepthSettings
from .regularizers.weight_average.regularizer import WeightAverage
from .regularizers.weight_average.settings import WeightAverageSettings
from .rng import SampleDraw, derive_seed, stream
from .settings import (
    EvaluationSettings,
    ModelSettings,
    RegularizerSettings,
    Stage,
    TaskSettings,
    check_composition,
)
from .subnetworks import subnetwork, subnetwork_depth
from .task import Batch, Mixed, Task, View

__all__ = [
    "CORAL",
    "IRM",
    "MLDG",
    "RSC",
    "Batch",
    "Budget",
    "CORALSettings",
    "Compose",
    "Cost",
    "CutMix",
    "CutMixSettings",
    "Cutout",
    "CutoutSettings",
    "Disout",
    "DisoutSettings",
    "Distillation",
    "DistillationSettings",
    "DropBlock",
    "DropBlockSettings",
    "DropGraph",
    "DropGraphSettings",
    "DropPath",
    "DropPathSettings",
    "Dropout",
    "DropoutSettings",
    "EpochRecord",
    "Evaluation",
    "EvaluationSettings",
    "FeaturePoint",
    "FeatureRegularizer",
    "Findings",
    "FitResult",
    "GSNRDrop",
    "GSNRDropSettings",
    "GradAug",
    "GradAugSemi",
    "GradAugSemiSettings",
    "GradAugSettings",
    "GroupDRO",
    "GroupDROSettings",
    "IRMSettings",
    "Interrupted",
    "LabelSmoothing",
    "LabelSmoothingSettings",
    "MLDGSettings",
    "MeanTeacher",
    "MeanTeacherSettings",
    "MetaGSNR",
    "MetaGSNRSettings",
    "MixStyle",
    "MixStyleSettings",
    "Mixed",
    "Mixup",
    "MixupDomains",
    "MixupDomainsSettings",
    "MixupSettings",
    "ModelSettings",
    "NoRegularizer",
    "NoRegularizerSettings",
    "NonFiniteLoss",
    "Observer",
    "PartialGraph",
    "PartialGraphSettings",
    "PassRole",
    "Picture",
    "RSCSettings",
    "RandDepth",
    "RandDepthSettings",
    "RandRot",
    "RandRotSettings",
    "RandScale",
    "RandScaleSettings",
    "RandWidth",
    "RandWidthSettings",
    "RandomErasing",
    "RandomErasingSettings",
    "Recipe",
    "Regularizer",
    "RegularizerSettings",
    "RelDrop",
    "RelDropSettings",
    "SampleDraw",
    "ShakeDrop",
    "ShakeDropSettings",
    "SpatialDropout",
    "SpatialDropoutSettings",
    "Stage",
    "StochasticDepth",
    "StochasticDepthSettings",
    "Task",
    "TaskSettings",
    "UserError",
    "View",
    "WeightAverage",
    "WeightAverageSettings",
    "build_regularizer",
    "check_composition",
    "current_role",
    "derive_seed",
    "fit",
    "functional",
    "run_as",
    "stream",
    "subnetwork",
    "subnetwork_depth",
]
