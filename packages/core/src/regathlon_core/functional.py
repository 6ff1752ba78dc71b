"""The stateless form of every method: tensors in, tensors out, randomness from a generator that you give.

Each has a ``sample_...`` twin beside it (``regathlon_core.regularizers.<name>.functional``) that draws what
it will do without doing it, for replaying and testing.
"""

from regathlon_core.regularizers.coral.functional import coral_penalty
from regathlon_core.regularizers.cutmix.functional import cutmix
from regathlon_core.regularizers.cutout.functional import cutout
from regathlon_core.regularizers.disout.functional import disout
from regathlon_core.regularizers.distillation.functional import distillation
from regathlon_core.regularizers.drop_path.functional import drop_path
from regathlon_core.regularizers.dropblock.functional import drop_block
from regathlon_core.regularizers.dropout.functional import dropout
from regathlon_core.regularizers.group_dro.functional import group_dro_step
from regathlon_core.regularizers.gsnr.functional import gsnr_drop_block
from regathlon_core.regularizers.irm.functional import irm_penalty
from regathlon_core.regularizers.label_smoothing.functional import label_smoothing
from regathlon_core.regularizers.mixstyle.functional import mixstyle
from regathlon_core.regularizers.mixup.functional import mixup
from regathlon_core.regularizers.partial_graph.functional import partial_graph
from regathlon_core.regularizers.random_erasing.functional import random_erasing
from regathlon_core.regularizers.reldrop.functional import sample_relevant_blocks, sample_relevant_positions
from regathlon_core.regularizers.rsc.functional import rsc_channels, rsc_pooled, rsc_positions, rsc_samples
from regathlon_core.regularizers.shakedrop.functional import shakedrop
from regathlon_core.regularizers.spatial_dropout.functional import spatial_dropout
from regathlon_core.regularizers.stochastic_depth.functional import stochastic_depth

__all__ = [
    "coral_penalty",
    "cutmix",
    "cutout",
    "disout",
    "distillation",
    "drop_block",
    "drop_path",
    "dropout",
    "group_dro_step",
    "gsnr_drop_block",
    "irm_penalty",
    "label_smoothing",
    "mixstyle",
    "mixup",
    "partial_graph",
    "random_erasing",
    "rsc_channels",
    "rsc_pooled",
    "rsc_positions",
    "rsc_samples",
    "sample_relevant_blocks",
    "sample_relevant_positions",
    "shakedrop",
    "spatial_dropout",
    "stochastic_depth",
]
