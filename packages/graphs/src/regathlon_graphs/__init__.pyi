from .graph_classification.atlas import Atlas
from .graph_classification.ogbg import Ogbg
from .graph_classification.ogbg_settings import (
    MolBaceSettings,
    MolHivSettings,
    MolPcbaSettings,
    OgbgSettings,
    PpaSettings,
)
from .graph_classification.settings import AtlasSettings, MutagSettings, ProteinsSettings, TuSettings
from .graph_classification.task import GraphClassification
from .graph_classification.tu import Tu
from .models.networks import GraphNetwork, NodeNetwork
from .models.ogb_gcn import OgbGcn
from .models.settings import (
    GraphGcnSettings,
    GraphGinSettings,
    NodeGatSettings,
    NodeGcnSettings,
    NodeSageSettings,
    OgbGcnSettings,
)
from .node_classification.citation import Citation
from .node_classification.digits import DigitGraph
from .node_classification.karate import Karate
from .node_classification.ogbn import Clustered, Ogbn
from .node_classification.ogbn_settings import (
    ArxivSettings,
    ClusteredSettings,
    OgbnSettings,
    ProductsSettings,
)
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
from .regularizers.drop_edge.regularizer import DropEdge
from .regularizers.drop_edge.settings import DropEdgeSettings
from .regularizers.drop_message.regularizer import DropMessage
from .regularizers.drop_message.settings import DropMessageSettings
from .regularizers.drop_node.regularizer import DropNode
from .regularizers.drop_node.settings import DropNodeSettings
from .regularizers.grand.regularizer import Grand
from .regularizers.grand.settings import GrandSettings

__all__ = [
    "ArxivSettings",
    "Atlas",
    "AtlasSettings",
    "Citation",
    "CitationSettings",
    "CiteSeerSettings",
    "Clustered",
    "ClusteredSettings",
    "CoraSettings",
    "DigitGraph",
    "DigitGraphSettings",
    "DropEdge",
    "DropEdgeSettings",
    "DropMessage",
    "DropMessageSettings",
    "DropNode",
    "DropNodeSettings",
    "Grand",
    "GrandSettings",
    "GraphClassification",
    "GraphGcnSettings",
    "GraphGinSettings",
    "GraphNetwork",
    "Karate",
    "KarateSettings",
    "MolBaceSettings",
    "MolHivSettings",
    "MolPcbaSettings",
    "MutagSettings",
    "NodeClassification",
    "NodeGatSettings",
    "NodeGcnSettings",
    "NodeNetwork",
    "NodeSageSettings",
    "OgbGcn",
    "OgbGcnSettings",
    "Ogbg",
    "OgbgSettings",
    "Ogbn",
    "OgbnSettings",
    "PpaSettings",
    "ProductsSettings",
    "ProteinsSettings",
    "PubMedSettings",
    "Tu",
    "TuSettings",
    "constant",
]
