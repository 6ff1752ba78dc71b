from .comparison import Gain, Pair, TableComparison, compare_methods, holm
from .effects import EffectSize, SeedsNeeded, effect_size, seeds_needed
from .paired import PairedTest, TestMethod, least_seeds, paired_test, smallest_p
from .ranks import (
    CriticalDifference,
    Friedman,
    Ranks,
    average_ranks,
    cliques,
    critical_difference,
    critical_difference_diagram,
    friedman,
)
from .summary import Interval, Scores, Seed, Summary, confidence_interval, difference_interval, summarize

__all__ = [
    "CriticalDifference",
    "EffectSize",
    "Friedman",
    "Gain",
    "Interval",
    "Pair",
    "PairedTest",
    "Ranks",
    "Scores",
    "Seed",
    "SeedsNeeded",
    "Summary",
    "TableComparison",
    "TestMethod",
    "average_ranks",
    "cliques",
    "compare_methods",
    "confidence_interval",
    "critical_difference",
    "critical_difference_diagram",
    "difference_interval",
    "effect_size",
    "friedman",
    "holm",
    "least_seeds",
    "paired_test",
    "seeds_needed",
    "smallest_p",
    "summarize",
]
