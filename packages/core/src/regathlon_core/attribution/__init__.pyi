from .composites import COMPOSITES, Composite
from .diagnostics import relevance_rank_accuracy
from .gradients import gradient_x_input, integrated_gradients
from .relevance import lrp
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
    "relevance_rank_accuracy",
]
