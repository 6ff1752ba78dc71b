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
    NucleiSettings,
    SmallFasterRCNNSettings,
    SmallMaskRCNNSettings,
)
from .task import DetectionTask, Trained

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
    "MaskRCNNSettings",
    "NucleiSettings",
    "PaddedImages",
    "Problem",
    "SmallFasterRCNNSettings",
    "SmallMaskRCNNSettings",
    "Trained",
    "from_coco",
    "load_backbone",
    "read_annotations",
]
