from .average_precision import DetectionMetrics
from .coco import Annotations, ImageRecord, Instance, Problem, from_coco, read_annotations
from .folder import CocoFolderTask
from .images import Images
from .models import FrozenBatchNorm, PaddedImages, load_backbone
from .scenes import DetectionScenesTask
from .settings import (
    CocoFolderSettings,
    CocoSettings,
    DetectionScenesSettings,
    DetectionSettings,
    FasterRCNNSettings,
    FolderSettings,
    MaskRCNNSettings,
    MMDetFasterRCNNSettings,
    MMDetMaskRCNNSettings,
    NucleiSettings,
    SmallFasterRCNNSettings,
    SmallMaskRCNNSettings,
)
from .stages import Trained, TwoStages, two_stages
from .task import DetectionTask

__all__ = [
    "Annotations",
    "CocoFolderSettings",
    "CocoFolderTask",
    "CocoSettings",
    "DetectionMetrics",
    "DetectionScenesSettings",
    "DetectionScenesTask",
    "DetectionSettings",
    "DetectionTask",
    "FasterRCNNSettings",
    "FolderSettings",
    "FrozenBatchNorm",
    "ImageRecord",
    "Images",
    "Instance",
    "MMDetFasterRCNNSettings",
    "MMDetMaskRCNNSettings",
    "MaskRCNNSettings",
    "NucleiSettings",
    "PaddedImages",
    "Problem",
    "SmallFasterRCNNSettings",
    "SmallMaskRCNNSettings",
    "Trained",
    "TwoStages",
    "from_coco",
    "load_backbone",
    "read_annotations",
    "two_stages",
]
