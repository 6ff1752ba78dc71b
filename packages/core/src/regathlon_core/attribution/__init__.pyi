from .composites import COMPOSITES, Composite
from .diagnostics import relevance_rank_accuracy
from .gradients import gradient_x_input, integrated_gradients
from .positions import relevance_of_positions
from .relevance import lrp, lrp_of_layers
from .rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, WSquare, ZPlus

__all__ = [
    "COMPOSITES",
    "AlphaBeta",
    "Composite",
    "Epsilon",
    "Flat",
    "Gamma",
    "Rule",
    "WSquare",
    "ZPlus",
    "gradient_x_input",
    "integrated_gradients",
    "lrp",
    "lrp_of_layers",
    "relevance_of_positions",
    "relevance_rank_accuracy",
]
