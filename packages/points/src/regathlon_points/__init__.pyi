from . import ops
from .classification.settings import ShapesSettings
from .classification.shapes import Shapes
from .classification.task import PointClassification
from .models.pointnet import PointNet
from .models.settings import PointNetSettings

__all__ = ["PointClassification", "PointNet", "PointNetSettings", "Shapes", "ShapesSettings", "ops"]
