"""Line charts as pictures, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLUE, ORANGE, GREY = (38, 96, 196), (222, 120, 24), (130, 130, 130)
_WIDTH, _HEIGHT, _MARGIN = 480, 320, 24
_TICK = 5


def line_chart(curves: Sequence[tuple[Sequence[float], tuple[int, int, int]]]) -> Tensor:
    """Draw curves of numbers in [0, 1] over equally spaced places in [0, 1].

    Args:
        curves: Values from left to right, and a colour each; not-a-numbers are gaps.

    Returns:
        uint8 [3, 320, 480]: a frame with ticks at every quarter, 0 at the lower left.

    Example:
        >>> line_chart([([0.0, 1.0, 0.5], BLUE)]).shape
        torch.Size([3, 320, 480])
    """
    image = torch.full((3, _HEIGHT, _WIDTH), 255, dtype=torch.uint8)
    left, right, top, bottom = _MARGIN, _WIDTH - _MARGIN, _MARGIN, _HEIGHT - _MARGIN
    for quarter in range(5):
        column, row = left + (right - left) * quarter // 4, top + (bottom - top) * quarter // 4
        image[:, top : bottom + 1, column] = 225
        image[:, row, left : right + 1] = 225
        image[:, bottom : bottom + _TICK, column] = 0
        image[:, row, left - _TICK : left] = 0
    image[:, top : bottom + 1, left] = 0
    image[:, bottom, left : right + 1] = 0
    for values, colour in curves:
        heights = torch.tensor(values, dtype=torch.float64).clamp(0, 1)
        if len(heights) == 1:
            heights = heights.repeat(2)
        columns = torch.arange(left, right + 1)
        place = (columns - left).double() / (right - left) * (len(heights) - 1)
        before = place.long().clamp(max=len(heights) - 2)
        value = heights[before] + (place - before) * (heights[before + 1] - heights[before])
        known = ~value.isnan()
        columns = columns[known]
        rows = (bottom - value[known] * (bottom - top)).round().long()
        ink = torch.tensor(colour, dtype=torch.uint8)[:, None]
        for i in range(len(rows)):
            joined = i and int(columns[i - 1]) == int(columns[i]) - 1
            low, high = sorted((int(rows[i - 1] if joined else rows[i]), int(rows[i])))
            image[:, low - 1 : high + 2, int(columns[i])] = ink
    return image
