"""Dropping units: values, gradients of any order, transforms, precision."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from regathlon_core import UserError
from regathlon_core.ops.drop import drop_units, expected_scale, keep_scale


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.rand(3, 4, 5, generator=generator) < 0.3


def test_value_and_gradient_are_mask_times_scale() -> None:
    x, dropped = example()
    scale = keep_scale(dropped)
    factor = (~dropped).double() * scale
    x.requires_grad_()
    y = drop_units(x, dropped, scale)
    weight = torch.randn(x.shape, dtype=torch.float64)
    (grad,) = torch.autograd.grad((y * weight).sum(), x)
    assert torch.equal(y, x * factor)
    assert torch.equal(grad, weight * factor)


# torch's own forward-mode differentiation still scripts its decompositions.
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script:FutureWarning")


@forward_mode
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 1, 5), (1, 4, 1)])
def test_derivatives_of_every_order(shape: tuple[int, ...]) -> None:
    x, _ = example()
    dropped = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.4
    x.requires_grad_()

    def squared(x: Tensor) -> Tensor:
        return drop_units(x, dropped, 1.5) ** 2

    assert torch.autograd.gradcheck(squared, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(squared, x)


def test_a_gradient_penalty_reaches_the_weights() -> None:
    """What GSNR's and Meta-GSNR's virtual steps do: differentiate a gradient that went through the mask."""
    x, dropped = example()
    weight = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    y = drop_units(x @ weight, dropped, 2.0)
    (first,) = torch.autograd.grad((y**3).sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), weight)

    plain = (x @ weight) * (~dropped) * 2.0
    (first_plain,) = torch.autograd.grad((plain**3).sum(), weight, create_graph=True)
    (second_plain,) = torch.autograd.grad(first_plain.pow(2).sum(), weight)
    torch.testing.assert_close(second, second_plain)


@forward_mode
def test_torch_func_transforms() -> None:
    x, dropped = example()
    by_grad = torch.func.grad(lambda x: (drop_units(x, dropped, 1.5) ** 2).sum())(x)
    torch.testing.assert_close(by_grad, 2 * x * (~dropped) * 1.5**2)
    own = torch.func.vmap(lambda a, m: drop_units(a, m, 1.5))(x, dropped)
    shared = torch.func.vmap(lambda a: drop_units(a, dropped[0], 1.5))(x)
    assert torch.equal(own, x * ~dropped * 1.5)
    assert torch.equal(shared, x * ~dropped[0] * 1.5)
    hessian = torch.func.hessian(lambda x: (drop_units(x, dropped[0, 0], 1.5) ** 3).sum())(x[0, 0])
    torch.testing.assert_close(hessian, torch.diag(6 * x[0, 0] * (~dropped[0, 0]) * 1.5**3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    x, dropped = example(dtype)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = drop_units(x, dropped, keep_scale(dropped))
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    assert bool(y.isfinite().all())


def test_memory_format_is_kept() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    y = drop_units(x, torch.rand(2, 3, 4, 5) < 0.5, 1.0)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_dropped_units_are_zero_whatever_they_were() -> None:
    x = torch.tensor([float("inf"), float("nan"), -float("inf"), 1.0], requires_grad=True)
    y = drop_units(x, torch.tensor([True, True, True, False]), 2.0)
    y.sum().backward()
    assert y.tolist() == [0, 0, 0, 2]
    assert x.grad.tolist() == [0, 0, 0, 2]


def test_all_dropped_is_zero_and_not_nan() -> None:
    dropped = torch.ones(2, 3, dtype=torch.bool)
    x = torch.full((2, 3), float("inf"))
    assert float(keep_scale(dropped)) == 0
    assert not drop_units(x, dropped, keep_scale(dropped)).any()
    assert expected_scale(1.0) == 0


def test_scales() -> None:
    dropped = torch.arange(10) < 4
    assert float(keep_scale(dropped)) == pytest.approx(10 / 6)
    assert expected_scale(0.2) == pytest.approx(1.25)
    with pytest.raises(UserError, match="probability"):
        expected_scale(1.5)


def test_flops_can_be_counted_through_it() -> None:
    x, dropped = example(torch.float32)
    weight = torch.randn(5, 6, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        drop_units(x @ weight, dropped[..., :1], 1.1).sum().backward()
    assert counter.get_total_flops() == 2 * (2 * 12 * 5 * 6)
