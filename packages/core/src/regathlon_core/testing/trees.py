"""Tensors inside nested containers: finding, copying and comparing them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors(tree: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of nested mappings, sequences, dataclasses and graph objects, with its path.

    Graph objects are those with a ``to_dict`` method, as torch-geometric's.

    Example:
        >>> [path for path, _ in tensors({"a": torch.zeros(1), "b": [torch.zeros(2), 3]})]
        ['a', 'b.0']
    """
    if isinstance(tree, Tensor):
        yield path, tree
        return
    if hasattr(tree, "to_dict"):
        tree = tree.to_dict()
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        tree = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    elif isinstance(tree, (list, tuple)):
        tree = dict(enumerate(tree))
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from tensors(value, f"{path}.{key}" if path else str(key))


def copied(tree: Any) -> dict[str, Tensor]:
    """Return copies of all tensors of a tree by path."""
    return {path: tensor.detach().clone() for path, tensor in tensors(tree)}


def difference(first: Any, second: Any) -> str | None:
    """Return where two trees of tensors first differ, bit for bit (NaN equals NaN); None where they do not.

    Example:
        >>> difference({"a": torch.tensor([1.0])}, {"a": torch.tensor([1.5])})
        'a differs by up to 0.5'
        >>> difference([torch.zeros(2)], [torch.zeros(2)]) is None
        True
    """
    left, right = dict(tensors(first)), dict(tensors(second))
    if left.keys() != right.keys():
        return f"{', '.join(sorted(left.keys() ^ right.keys()))} on one side only"
    for path, a in left.items():
        b = right[path]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"{path or 'the tensor'} is {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
        if not torch.equal(_bits(a), _bits(b)):
            gap = (a.detach().double() - b.detach().double()).abs().max()
            return f"{path or 'the tensor'} differs by up to {float(gap):.3g}"
    return None


def _bits(x: Tensor) -> Tensor:
    # NaN is unequal to itself, and -0.0 equals 0.0: compare representations.
    x = x.detach().contiguous()
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}.get(x.element_size())
    return x.view(integer) if x.is_floating_point() and integer is not None else x
