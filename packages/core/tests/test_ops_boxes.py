"""Boxes as masks, against loops."""

import itertools

import pytest
import torch

from regathlon_core.ops.boxes import box_mask, centred_box


@pytest.mark.parametrize("spatial", [(9,), (6, 11), (4, 5, 3)])
def test_box_mask_equals_loops(spatial: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(-4, 9, (30, len(spatial)), generator=generator)
    stop = start + torch.randint(-1, 8, (30, len(spatial)), generator=generator)
    mask = box_mask(start, stop, spatial)
    assert mask.shape == (30, 1, *spatial)
    for sample in range(30):
        for position in itertools.product(*(range(side) for side in spatial)):
            inside = all(int(start[sample, a]) <= at < int(stop[sample, a]) for a, at in enumerate(position))
            assert bool(mask[(sample, 0, *position)]) == inside


@pytest.mark.parametrize("side", [0, 1, 4, 5])
def test_centred_boxes_have_their_side_and_contain_their_centre(side: int) -> None:
    uniform = torch.rand(500, 2, generator=torch.Generator().manual_seed(1))
    start, stop = centred_box(uniform, [side, side], (7, 12))
    assert bool((stop - start == side).all())
    centre = (uniform * torch.tensor([7, 12])).floor()
    if side:
        assert bool(((start <= centre) & (centre < stop)).all())
    assert set(centre[:, 0].tolist()) == set(range(7))
