"""GSNR-guided dropout against its supplement: ratios, which blocks they choose, and a probe that leaves no trace."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core import GSNRDrop, PassRole, UserError, run_as
from regathlon_core.functional import gsnr_drop_block
from regathlon_core.regularizers.gsnr.functional import choose_highest, gradient_snr, sample_gsnr_block_mask
from regathlon_core.rng import stream
from regathlon_core.testing import ToyImages


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "noise"), dtype=dtype)


def test_ratio_is_squared_mean_over_variance() -> None:
    grads = noise(7, 3, 4) + 0.5
    mean, variance = grads.numpy().mean(0), grads.numpy().var(0, ddof=1)
    np.testing.assert_allclose(gradient_snr(grads, relative_epsilon=0.0), mean**2 / variance, rtol=1e-12)
    torch.testing.assert_close(gradient_snr(grads), gradient_snr(grads * 1e-6), rtol=1e-9, atol=0)
    agree, cancel = torch.ones(4, 1), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    scores = gradient_snr(torch.cat([agree, cancel, noise(4, 1, dtype=torch.float32)], dim=1))
    assert int(scores.argmax()) == 0
    assert float(scores[1]) == 0


def test_the_highest_are_chosen_exactly_and_ties_by_place() -> None:
    scores = noise(5, 6)
    for count in (0, 1, 7, 30, 99):
        chosen = choose_highest(scores, count)
        wanted = sorted(scores.flatten().tolist(), reverse=True)[: min(count, 30)]
        assert sorted(scores[chosen].tolist(), reverse=True) == wanted
    assert choose_highest(torch.zeros(6), 2).tolist() == [True, True, False, False, False, False]


def planted(row: int, column: int, side: int = 9) -> Tensor:
    grads = 0.1 * noise(16, 1, side, side)
    grads[:, 0, row, column] = 1 + 1e-3 * noise(16, seed=1)
    return grads


def test_a_block_is_centred_on_the_gradient_that_chose_it() -> None:
    one = 1 / 49  # one of the 7x7 places of a block of side 3
    dropped = sample_gsnr_block_mask(planted(5, 5), one, 1.0, 3, ratio="seed")[0, 0]
    assert dropped.nonzero().tolist() == [[i, j] for i in (4, 5, 6) for j in (4, 5, 6)]
    for score in ("mean", "max"):
        corner = sample_gsnr_block_mask(planted(0, 0), one, 1.0, 3, ratio="seed", score=score)[0, 0]
        assert corner.nonzero().tolist() == [[i, j] for i in (0, 1, 2) for j in (0, 1, 2)]
    assert not bool(sample_gsnr_block_mask(planted(5, 5), 0.5, 0.0, 3).any())


def listing(x: Tensor, grads: Tensor, p: float, p_gsnr: float, b: int, generator: torch.Generator) -> Tensor:
    """The supplement's behaviour by loops: threshold, window at the lower right, blocks up and left of their seed."""
    _, channels, side, _ = x.shape
    b = min(b, side)
    g = grads.numpy()
    ratios = g.mean(0) ** 2 / (g.var(0, ddof=1) + 1e-7)
    window = side - b + 1
    k = int(channels * window * window * ((p * side * side) / (b**2 * (window * window))) * b**2)
    threshold = np.sort(ratios.ravel())[::-1][k]
    coins = (
        torch.empty(1, channels, window, window, dtype=x.dtype)
        .bernoulli_(p_gsnr, generator=generator)
        .numpy()
    )
    keep = np.ones((channels, side, side))
    for c in range(channels):
        for i in range(window):
            for j in range(window):
                if ratios[c, i + b - 1, j + b - 1] >= threshold and coins[0, c, i, j]:
                    keep[c, i : i + b, j : j + b] = 0
    return x * torch.from_numpy(keep) * (keep.size / (1e-6 + keep.sum()))


@pytest.mark.parametrize("block", [1, 3, 5, 7])
@pytest.mark.parametrize("p_gsnr", [1.0, 0.6])
def test_the_listing_number_for_number(block: int, p_gsnr: float) -> None:
    x, grads = noise(6, 4, 9, 9), noise(6, 4, 9, 9, seed=1)
    found = gsnr_drop_block(x, grads, 0.1, p_gsnr, block, variant="listing", generator=stream(0, "coins"))
    torch.testing.assert_close(
        found, listing(x, grads, 0.1, p_gsnr, block, stream(0, "coins")), atol=1e-12, rtol=0
    )


def test_where_the_listing_fails_it_says_so_and_aligned_works() -> None:
    x, grads = noise(6, 4, 8, 8), noise(6, 4, 8, 8, seed=1)
    for arguments, words in (((0.1, 1.0, 2), "even"), ((1.0, 1.0, 3), "everything")):
        with pytest.raises(UserError, match=words):
            gsnr_drop_block(x, grads, *arguments, variant="listing")
        assert gsnr_drop_block(x, grads, *arguments).shape == x.shape
    with pytest.raises(UserError, match="square"):
        gsnr_drop_block(x[:, :, :5], grads[:, :, :5], 0.1, 1.0, 3, variant="listing")
    one = x[:1]
    assert gsnr_drop_block(one, grads[:1], 0.1, 1.0, 3) is one


def test_sparse_gradients_do_not_drop_everything() -> None:
    grads = torch.zeros(8, 2, 7, 7)
    grads[:, 0, 3, 3] = noise(8, dtype=torch.float32) + 3
    dropped = sample_gsnr_block_mask(grads, 0.1, 1.0, 3)
    assert 0 < float(dropped.float().mean()) < 0.15


@pytest.mark.parametrize("shape", [(8, 16, 14), (8, 16, 9, 14), (8, 4, 5, 6, 7)])
@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_the_share_that_is_dropped(shape: tuple[int, ...], block: int) -> None:
    p = 0.15
    dropped = sample_gsnr_block_mask(noise(*shape), p, 1.0, block)
    assert dropped.shape == (1, *shape[1:])
    share = float(dropped.float().mean())
    places = math.prod(side - min(block, side) + 1 for side in shape[2:]) * shape[1]
    rounding = math.prod(min(block, side) for side in shape[2:]) / dropped.numel()
    assert places
    assert 0.75 * p <= share <= p + rounding


def test_survivors_are_scaled_alike_and_the_mask_is_shared() -> None:
    x, grads = noise(5, 4, 8, 8), noise(5, 4, 8, 8, seed=1)
    out = gsnr_drop_block(x, grads, 0.2, 1.0, 3)
    factor = out / x
    assert torch.equal((factor == 0), (factor[:1] == 0).expand_as(factor))
    kept = factor[factor != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, float(kept[0])))
    torch.testing.assert_close((factor[0]).mean(), torch.ones((), dtype=x.dtype), atol=1e-6, rtol=0)


def test_the_probe_asks_for_the_gradients_of_the_plain_pass_and_leaves_no_trace() -> None:
    task = ToyImages()
    model = task.model(seed=0).double().train()
    batch = task.batch("train", torch.arange(16))
    batch = batch.replace(inputs=batch.inputs.double())
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    before = torch.get_rng_state()
    regularizer = GSNRDrop(p=0.2, block_size=3)
    regularizer.attach(model, task)
    regularizer.transform(model, batch, task, stream(0, "probe"))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), before)

    found = regularizer._gradients["block2"]
    regularizer.detach()
    with run_as(model, PassRole.PROBE), torch.no_grad():
        features = model.get_submodule("block2")(model.get_submodule("block1")(batch.inputs))

        def loss(x: Tensor) -> Tensor:
            return F.cross_entropy(model.get_submodule("head")(x.amax(dim=(2, 3))), batch.targets)

        step = torch.zeros_like(features).flatten()
        step[found.abs().argmax()] = 1e-6
        step = step.view_as(features)
        numeric = (loss(features + step) - loss(features - step)) / 2e-6
    assert float(found.abs().max()) > 1e-3
    assert float(found[step != 0]) == pytest.approx(float(numeric), rel=1e-6)


def test_gradients_before_a_global_average_are_constant_and_whole_channels_are_chosen() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    images, labels = noise(8, 1, 7, 7, dtype=torch.float32), torch.arange(8) % 3
    features = model[0](images)
    grads = torch.autograd.grad(F.cross_entropy(model[1:](features), labels), features)[0]
    assert torch.equal(grads, grads[:, :, :1, :1].expand_as(grads))
    dropped = sample_gsnr_block_mask(grads, 1 / 6, 1.0, 1, ratio="seed")[0]
    assert sorted(dropped.flatten(1).float().mean(1).tolist()) == [0, 0, 0, 0, 0, 1]


def test_a_batch_of_one_drops_nothing() -> None:
    task = ToyImages()
    model = task.model(seed=0).train()
    regularizer = GSNRDrop(p=0.5, block_size=3)
    regularizer.attach(model, task)
    one = task.batch("train", torch.arange(1))
    regularizer.transform(model, one, task, stream(0, "one"))
    with_it = model(one.inputs)
    regularizer.detach()
    assert torch.equal(with_it, model(one.inputs))
