from . import ops
from .classification.settings import ShapesSettings
from .classification.shapes import Shapes
from .classification.task import PointClassification
from .models.dgcnn import DGCNN, EdgeConv
from .models.pointnet import PointNet
from .models.pointnet2 import PointNet2
from .models.settings import DGCNNSettings, PointNet2Settings, PointNetSettings

__all__ = [
    "DGCNN",
    "DGCNNSettings",
    "EdgeConv",
    "PointClassification",
    "PointNet",
    "PointNet2",
    "PointNet2Settings",
    "PointNetSettings",
    "Shapes",
    "ShapesSettings",
    "ops",
]
