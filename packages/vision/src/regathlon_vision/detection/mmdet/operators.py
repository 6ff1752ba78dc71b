"""Operators of two-stage detectors for an mmcv that was installed without its compiled ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torchvision import ops  # type: ignore[import-untyped]

from regathlon_core.errors import UserError

_NAME = "mmcv._ext"


def use_torchvision_operators() -> bool:
    """Put torchvision's NMS and RoIAlign in the place of mmcv's compiled operators, where there are none.

    onedl-mmcv has no wheels: without torch in its build environment it installs without operators, and ``import mmdet``
    fails later. Compiling takes a quarter of an hour or more. All other operators raise a ``UserError`` when called.

    Returns:
        Whether it did so; False where mmcv has compiled operators, or it was done before.
    """
    if _NAME in sys.modules or importlib.util.find_spec(_NAME) is not None:
        return False
    sys.modules[_NAME] = operators = _Operators(_NAME)
    operators.__spec__ = ModuleSpec(_NAME, None)  # mmengine asks for it
    return True


class _Operators(ModuleType):
    """Stands for the compiled module; mmcv asks it for operators by name when its modules are imported."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise UserError(
                f"mmcv was installed without compiled operators, and torchvision has no {name}. Compile mmcv's: "
                f"MAX_JOBS=2 pip install --no-build-isolation --force-reinstall --no-deps onedl-mmcv"
            )

        return missing

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
        """Return the boxes that are kept, by falling score; sides count ``offset`` pixels more."""
        if offset:
            boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
        kept: Tensor = ops.nms(boxes, scores, iou_threshold)
        return kept

    @staticmethod
    def roi_align_forward(
        input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, **options: Any
    ) -> None:
        """Write the pooled features to ``output``."""
        output.copy_(ops.roi_align(input, rois, **_options(options)))

    @staticmethod
    def roi_align_backward(
        grad: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor, **options: Any
    ) -> None:
        """Add the gradient with respect to the input to ``grad_input``."""
        with torch.enable_grad():
            # Pooling is linear: its gradient does not depend on where it is taken.
            zero = torch.zeros_like(grad_input, requires_grad=True)
            pooled = ops.roi_align(zero, rois, **_options(options))
        (found,) = torch.autograd.grad(pooled, zero, grad)
        grad_input.add_(found)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    if given["pool_mode"] != 1:
        raise UserError("Without mmcv's compiled operators RoIAlign pools averages only, not maxima.")
    return {
        "output_size": (given["aligned_height"], given["aligned_width"]),
        "spatial_scale": given["spatial_scale"],
        "sampling_ratio": given["sampling_ratio"],
        "aligned": given["aligned"],
    }
