from . import ops
from .classification.published import Collection
from .classification.settings import (
    ModelNet10Settings,
    ModelNet40Settings,
    ScanObjectNNSettings,
    ShapeNet16Settings,
    ShapeNet55Settings,
    ShapesSettings,
)
from .classification.shapes import Shapes
from .classification.task import PointClassification
from .models.dgcnn import DGCNN, EdgeConv
from .models.pointnet import PointNet
from .models.pointnet2 import PointNet2
from .models.settings import DGCNNSettings, PointNet2Settings, PointNetSettings

__all__ = [
    "DGCNN",
    "Collection",
    "DGCNNSettings",
    "EdgeConv",
    "ModelNet10Settings",
    "ModelNet40Settings",
    "PointClassification",
    "PointNet",
    "PointNet2",
    "PointNet2Settings",
    "PointNetSettings",
    "ScanObjectNNSettings",
    "ShapeNet16Settings",
    "ShapeNet55Settings",
    "Shapes",
    "ShapesSettings",
    "ops",
]
