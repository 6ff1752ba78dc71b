from .graph_classification.atlas import Atlas
from .graph_classification.settings import AtlasSettings, MutagSettings, ProteinsSettings, TuSettings
from .graph_classification.task import GraphClassification
from .graph_classification.tu import Tu
from .models.networks import GraphNetwork, NodeNetwork
from .models.settings import (
    GraphGcnSettings,
    GraphGinSettings,
    NodeGatSettings,
    NodeGcnSettings,
    NodeSageSettings,
)
from .node_classification.citation import Citation
from .node_classification.digits import DigitGraph
from .node_classification.karate import Karate
from .node_classification.settings import (
    CitationSettings,
    CiteSeerSettings,
    CoraSettings,
    DigitGraphSettings,
    KarateSettings,
    PubMedSettings,
)
from .node_classification.task import NodeClassification
from .propagation import constant

__all__ = [
    "Atlas",
    "AtlasSettings",
    "Citation",
    "CitationSettings",
    "CiteSeerSettings",
    "CoraSettings",
    "DigitGraph",
    "DigitGraphSettings",
    "GraphClassification",
    "GraphGcnSettings",
    "GraphGinSettings",
    "GraphNetwork",
    "Karate",
    "KarateSettings",
    "MutagSettings",
    "NodeClassification",
    "NodeGatSettings",
    "NodeGcnSettings",
    "NodeNetwork",
    "NodeSageSettings",
    "ProteinsSettings",
    "PubMedSettings",
    "Tu",
    "TuSettings",
    "constant",
]
