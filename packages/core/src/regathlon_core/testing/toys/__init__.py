"""Synthetic tasks, one per layout of inputs and features: small, fast, learnable, and needing no data.

============  ==================  ==========================  =======================================
task          inputs              features                    targets
============  ==================  ==========================  =======================================
`ToyImages`   [B, 1, H, W]        [B, C, H, W]                class [B]
`ToyDomains`  [B, 1, H, W]        [B, C, H, W]                class [B], from one of two domains
`ToyScenes`   [B, 1, H, W]        [B, C, H, W]                class of each pixel [B, H, W], some ignored
`ToyPoints`   [B, 3, N]           [B, C, N] and [B, C]        class [B]
`ToyNodes`    one graph           [N, C] (``"nodes"``)        class of each node [N], most ignored
`ToyTokens`   int64 [B, N]        [B, N, C] (channels last)   class [B]
============  ==================  ==========================  =======================================

``ToyResidual`` is ``ToyImages`` for a residual network.
"""

from regathlon_core.testing.toys.domains import ToyDomains, ToyDomainsSettings
from regathlon_core.testing.toys.images import ToyImages, ToyImagesSettings
from regathlon_core.testing.toys.nodes import ToyNodes, ToyNodesSettings
from regathlon_core.testing.toys.points import ToyPoints, ToyPointsSettings
from regathlon_core.testing.toys.residual import ToyResidual, ToyResidualSettings
from regathlon_core.testing.toys.scenes import ToyScenes, ToyScenesSettings
from regathlon_core.testing.toys.tokens import ToyTokens, ToyTokensSettings

TOY_TASKS = (
    ToyImagesSettings(),
    ToyScenesSettings(),
    ToyPointsSettings(),
    ToyNodesSettings(),
    ToyTokensSettings(),
)
"""One toy task of every modality; ``ToyDomains`` is given by name to what needs domains."""

__all__ = [
    "TOY_TASKS",
    "ToyDomains",
    "ToyDomainsSettings",
    "ToyImages",
    "ToyImagesSettings",
    "ToyNodes",
    "ToyNodesSettings",
    "ToyPoints",
    "ToyPointsSettings",
    "ToyResidual",
    "ToyResidualSettings",
    "ToyScenes",
    "ToyScenesSettings",
    "ToyTokens",
    "ToyTokensSettings",
]
