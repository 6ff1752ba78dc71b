"""How relevance flows through everything that is not a layer with weights, seen at whole models too."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.attribution import Composite, Epsilon, lrp

COMPOSITE = Composite()
Function = Callable[[Tensor], Tensor]


class Calls(nn.Module):
    """A model that is one function."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def through(function: Function, x: Tensor, r: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the relevance of x, and of the function's result that it came from: random unless given."""
    with torch.no_grad():
        result = function(x.clone()).flatten(1)
    if r is None:
        r = torch.rand(result.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)
    return lrp(Calls(lambda x: function(x).flatten(1)), x.clone(), r.flatten(1)), r


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1


INDEX = torch.tensor([0, 2, 2, 3])
PASSING: dict[str, Function] = {
    "relu": F.relu,
    "relu in place": lambda x: F.relu(x * 1.0, inplace=True),
    "relu_": lambda x: (x * 1.0).relu_(),
    "relu6": F.relu6,
    "hardtanh positional": lambda x: F.hardtanh(x, 0.0, 6.0, False),
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "prelu": nn.PReLU(dtype=torch.float64),
    "gelu": F.gelu,
    "silu in place": lambda x: F.silu(x * 1.0, inplace=True),
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "group_norm": nn.GroupNorm(2, 4, dtype=torch.float64),
    "instance_norm": F.instance_norm,
    "batch-norm of the batch": lambda x: F.batch_norm(x, None, None, training=True),
    "batch-norm before any layer": nn.BatchNorm2d(4, dtype=torch.float64).eval(),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "scaled": lambda x: 3 * x / 2,
    "negated": lambda x: -x,
    "shifted": lambda x: 1 + x - 0.5,
    "from a constant": lambda x: 1 - x,
    "constant over": lambda x: 1 / x,
    "power": lambda x: x**2,
    "exponent": lambda x: 2**x,
    "clamp": lambda x: x.clamp(min=0.2),
    "type": lambda x: x.float().double(),
    "mask": lambda x: x * (x > 0),
    "swish by hand": lambda x: x * torch.sigmoid(x),
    "gate by hand": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "standardised": lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
    "rms": lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6),
    "normalize": lambda x: F.normalize(x, dim=1),
    "squared": lambda x: x * x,
}
"""Functions that send every element's relevance to the element it was made of."""


@pytest.mark.parametrize("name", PASSING)
def test_passes(name: str, x: Tensor) -> None:
    relevance, r = through(PASSING[name], x)
    torch.testing.assert_close(relevance, r.view_as(relevance))


MOVING: dict[str, Function] = {
    "view": lambda x: x.view(2, 2, -1),
    "reshape": lambda x: x.permute(0, 2, 3, 1).reshape(2, -1, 8),
    "flatten": lambda x: torch.flatten(x, 1),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "transpose": lambda x: x.transpose(1, 2).contiguous(),
    "mT": lambda x: x.mT,
    "squeeze": lambda x: x[:, :1].squeeze(1).unsqueeze(1),
    "getitem": lambda x: x[:, 1:, ::2],
    "getitem tensor": lambda x: x[:, INDEX],
    "getitem none": lambda x: x[:, None, ..., 0],
    "index_select": lambda x: x.index_select(1, INDEX),
    "gather": lambda x: x.gather(1, INDEX.view(1, 4, 1, 1).expand(2, 4, 6, 6)),
    "split": lambda x: x.split(3, 1)[1],
    "chunk": lambda x: x.chunk(2, dim=1)[0],
    "unbind": lambda x: x.unbind(1)[2],
    "expand": lambda x: x[:, :, None].expand(-1, -1, 3, -1, -1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "flip": lambda x: x.flip(1),
    "roll": lambda x: x.roll(1, 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "reflect": lambda x: F.pad(x, (1, 1, 2, 0), mode="reflect"),
    "shuffle": lambda x: F.pixel_shuffle(x, 2),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "unfold": lambda x: F.unfold(x, 3, padding=1),
    "tensor unfold": lambda x: x.unfold(2, 3, 1),
    "where": lambda x: torch.where(x > 0.5, x, 0.0),
    "masked_fill": lambda x: x.masked_fill(x > 0.5, 0.0),
    "cat": lambda x: torch.cat((x, x[:, :1]), 1),
    "stack": lambda x: torch.stack([x, x], dim=2),
    "copied": lambda x: torch.zeros_like(x).copy_(x),
    "scattered": lambda x: x.new_zeros(2, 5, 6, 6).scatter(
        1, torch.arange(4).view(1, 4, 1, 1).expand(2, 4, 6, 6), x
    ),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, padding=1),
    "max_pool module": nn.MaxPool2d(2),
    "max_pool indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "max_pool builtin": lambda x: torch.max_pool2d(x, 2),
    "adaptive_max": lambda x: F.adaptive_max_pool2d(x, 2),
    "max over dim": lambda x: x.max(1).values,
    "amax": lambda x: x.amax((2, 3)),
    "maximum": lambda x: torch.maximum(x[:, :2], x[:, 2:]),
    "topk": lambda x: x.topk(2, dim=1).values,
    "sort": lambda x: x.sort(1)[0],
    "scatter max": lambda x: x.new_zeros(2, 3, 6, 6).scatter_reduce(
        1, (INDEX % 3).view(1, 4, 1, 1).expand(2, 4, 6, 6), x, "amax", include_self=False
    ),
}
"""Functions whose results are copies of elements: relevance is the gradient with relevance in its place."""


@pytest.mark.parametrize("name", MOVING)
def test_moves(name: str, x: Tensor) -> None:
    relevance, r = through(MOVING[name], x)
    leaf = x.clone().requires_grad_()
    result = MOVING[name](leaf).flatten(1)
    (wanted,) = torch.autograd.grad(result, leaf, r.view_as(result))
    torch.testing.assert_close(relevance, wanted)


MATRIX = torch.rand(3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
ADDING: dict[str, Function] = {
    "sum": lambda x: x.sum(1),
    "mean": lambda x: x.mean((2, 3)),
    "cumsum": lambda x: x.cumsum(1),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, padding=1),
    "adaptive_avg": lambda x: F.adaptive_avg_pool2d(x, (2, 1)),
    "bilinear": lambda x: F.interpolate(x, size=(4, 9), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, size=9, mode="bicubic"),
    "fold": lambda x: F.fold(x.flatten(2), (4, 10), (1, 2), stride=(1, 1)),
    "matmul": lambda x: MATRIX @ x.flatten(2),
    "einsum": lambda x: torch.einsum("oc,bchw->bohw", MATRIX, x),
    "sparse": lambda x: torch.sparse.mm(MATRIX.to_sparse(), x[0, :, 0]),
    "scatter_add": lambda x: x.new_zeros(2, 3, 6, 6).scatter_add_(
        1, (INDEX % 3).view(1, 4, 1, 1).expand(2, 4, 6, 6), x
    ),
    "index_add": lambda x: x.new_zeros(2, 3, 6, 6).index_add(1, INDEX % 3, x),
    "scatter mean": lambda x: x.new_zeros(2, 3, 6, 6).scatter_reduce(
        1, (INDEX % 3).view(1, 4, 1, 1).expand(2, 4, 6, 6), x, "mean", include_self=False
    ),
    "sample": lambda x: F.grid_sample(x, torch.full((2, 2, 2, 2), 0.3, dtype=x.dtype), align_corners=False),
    "plus": lambda x: x[:, :2] + x[:, 2:],
    "plus in place": lambda x: (x[:, :2] * 1.0).add_(x[:, 2:], alpha=0.5),
    "python sum": lambda x: sum(x.unbind(1)),
}
"""Linear functions without a bias: R_i = x_i Σ_j w_ij R_j / z_j."""


@pytest.mark.parametrize("name", ADDING)
def test_adds(name: str, x: Tensor) -> None:
    function = ADDING[name]
    relevance, r = through(function, x)
    leaf = x.clone().requires_grad_()
    result = function(leaf).flatten(1)
    share = torch.where(result == 0, 0, r.view_as(result) / result)
    (gradient,) = torch.autograd.grad(result, leaf, share.detach())
    torch.testing.assert_close(relevance, gradient * x)


def test_addition_divides_by_hand() -> None:
    x = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    relevance, _ = through(lambda x: x[:, :1] + x[:, 1:], x, torch.ones(1, 1, dtype=torch.float64))
    torch.testing.assert_close(relevance, torch.tensor([[0.75, 0.25]], dtype=torch.float64))
    copied = lrp(Calls(lambda x: x[:, :1] + x[:, 1:]), x, 0, Composite(addition="copy"))
    assert copied.tolist() == [[1.0, 1.0]]


def test_addition_broadcasts() -> None:
    x = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    relevance, r = through(lambda x: x + x.sum(1, keepdim=True), x)
    torch.testing.assert_close(relevance.sum((1, 2)), r.sum(1))


def test_maximum_takes_all_and_ties_once() -> None:
    x = torch.tensor([[[1.0, 5.0, 5.0, 2.0]]])
    pooled = lrp(Calls(lambda x: F.max_pool1d(x, 4).flatten(1)), x, 0)
    assert pooled.sum() == 1
    assert pooled[0, 0, 1:3].max() == 1
    chosen = lrp(Calls(lambda x: x.max(2).values), x, 0)
    assert sorted(chosen.flatten().tolist()) == [0, 0, 0, 1]


def test_mean_is_proportional_and_flat_is_even() -> None:
    x = torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float64)
    relevance = lrp(Calls(lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1)), x, 0)
    torch.testing.assert_close(relevance.flatten(), torch.tensor([0.25, 0.75], dtype=torch.float64))


def test_flat_does_not_count_padding() -> None:
    # Output 0 sees inputs 0, 1 (and a padded zero), output 1 sees 0 to 2: shares 1/2 and 1/3.
    model = nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.Flatten())
    relevance = lrp(model, torch.randn(1, 1, 4), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert relevance.flatten().tolist() == [0.5, 0.5, 0.0, 0.0]
    relevance = lrp(model, torch.randn(1, 1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    torch.testing.assert_close(relevance.flatten(), torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]))


def test_what_is_subtracted_or_gates_gets_nothing() -> None:
    x = torch.tensor([[2.0, 5.0]])
    for function in (
        lambda x: x[:, :1] - x[:, 1:],
        lambda x: x[:, :1] / x[:, 1:],
        lambda x: x[:, :1] * x[:, 1:].sigmoid(),
        lambda x: x[:, 1:].sigmoid() * x[:, :1],
        lambda x: x[:, :1] * (1 - torch.sigmoid(x[:, 1:])),
        lambda x: F.glu(x, 1),
    ):
        assert lrp(Calls(function), x, 0).tolist() == [[1.0, 0.0]]
    assert lrp(Calls(lambda x: x[:, :1] * x[:, 1:]), x, 0).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("norm", [nn.LayerNorm((6, 6)), nn.LayerNorm(6, bias=False), nn.RMSNorm(6)], ids=str)
def test_layer_norms_are_linear_with_a_constant_denominator(norm: nn.Module, x: Tensor) -> None:
    randomise(norm)
    relevance, r = through(norm, x - 0.5)
    leaf = (x - 0.5).requires_grad_()
    dims = tuple(range(-len(norm.normalized_shape), 0))
    centred = leaf - leaf.mean(dims, keepdim=True) if isinstance(norm, nn.LayerNorm) else leaf
    size = (centred.square().mean(dims, keepdim=True) + (norm.eps or torch.finfo(x.dtype).eps)).sqrt()
    bias = getattr(norm, "bias", None)
    y = centred / size.detach() * norm.weight + (0 if bias is None else bias)
    torch.testing.assert_close(y, norm(leaf))
    share = (r.view_as(y) / y).detach()
    (gradient,) = torch.autograd.grad(y, leaf, share)
    wanted = gradient * leaf
    if bias is not None:
        wanted = wanted + leaf.abs() / leaf.abs().sum(dims, keepdim=True) * (share * bias).sum(
            dims, keepdim=True
        )
    torch.testing.assert_close(relevance, wanted.detach())
    torch.testing.assert_close(relevance.sum((1, 2, 3)), r.sum(1), rtol=1e-6, atol=1e-9)


def test_padding_hands_its_relevance_on() -> None:
    x = torch.rand(2, 3, 4, dtype=torch.float64)
    relevance, r = through(lambda x: F.pad(x, (1, 2)), x)
    r = r.view(2, 3, 7)
    lost = r[..., :1] + r[..., 5:].sum(-1, keepdim=True)
    torch.testing.assert_close(relevance, r[..., 1:5] + lost / 4)
    cropped, r = through(lambda x: F.pad(x, (-1, 0)), x)
    torch.testing.assert_close(cropped[..., 1:], r.view(2, 3, 3))


def test_constant_parts_hand_their_relevance_on() -> None:
    x = torch.rand(2, 3, 4, dtype=torch.float64)
    token = nn.Parameter(torch.rand(1, 1, 4, dtype=torch.float64))
    relevance, r = through(lambda x: torch.cat((token.expand(2, -1, -1), x), 1), x)
    r = r.view(2, 4, 4)
    torch.testing.assert_close(relevance, r[:, 1:] + r[:, :1] / 3)


# ---- attention ---------------------------------------------------------------------------------


def explicit_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float = 0.0
) -> Tensor:
    scores = q @ k.transpose(-2, -1) * (scale or 1 / math.sqrt(q.shape[-1]))
    if bias is not None:
        scores = scores + bias
    return torch.softmax(scores, dim=-1) @ v


@pytest.mark.parametrize("form", ["plain", "bool mask", "float mask", "causal", "scale", "grouped"])
def test_fused_attention_is_attention_written_out(form: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 5, 3, generator=generator, dtype=torch.float64)  # [B, heads, tokens, channels]
    keep = torch.rand(5, 5, generator=generator) > 0.3
    keep.fill_diagonal_(True)
    bias = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    lower = torch.ones(5, 5, dtype=torch.bool).tril()
    fused, written = {
        "plain": ({}, {}),
        "bool mask": (
            {"attn_mask": keep},
            {"bias": torch.zeros(5, 5).double().masked_fill(~keep, -math.inf)},
        ),
        "float mask": ({"attn_mask": bias}, {"bias": bias}),
        "causal": ({"is_causal": True}, {"bias": torch.zeros(5, 5).double().masked_fill(~lower, -math.inf)}),
        "scale": ({"scale": 0.3}, {"scale": 0.3}),
        "grouped": ({"enable_gqa": True}, {}),
    }[form]

    def heads(x: Tensor) -> Tensor:
        return x[:, :2] if form == "grouped" else x

    def repeated(x: Tensor) -> Tensor:
        return heads(x).repeat_interleave(2, 1) if form == "grouped" else x

    one, r = through(lambda x: F.scaled_dot_product_attention(x, 2 * heads(x), heads(x) + 1, **fused), x)
    other, _ = through(lambda x: explicit_attention(x, 2 * repeated(x), repeated(x) + 1, **written), x, r)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one.sum((1, 2, 3)), r.sum(1))
    # By hand, with the weights as constants: R_v = v Pᵀ (R / P v); queries and keys get nothing.
    v = repeated(x) + 1
    p = torch.softmax(
        x @ (2 * repeated(x)).mT * written.get("scale", 1 / math.sqrt(3)) + written.get("bias", 0), -1
    )
    by_hand = v * (p.mT @ (r.view_as(x) / (p @ v)))
    if form == "grouped":
        by_hand = torch.cat((by_hand.view(2, 2, 2, 5, 3).sum(2), torch.zeros(2, 2, 5, 3)), 1)
    torch.testing.assert_close(one, by_hand)


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_module(need_weights: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    module = randomise(nn.MultiheadAttention(8, 2, batch_first=True))
    x = torch.randn(3, 5, 8, generator=generator, dtype=torch.float64)
    model = Calls(lambda x: module(x, x, x, need_weights=need_weights)[0].flatten(1))
    r = torch.rand(3, 40, generator=generator, dtype=torch.float64)
    relevance = lrp(model, x, r, COMPOSITE)
    torch.testing.assert_close(relevance.sum((1, 2)), r.sum(1), rtol=1e-6, atol=0)

    def attended(x: Tensor) -> Tensor:
        q, k, v = F.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, -1)
        split = [part.view(3, 5, 2, 4).transpose(1, 2) for part in (q, k, v)]
        return module.out_proj(explicit_attention(*split).transpose(1, 2).reshape(3, 5, 8))

    torch.testing.assert_close(relevance, lrp(Calls(lambda x: attended(x).flatten(1)), x, r, COMPOSITE))


# ---- whole models ---------------------------------------------------------------------------------


def randomise(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.data.uniform_(0.5, 2, generator=generator)
        elif tensor.dim() < 2:
            tensor.data.normal_(0.1, 0.3, generator=generator)
        else:
            tensor.data.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
    return model.double()


def norm_conv(c_in: int, c_out: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)]


class Residual(nn.Module):
    """A basic block, with the addition and the activations written in one of several ways."""

    def __init__(self, c_in: int, c_out: int, stride: int, style: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(*norm_conv(c_in, c_out, stride), nn.ReLU(), *norm_conv(c_out, c_out))
        plain = stride == 1 and c_in == c_out
        self.skip = (
            nn.Identity()
            if plain
            else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))
        )
        self.branch[2].inplace = style == "in place"
        self.style = style

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branch(x)
        if self.style == "in place":
            out += self.skip(x)
            return out.relu_()
        if self.style == "functional":
            return F.relu(torch.add(self.skip(x), out), inplace=True)
        return torch.relu(out + self.skip(x))


def resnet(style: str = "plain") -> nn.Module:
    return nn.Sequential(
        *norm_conv(3, 8),
        nn.ReLU(inplace=style == "in place"),
        nn.MaxPool2d(3, 2, 1),
        Residual(8, 8, 1, style),
        Residual(8, 12, 2, style),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


class PreActivation(nn.Module):
    """BN-ReLU-conv blocks whose outputs are concatenated, as in DenseNet; the norms cannot merge."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(inplace=True), nn.Conv2d(c, 4, 3, padding=1))
            for c in (6, 10)
        )
        self.head = nn.Linear(14, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = torch.cat([x, block(x)], 1)
        return self.head(F.relu(x).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(*norm_conv(3, 8), nn.ReLU())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.SiLU(), nn.Conv2d(2, 8, 1), nn.Sigmoid()
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head((self.gate(x) * x).amax((2, 3)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(*norm_conv(3, 4), nn.ReLU())
        self.deep = nn.Sequential(*norm_conv(4, 8, 2), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.norm = nn.BatchNorm2d(4)
        self.fuse = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.deep(skip)
        up = F.relu(self.norm(self.up(deep)))
        wide = F.interpolate(deep[:, :4], scale_factor=2, mode="bilinear", align_corners=False)
        return self.fuse(torch.cat((skip, up, wide), 1)).amax((-2, -1))


class PointNet(nn.Module):
    """Neighbourhoods by gathered indices, centred, embedded and pooled, as in PointNet++ and DGCNN."""

    def __init__(self) -> None:
        super().__init__()
        self.edge = nn.Sequential(nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2))
        self.point = nn.Sequential(nn.Conv1d(8, 16, 1, bias=False), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, N]
        batch, channels, points = x.shape
        near = torch.cdist(x.mT, x.mT).topk(4, largest=False).indices  # [B, N, k]
        neighbours = x.gather(2, near.view(batch, 1, -1).expand(-1, channels, -1)).view(
            batch, channels, points, 4
        )
        centre = x.unsqueeze(3)
        edges = torch.cat((neighbours - centre, centre.expand_as(neighbours)), 1)
        features = self.edge(edges).max(dim=-1)[0]
        return self.head(self.point(features).max(-1).values)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.empty(1, 1, 16))
        self.position = nn.Parameter(torch.empty(1, 5, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(len(x), -1, -1), tokens), 1) + self.position
        return self.head(self.layers(tokens)[:, 0])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet": resnet,
    "preactivation": PreActivation,
    "squeeze": SqueezeExcite,
    "unet": UNet,
    "pointnet": PointNet,
    "transformer": Transformer,
}


def images_for(name: str, batch: int = 3) -> Tensor:
    shape = (batch, 3, 10) if name == "pointnet" else (batch, 3, 8, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_whole_models_conserve(name: str, batch: int) -> None:
    model = randomise(MODELS[name]())
    x = images_for(name, batch)
    relevance = lrp(model, x, torch.arange(batch))
    assert relevance.shape == x.shape
    torch.testing.assert_close(
        relevance.flatten(1).sum(1), torch.ones(batch, dtype=x.dtype), rtol=0, atol=1e-6
    )
    with torch.no_grad():
        logits = model.eval()(x)
    relevance = lrp(model, x, 2, init="logit")
    torch.testing.assert_close(relevance.flatten(1).sum(1), logits[:, 2], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_single_precision_is_close_to_double(name: str) -> None:
    model = randomise(MODELS[name]())
    x = images_for(name)
    double = lrp(model, x, 1)
    single = lrp(model.float(), x.float(), 1)
    assert single.dtype == torch.float32
    assert float((single - double).abs().max()) < 1e-2 * float(double.abs().max())


@pytest.mark.parametrize("style", ["in place", "functional"])
@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "epsilon", "epsilon_norm", "gamma", "alpha_beta"])
def test_in_place_calls_do_not_corrupt_the_record(style: str, composite: str) -> None:
    x = images_for("resnet")
    plain, other = (randomise(resnet(kind)) for kind in ("plain", style))
    other.load_state_dict(plain.state_dict())
    before = x.clone()
    torch.testing.assert_close(lrp(other, x, 1, composite), lrp(plain, x, 1, composite), rtol=1e-6, atol=1e-9)
    assert torch.equal(x, before)


def test_in_place_styles_agree_where_values_are_reused() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64)

    def apart(x: Tensor) -> Tensor:
        y = conv(x)
        z = y + 1
        return torch.cat((y.relu() * 2, z), 1).mean((2, 3))

    def in_place(x: Tensor) -> Tensor:
        y = conv(x)
        z = y + 1
        y.relu_()
        y *= 2
        return torch.cat((y, z), 1).mean((2, 3))

    def by_assignment(x: Tensor) -> Tensor:
        y = conv(x)
        out = y.new_empty(len(x), 8, 8, 8)
        out[:, :4] = y.relu() * 2
        out[:, 4:] = y + 1
        return out.mean((2, 3))

    def augmented_slice(x: Tensor) -> Tensor:
        y = conv(x)
        y = torch.cat((y.relu(), y), 1)
        y[:, :4] *= 2
        y[:, 4:] += 1
        return y.mean((2, 3))

    x = images_for("resnet")
    wanted = lrp(Calls(apart), x, 1, "epsilon")
    for function in (in_place, by_assignment, augmented_slice):
        torch.testing.assert_close(lrp(Calls(function), x, 1, "epsilon"), wanted)


def test_without_biases_epsilon_is_gradient_times_input() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        *(part for c in ((6, 9), (9, 7), (7, 4)) for part in (nn.Linear(*c, bias=False), nn.ReLU()))
    )[:-1].double()
    x = torch.randn(5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), x)
    relevance = lrp(model, x.detach(), 2, "epsilon", init="logit")
    torch.testing.assert_close(relevance, gradient * x.detach(), rtol=1e-8, atol=1e-10)


def test_linear_model_by_hand() -> None:
    model = nn.Linear(4, 3, dtype=torch.float64)
    x = torch.rand(2, 4, dtype=torch.float64)
    torch.testing.assert_close(lrp(model, x, 1, "epsilon", init="logit").sum(1), model(x)[:, 1].detach())
    relevance = lrp(model, x, 1, "epsilon")
    contributions = x * model.weight[1].detach()
    torch.testing.assert_close(relevance, contributions / contributions.sum(1, keepdim=True))


def test_official_map_conserves_nothing() -> None:
    model = randomise(resnet())
    total = lrp(model, images_for("resnet"), 1, "official_2d").sum((1, 2, 3))
    assert ((total - 1).abs() > 0.1).all()


def test_epsilon_and_norm_rules_are_gradient_times_input_without_biases() -> None:
    model = randomise(resnet()).eval()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("bias", "running_mean")):
            tensor.data.zero_()
    x = images_for("resnet").requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    for rule in (Epsilon(1e-14), Epsilon(1e-14, bias="absorb")):
        relevance = lrp(model, x.detach(), 1, Composite(linear=rule, convolution=rule), init="logit")
        torch.testing.assert_close(relevance, gradient * x.detach(), rtol=1e-6, atol=1e-9)


def test_biases_do_not_make_relevance_explode() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [part for _ in range(12) for part in (nn.Linear(32, 32), nn.GELU())]
    model = nn.Sequential(*layers, nn.Linear(32, 5)).double()
    for layer in model[::2]:
        nn.init.normal_(layer.weight, 0, 0.1, generator)
        nn.init.normal_(layer.bias, 0, 1.0, generator)
    x = torch.randn(8, 32, generator=generator, dtype=torch.float64)
    relevance = lrp(model, x, 1, "epsilon_plus")
    torch.testing.assert_close(relevance.sum(1), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float(relevance.abs().sum(1).max()) < 1e3
    assert float(lrp(model, x, 1, "epsilon").abs().sum(1).max()) > 1e6


@pytest.mark.parametrize("last", [nn.LogSoftmax(1), nn.Softmax(1)])
def test_softmax_at_the_end_is_left_out(last: nn.Module) -> None:
    model = randomise(resnet())
    x = images_for("resnet")
    for init in ("one", "logit"):
        assert torch.equal(lrp(nn.Sequential(model, last), x, 1, init=init), lrp(model, x, 1, init=init))


def test_batch_norm_merges_only_where_nothing_else_reads_the_layer() -> None:
    conv, norm = nn.Conv1d(2, 3, 1, bias=False), nn.BatchNorm1d(3)
    model = randomise(nn.ModuleList([conv, norm]))
    x = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def forward(x: Tensor) -> Tensor:
        y = conv(x)
        return torch.cat((norm(y), y), 1).flatten(1)

    model.eval()
    r = torch.rand(2, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # The norm scales channels by constants, so both halves' relevance meets at the plain convolution.
    met = (r[:, :12] + r[:, 12:]).view(2, 3, 4)
    wanted = lrp(Calls(lambda x: conv(x).flatten(1)), x, met.flatten(1), COMPOSITE)
    torch.testing.assert_close(lrp(Calls(forward), x, r, COMPOSITE), wanted)


def test_permuting_points_permutes_relevance() -> None:
    model = randomise(PointNet())
    x = images_for("pointnet")
    order = torch.randperm(10, generator=torch.Generator().manual_seed(4))
    relevance = lrp(model, x, 1)
    torch.testing.assert_close(lrp(model, x[:, :, order], 1), relevance[:, :, order], rtol=1e-7, atol=1e-12)


def test_another_class_has_another_explanation() -> None:
    model = randomise(resnet())
    x = images_for("resnet")
    labels = torch.tensor([0, 3, 2])
    relevance = lrp(model, x, labels)
    for i, label in enumerate(labels.tolist()):
        torch.testing.assert_close(relevance[i : i + 1], lrp(model, x[i : i + 1], label))
    assert not torch.allclose(relevance, lrp(model, x, labels.flip(0)))
    mixed = 0.3 * F.one_hot(labels, 5).double() + 0.7 * F.one_hot(labels.flip(0), 5).double()
    torch.testing.assert_close(lrp(model, x, mixed), 0.3 * relevance + 0.7 * lrp(model, x, labels.flip(0)))
