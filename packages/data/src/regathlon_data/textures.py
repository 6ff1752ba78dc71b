"""Smooth random fields, and images resized and warped with numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def resize(image: Float, height: int, width: int) -> Float:
    """Resize an image by linear interpolation between pixel centres.

    Args:
        image: float32 [H, W, ...].
        height: Of the result.
        width: Of the result.

    Returns:
        float32 [height, width, ...].

    Example:
        >>> resize(np.array([[0, 1]], dtype=np.float32), 1, 4).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    rows, columns = _weights(image.shape[0], height), _weights(image.shape[1], width)
    across = np.tensordot(image, columns, axes=([1], [1]))  # [H, ..., width]
    resized: Float = np.moveaxis(np.tensordot(rows, across, axes=1), -1, 1)
    return resized


def _weights(old: int, new: int) -> Float:
    """Matrix [new, old] whose rows mix the two nearest of ``old`` pixels; edges are repeated."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(position[:, None] - np.arange(old))), dtype=np.float32)


def warp(image: Float, matrix: NDArray[np.float64]) -> Float:
    """Transform an image linearly about its centre; outside of it lies 0.

    Args:
        image: float32 [H, W].
        matrix: 2x2, takes (row, column) of the result, from the centre, to where its value comes from.

    Returns:
        float32 [H, W], interpolated linearly.

    Example:
        >>> image = np.array([[1, 2], [3, 4]], dtype=np.float32)
        >>> warp(image, -np.eye(2)).tolist()
        [[4.0, 3.0], [2.0, 1.0]]
    """
    height, width = image.shape
    centre = np.array([height - 1, width - 1])[:, None, None] / 2
    source = np.tensordot(matrix, np.indices((height, width)) - centre, axes=1) + centre
    padded = np.pad(image, 1)
    row, column = np.clip(source[0] + 1, 0, height + 1), np.clip(source[1] + 1, 0, width + 1)
    top, left = np.minimum(row.astype(int), height), np.minimum(column.astype(int), width)
    down, right = row - top, column - left
    upper = padded[top, left] * (1 - right) + padded[top, left + 1] * right
    lower = padded[top + 1, left] * (1 - right) + padded[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float32)


def smooth_field(rng: np.random.Generator, height: int, width: int, channels: int, cells: int) -> Float:
    """Draw a smooth random field: uniform noise on ``cells`` x ``cells`` points, interpolated.

    Returns:
        float32 [height, width, channels], in [0, 1].
    """
    return resize(rng.random((cells, cells, channels), dtype=np.float32), height, width)
