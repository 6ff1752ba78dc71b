"""Sub-networks of models that nobody rewrote: narrower (``subnetwork``), shallower (``subnetwork_depth``)."""

from regathlon_core.subnetworks.branches import residual_branches
from regathlon_core.subnetworks.depth import DepthSubNetwork, ResidualBlock, residual_blocks, subnetwork_depth
from regathlon_core.subnetworks.plan import kept_channels
from regathlon_core.subnetworks.rules import register_rule
from regathlon_core.subnetworks.width import SubNetwork, subnetwork

__all__ = [
    "DepthSubNetwork",
    "ResidualBlock",
    "SubNetwork",
    "kept_channels",
    "register_rule",
    "residual_blocks",
    "residual_branches",
    "subnetwork",
    "subnetwork_depth",
]
