"""Sub-networks of models that nobody rewrote: narrower (``subnetwork``) or shallower (``subnetwork_depth``)."""

from regathlon_core.subnetworks.plan import kept_channels
from regathlon_core.subnetworks.rules import register_rule
from regathlon_core.subnetworks.width import SubNetwork, subnetwork

__all__ = ["SubNetwork", "kept_channels", "register_rule", "subnetwork"]
