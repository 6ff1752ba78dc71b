"""Sub-networks of small models, one per mechanism, against genuinely smaller models that hold the gathered
weights.

Each case builds the same class with full and with reduced channel counts. The reduced one gets the first rows
and columns of every weight, except where a case lists other positions: those of segments, written down by
hand.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from regathlon_core.subnetworks import kept_channels, subnetwork

WIDTH = 0.7


def c(channels: int) -> int:
    return kept_channels(channels, WIDTH)


def segments(*sizes: int) -> list[int]:
    """Positions kept of a concatenation of axes."""
    kept, start = [], 0
    for size in sizes:
        kept += range(start, start + c(size))
        start += size
    return kept


def heads(count: int, size: int, *, packed: int = 1) -> list[int]:
    """Positions kept of ``packed`` × heads × head size, where heads go."""
    return [
        (part * count + head) * size + at
        for part in range(packed)
        for head in range(c(count))
        for at in range(size)
    ]


@dataclass
class Case:
    build: Callable[..., nn.Module]
    full: tuple[Any, ...]
    reduced: tuple[Any, ...]
    inputs: Callable[[torch.Generator], tuple[Any, ...]]
    gathered: dict[str, tuple[list[int] | None, ...]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def images(*shape: int) -> Callable[[torch.Generator], tuple[Tensor]]:
    return lambda generator: (torch.randn(*shape, generator=generator, dtype=torch.float64),)


def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Give every parameter and statistic a value of its own, so that a wrong slice shows."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))


def gather(case: Case, name: str, tensor: Tensor, target: Tensor) -> Tensor:
    positions = case.gathered.get(name, ())
    for axis in range(tensor.dim()):
        chosen = positions[axis] if axis < len(positions) else None
        chosen = list(range(target.shape[axis])) if chosen is None else chosen
        tensor = tensor.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    return tensor


# ---- models ------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Residual blocks with an identity and a projected shortcut, and squeeze-and-excitation."""

    def __init__(self, a: int, b: int, mid: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, a, 3, padding=1)
        self.one, self.norm1 = nn.Conv2d(a, a, 3, padding=1, bias=False), nn.BatchNorm2d(a)
        self.squeeze, self.excite = nn.Conv2d(a, mid, 1), nn.Conv2d(mid, a, 1)
        self.two, self.norm2 = nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b)
        self.down = nn.Sequential(nn.Conv2d(a, b, 1, stride=2), nn.BatchNorm2d(b))
        self.fc = nn.Linear(b, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x), inplace=True)
        y = self.norm1(self.one(x))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        x = F.relu(x + y)
        y = self.norm2(self.two(x))
        y += self.down(x)
        return self.fc(torch.flatten(F.leaky_relu(y).mean((2, 3)), 1))


class Grouped(nn.Module):
    """Grouped, depthwise and transposed grouped convolutions, and group-norm."""

    def __init__(self, groups: int, hidden: int, last: int) -> None:
        super().__init__()
        wide = groups * 3
        self.enter = nn.Conv2d(3, wide, 1)
        self.grouped = nn.Conv2d(wide, groups * 2, 3, padding=1, groups=groups)
        self.norm = nn.GroupNorm(groups, groups * 2)
        self.mix = nn.Conv2d(groups * 2, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, padding_mode="reflect")
        self.instance = nn.InstanceNorm2d(hidden, affine=True)
        self.spread = nn.Conv2d(hidden, 2 * hidden, 3, groups=hidden)
        self.up = nn.ConvTranspose2d(2 * hidden, 2 * hidden, 2, stride=2, groups=hidden)
        self.narrow = nn.ConvTranspose2d(2 * hidden, last, 2)
        self.out = nn.Conv2d(last, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.grouped(self.enter(x))))
        x = F.hardswish(self.instance(self.depthwise(self.mix(x))))
        return self.out(F.elu(self.narrow(self.up(self.spread(x)))))


class Dense(nn.Module):
    """Dense connections: each layer sees the concatenation of all before it."""

    def __init__(self, stem: int, growth: int, transition: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(stem + i * growth) for i in range(3))
        self.layers = nn.ModuleList(nn.Conv2d(stem + i * growth, growth, 3, padding=1) for i in range(3))
        self.transition = nn.Conv2d(stem + 3 * growth, transition, 1)
        self.fc = nn.Linear(transition * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features.append(layer(F.relu(norm(torch.cat(features, 1)))))
        x = F.max_pool2d(self.transition(torch.cat(features, 1)), 4)
        return self.fc(x.view(x.size(0), -1))


class UNet(nn.Module):
    """Concatenated skips, a transposed convolution and padding to the skip's size."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.down1, self.norm1 = nn.Conv2d(1, a, 3, padding=1), nn.BatchNorm2d(a)
        self.down2, self.norm2 = nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)
        self.up = nn.ConvTranspose2d(b, a, 2, stride=2)
        self.fuse1 = nn.Conv2d(a + a, a, 3, padding=1)
        self.fuse2 = nn.Conv2d(a + b, a, 1)
        self.out = nn.Conv2d(a, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.norm1(self.down1(x)))
        deep = F.relu(self.norm2(self.down2(F.max_pool2d(skip, 2))))
        up = self.up(deep)
        up = F.pad(up, [0, skip.shape[3] - up.shape[3], 0, skip.shape[2] - up.shape[2]])
        x = F.relu(self.fuse1(torch.cat([skip, up], dim=1)))
        larger = F.interpolate(deep, size=x.shape[-2:], mode="bilinear", align_corners=True)
        return self.out(self.fuse2(torch.cat((x, larger), dim=1)))


class Transformer(nn.Module):
    """Tokens, packed q/k/v as timm writes it, layer scale, class token and position embedding."""

    def __init__(self, dim: int, heads: int, hidden: int, head: int = 4) -> None:
        super().__init__()
        self.heads, self.head, self.dim = heads, head, dim
        self.patch = nn.Conv2d(3, dim, 4, stride=4)
        self.cls, self.pos = nn.Parameter(torch.zeros(1, 1, dim)), nn.Parameter(torch.zeros(1, 5, dim))
        self.norm1, self.norm2, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.RMSNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * heads * head), nn.Linear(heads * head, dim)
        self.scale = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(heads, 5, 5))
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.fc = nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = self.patch(x)
        x = x.reshape(n, self.dim, -1).permute(0, 2, 1)
        x = torch.cat([self.cls.expand(n, -1, -1), x], dim=1) + self.pos
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, self.head).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attention = (q * self.head**-0.5) @ k.transpose(-2, -1) + self.bias
        y = attention.softmax(dim=-1) @ v
        x = x + self.scale * self.proj(y.transpose(1, 2).reshape(b, t, self.heads * self.head))
        x = x + self.mlp(self.norm2(x))
        return self.fc(self.norm(x)[:, 0])


class EncoderDecoder(nn.Module):
    """torch's own attention modules: packed self-attention, cross-attention, masks."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(11, dim), nn.Embedding(7, dim)
        self.encoder = nn.TransformerEncoderLayer(dim, heads, hidden, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(
            dim, heads, hidden, dropout=0.0, batch_first=True, activation="gelu"
        )
        self.out = nn.Linear(dim, 7)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.encoder(self.source(source), src_key_padding_mask=source == 0)
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.float64)
        return self.out(self.decoder(self.target(target), memory, tgt_mask=causal, tgt_is_causal=True))


class GroupedQuery(nn.Module):
    """Rotary embedding, fewer key and value heads than queries, scaled_dot_product_attention, a gated MLP."""

    def __init__(self, dim: int, kv: int, hidden: int) -> None:
        super().__init__()
        self.kv, self.queries = kv, 2 * kv
        self.q, self.k, self.v = (nn.Linear(dim, heads * 4, bias=False) for heads in (2 * kv, kv, kv))
        self.enter, self.proj = nn.Linear(6, dim), nn.Linear(2 * kv * 4, dim, bias=False)
        self.gate, self.down = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)
        self.out = nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        b, t, _ = x.shape
        q = self.rotate(self.q(x).view(b, t, self.queries, 4).transpose(1, 2))
        k, v = (layer(x).view(b, t, self.kv, 4).transpose(1, 2) for layer in (self.k, self.v))
        k, v = (
            y[:, :, None].expand(b, self.kv, 2, t, 4).reshape(b, self.queries, t, 4)
            for y in (self.rotate(k), v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).contiguous().view(b, t, -1))
        value, gate = self.gate(x).chunk(2, dim=-1)
        return self.out(x + self.down(value * F.silu(gate))).mean(1)

    @staticmethod
    def rotate(x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * torch.tensor([1.0, 0.1], dtype=x.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()
        return torch.stack(turned, dim=-1).flatten(-2)


class Shuffle(nn.Module):
    """Channel split and shuffle, as ShuffleNetV2 has them."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2 * half, 3, padding=1)
        self.units = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(half, half, 1),
                nn.BatchNorm2d(half),
                nn.Conv2d(half, half, 3, padding=1, groups=half),
            )
            for _ in range(3)
        )
        self.head = nn.Conv2d(2 * half, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for unit in self.units:
            left, right = x.chunk(2, dim=1)
            x = torch.cat((left, unit(right)), dim=1)
            n, channels, h, w = x.size()
            x = x.view(n, 2, channels // 2, h, w).transpose(1, 2).contiguous().view(n, channels, h, w)
        return self.head(x)


class PointGraph(nn.Module):
    """DGCNN: neighbours in feature space, edges [xⱼ - xᵢ ; xᵢ], all levels concatenated."""

    def __init__(self, a: int, b: int, d: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(6, a, 1, bias=False), nn.BatchNorm2d(a), nn.LeakyReLU(0.2))
        self.conv2 = nn.Sequential(nn.Conv2d(2 * a, b, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2))
        self.conv3 = nn.Sequential(nn.Conv2d(2 * b, b, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2))
        self.conv4 = nn.Sequential(
            nn.Conv1d(a + b + b, d, 1, bias=False), nn.BatchNorm1d(d), nn.LeakyReLU(0.2)
        )
        self.fc = nn.Linear(2 * d, 4)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for conv in (self.conv1, self.conv2, self.conv3):
            x = conv(self.edges(x, 3)).max(dim=-1, keepdim=False)[0]
            levels.append(x)
        x = self.conv4(torch.cat(levels, dim=1))
        pooled = [
            F.adaptive_max_pool1d(x, 1).view(x.shape[0], -1),
            F.adaptive_avg_pool1d(x, 1).view(x.shape[0], -1),
        ]
        return self.fc(torch.cat(pooled, 1))

    @staticmethod
    def edges(x: Tensor, k: int) -> Tensor:
        batch, channels, points = x.size()
        inner = -2 * torch.matmul(x.transpose(2, 1), x)
        square = torch.sum(x**2, dim=1, keepdim=True)
        nearest = (-square - inner - square.transpose(2, 1)).topk(k=k, dim=-1)[1]
        nearest = (nearest + torch.arange(batch).view(-1, 1, 1) * points).view(-1)
        x = x.transpose(2, 1).contiguous()
        feature = x.view(batch * points, -1)[nearest, :].view(batch, points, k, channels)
        x = x.view(batch, points, 1, channels).repeat(1, 1, k, 1)
        return torch.cat((feature - x, x), dim=3).permute(0, 3, 1, 2).contiguous()


class PointSets(nn.Module):
    """PointNet++: grouping by gathered neighbours, a shared MLP, the maximum over them; then interpolation back."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, a, 1)
        self.second, self.norm = nn.Conv2d(3 + a, b, 1), nn.BatchNorm2d(b)
        self.back = nn.Conv1d(a + b, a, 1)
        self.out = nn.Conv1d(a, 4, 1)

    def forward(self, xyz: Tensor) -> Tensor:
        batch = torch.arange(xyz.shape[0])
        distance = torch.cdist(xyz, xyz)
        near = distance.argsort(dim=-1)[:, :, :4]
        grouped = xyz[batch[:, None, None], near] - xyz[:, :, None]
        points = torch.max(F.relu(self.first(grouped.permute(0, 3, 1, 2))), 3)[0].transpose(1, 2)
        centres = xyz[:, ::2]
        near = torch.cdist(centres, xyz).argsort(dim=-1)[:, :, :3]
        index = near.reshape(xyz.shape[0], -1, 1).expand(-1, -1, points.shape[-1])
        gathered = torch.gather(points, 1, index).view(*near.shape, -1)
        joined = torch.cat([grouped[:, ::2, :3], gathered], dim=-1).permute(0, 3, 2, 1)
        deep = F.relu(self.norm(self.second(joined))).amax(2)
        three = torch.cdist(xyz, centres).topk(3, largest=False)
        weight = 1 / (three[0] + 1e-8)
        weight = weight / weight.sum(2, keepdim=True)
        spread = (deep.transpose(1, 2)[batch[:, None, None], three[1]] * weight[..., None]).sum(2)
        return self.out(F.relu(self.back(torch.cat([points, spread], dim=-1).permute(0, 2, 1))))


class Graph(nn.Module):
    """Message passing by index_select and scatter, a dense adjacency, and attention over neighbours."""

    def __init__(self, a: int, heads: int, b: int) -> None:
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.zeros(5, a))
        self.bias = nn.Parameter(torch.zeros(a))
        self.lin = nn.Linear(a, heads * 3, bias=False)
        self.att = nn.Parameter(torch.zeros(1, heads, 3))
        self.dense = nn.Linear(heads * 3, b)
        self.out = nn.Linear(b, 2)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        n = x.size(0)
        x = x @ self.weight
        messages = x.index_select(0, source) * 0.5
        index = target.view(-1, 1).expand_as(messages)
        x = torch.relu(x.new_zeros((n, x.size(-1))).scatter_add_(0, index, messages) + self.bias)
        h = self.lin(x).view(-1, self.heads, 3)
        alpha = (h * self.att).sum(-1)
        alpha = F.leaky_relu(alpha[source] + alpha[target], 0.2).exp()
        total = torch.zeros(n, self.heads, dtype=x.dtype)
        total.index_add_(0, target, alpha)
        x = torch.zeros(n, self.heads, 3, dtype=x.dtype)
        x = x.index_add(0, target, h[source] * (alpha / total[target])[..., None]).flatten(1)
        adjacency = torch.zeros(n, n, dtype=x.dtype)
        adjacency[target, source] = 1
        return self.out(torch.tanh(self.dense(torch.mm(adjacency, x))))


class Branches(nn.Module):
    """Inception branches, a channel-wise spatial gate, and a helper output."""

    def __init__(self, a: int, b: int, d: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Conv2d(3, a, 1), nn.Conv2d(3, b, 3, padding=1), nn.Conv2d(3, d, 1)])
        self.slope = nn.PReLU(a + b + d)
        self.gate = nn.Conv2d(2, 1, 3, padding=1)
        self.mix = nn.Conv2d(a + b + d, a, 1)
        self.aux, self.fc = nn.Linear(a + b + d, 4), nn.Linear(a, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.slope(torch.cat([branch(x) for branch in self.branches], 1))
        gate = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], dim=1)
        x = x * torch.sigmoid(self.gate(gate))
        return {"aux": self.aux(x.mean((-1, -2))), "out": self.fc(self.mix(x).amax((2, 3)))}


class Pyramid(nn.Module):
    """Shortcuts that pad channels with zeros, as PyramidNet does."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o in widths[1:])
        self.fc = nn.Linear(widths[-1], 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(x))
            x = y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return self.fc(F.adaptive_avg_pool2d(x, 1).squeeze())


class Recurrent(nn.Module):
    """A bidirectional LSTM of two layers, a GRU and a cell."""

    def __init__(self, hidden: int, last: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(2 * hidden, last, batch_first=True)
        self.cell = nn.GRUCell(last, last)
        self.fc = nn.Linear(last, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.lstm(x)
        x, state = self.gru(x)
        return self.fc(self.cell(x[:, -1], state[0]))


class Tied(nn.Module):
    """A language model whose output weight is the embedding."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(13, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x + self.down(torch.tanh(self.up(x)))
        return F.linear(x, self.embedding.weight)


class SuperResolution(nn.Module):
    """Pixel shuffles, a gated unit, einsum with a learned matrix."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 2 * a, 3, padding=1)
        self.grow = nn.Conv2d(a, b * 4, 3, padding=1)
        self.mix = nn.Parameter(torch.zeros(a, 4 * b))
        self.out = nn.Conv2d(a, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.grow(F.glu(self.enter(x), dim=1)), 2)
        x = F.pixel_unshuffle(x, 2)
        return self.out(torch.einsum("bchw,dc->bdhw", x, self.mix))


class Written(nn.Module):
    """Tensors that are made first and written to afterwards."""

    def __init__(self, a: int) -> None:
        super().__init__()
        self.one, self.two, self.fc = nn.Linear(3, a), nn.Linear(3, a), nn.Linear(a, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(2, x.shape[0], self.one.out_features, dtype=x.dtype)
        out[0] = self.one(x)
        out[1] = torch.where(x.sum(-1, keepdim=True) > 0, self.two(x), -self.one(x))
        total = torch.zeros_like(out[0])
        for part in out:
            total += part
        return self.fc(total.clamp(min=0).div_(2))


class Generated(nn.Module):
    """Filters that the model makes for each sample, a non-local block, sparse neighbours, attention over channels."""

    def __init__(self, a: int, mid: int) -> None:
        super().__init__()
        self.enter, self.filters = nn.Conv2d(3, a, 1), nn.Linear(a, a * 9)
        self.q, self.k, self.v = (nn.Conv2d(a, mid, 1) for _ in range(3))
        self.proj, self.eca = nn.Conv2d(mid, a, 1), nn.Conv1d(1, 1, 3, padding=1)
        self.out = nn.Linear(a, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        b, channels, h, w = x.shape
        filters = self.filters(x.mean((2, 3))).view(b, channels, 9).reshape(b * channels, 1, 3, 3)
        x = x + F.conv2d(x.reshape(1, -1, h, w), filters, padding=1, groups=b * channels).view(
            b, channels, h, w
        )
        q, k, v = (layer(x).flatten(2) for layer in (self.q, self.k, self.v))
        attention = torch.bmm(q.transpose(1, 2), k).softmax(-1)
        x = x + self.proj(torch.bmm(v, attention.transpose(1, 2)).view(b, -1, h, w))
        x = x * self.eca(x.mean((2, 3))[:, None]).sigmoid().view(b, channels, 1, 1)
        folded = F.fold(F.unfold(x, 3, padding=1), (h, w), 3, padding=1)
        mixing = torch.eye(h * w, dtype=x.dtype).roll(1, 0).to_sparse()
        return self.out(torch.sparse.mm(mixing, (x - 0.1 * folded).flatten(2)[0].t()))


def _tokens(generator: torch.Generator) -> tuple[Tensor, ...]:
    return torch.randint(0, 7, (3, 5), generator=generator), torch.randint(1, 7, (3, 4), generator=generator)


def _graph(generator: torch.Generator) -> tuple[Tensor, ...]:
    edges = torch.randint(0, 6, (2, 20), generator=generator)
    loops = torch.arange(6).expand(2, 6)
    return torch.randn(6, 5, generator=generator, dtype=torch.float64), torch.cat([edges, loops], 1)


_D8, _QKV = [8] * 3, heads(8, 4, packed=3)
_G2, _G3 = heads(5, 2), heads(5, 3)

CASES = {
    "residual": Case(Residual, (10, 15, 3), (c(10), c(15), c(3)), images(3, 3, 8, 8)),
    "grouped": Case(Grouped, (5, 9, 7), (c(5), c(9), c(7)), images(3, 3, 6, 6)),
    "dense": Case(
        Dense,
        (9, 5, 11),
        (c(9), c(5), c(11)),
        images(3, 3, 8, 8),
        {
            f"{kind}.{i}.{name}": (positions,) if kind == "norms" else (None, positions)
            for i in range(3)
            for positions in [segments(9, *[5] * i)]
            for kind, name in [
                ("layers", "weight"),
                *[("norms", n) for n in ("weight", "bias", "running_mean", "running_var")],
            ]
        }
        | {"transition.weight": (None, segments(9, 5, 5, 5))},
    ),
    "unet": Case(
        UNet,
        (6, 10),
        (c(6), c(10)),
        images(2, 1, 9, 7),
        {"fuse1.weight": (None, segments(6, 6)), "fuse2.weight": (None, segments(6, 10))},
    ),
    "transformer": Case(
        Transformer, (20, 8, 30), (c(20), c(8), c(30)), images(2, 3, 8, 8),
        {"qkv.weight": (_QKV,), "qkv.bias": (_QKV,)},
    ),
    "encoder-decoder": Case(
        EncoderDecoder,
        (20, 10, 9),
        (c(20), c(10), c(9)),
        _tokens,
        {
            f"{name}.in_proj_{kind}": (heads(10, 2, packed=3),)
            for name in ("encoder.self_attn", "decoder.self_attn", "decoder.multihead_attn")
            for kind in ("weight", "bias")
        },
    ),
    "grouped-query": Case(
        GroupedQuery, (11, 4, 6), (c(11), c(4), c(6)), images(2, 5, 6),
        {"gate.weight": (segments(6, 6),), "gate.bias": (segments(6, 6),)},
    ),
    "shuffle": Case(
        Shuffle, (7,), (c(7),), images(2, 3, 4, 4), {"stem.weight": (segments(7, 7),), "stem.bias": (segments(7, 7),)}
    ),
    "dgcnn": Case(
        PointGraph,
        (7, 9, 12),
        (c(7), c(9), c(12)),
        images(3, 3, 10),
        {
            "conv2.0.weight": (None, segments(7, 7)),
            "conv3.0.weight": (None, segments(9, 9)),
            "conv4.0.weight": (None, segments(7, 9, 9)),
            "fc.weight": (None, segments(12, 12)),
        },
    ),
    "pointnet++": Case(
        PointSets, (6, 8), (c(6), c(8)), images(2, 10, 3),
        {"second.weight": (None, [0, 1, 2, *(3 + at for at in range(c(6)))]), "back.weight": (None, segments(6, 8))},
    ),
    "graph": Case(Graph, (6, 4, 7), (c(6), c(4), c(7)), _graph),
    "branches": Case(
        Branches, (4, 6, 3), (c(4), c(6), c(3)), images(2, 3, 5, 5),
        {
            "slope.weight": (segments(4, 6, 3),),
            "mix.weight": (None, segments(4, 6, 3)),
            "aux.weight": (None, segments(4, 6, 3)),
        },
    ),
    "pyramid": Case(Pyramid, ((6, 9, 13, 13, 18),), (tuple(map(c, (6, 9, 13, 13, 18))),), images(3, 3, 6, 6)),
    "recurrent": Case(
        Recurrent, (6, 5), (c(6), c(5)), images(2, 4, 4),
        {
            f"lstm.{kind}_l{layer}{suffix}": (
                segments(*[6] * 4),
                segments(6, 6) if (kind, layer) == ("weight_ih", 1) else None,
            )
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            for layer in (0, 1)
            for suffix in ("", "_reverse")
        }
        | {"gru.weight_ih_l0": (segments(5, 5, 5), segments(6, 6))}
        | {f"gru.{name}_l0": (segments(5, 5, 5),) for name in ("weight_hh", "bias_ih", "bias_hh")}
        | {f"cell.{name}": (segments(5, 5, 5),) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    ),
    "tied": Case(Tied, (10, 12), (c(10), c(12)), lambda g: (torch.randint(0, 13, (2, 6), generator=g),)),
    "super-resolution": Case(
        SuperResolution, (6, 5), (c(6), c(5)), images(2, 3, 5, 5),
        {"enter.weight": (segments(6, 6),), "enter.bias": (segments(6, 6),)},
    ),
    "generated": Case(
        Generated,
        (6, 5),
        (c(6), c(5)),
        images(2, 3, 4, 4),
        {"filters.weight": ([i for at in range(c(6)) for i in range(9 * at, 9 * at + 9)],)}
        | {"filters.bias": ([i for at in range(c(6)) for i in range(9 * at, 9 * at + 9)],)},
    ),
    "written": Case(Written, (6,), (c(6),), images(4, 3)),
}  # fmt: skip


def _pair(case: Case, *, training: bool) -> tuple[nn.Module, nn.Module, tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(1)
    full, small = case.build(*case.full).double(), case.build(*case.reduced).double()
    randomise(full, generator)
    state = {
        name: gather(case, name, full.state_dict()[name], target)
        for name, target in small.state_dict().items()
    }
    small.load_state_dict(state)
    return full.train(training), small.train(training), case.inputs(generator)


def _tensors(outputs: Any) -> list[Tensor]:
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", CASES)
def test_equals_a_genuinely_smaller_model(name: str, training: bool) -> None:
    case = CASES[name]
    full, small, inputs = _pair(case, training=training)
    before = copy.deepcopy(dict(full.named_buffers()))
    with subnetwork(full, WIDTH, **case.options):
        outputs = _tensors(full(*inputs))
    for output, expected in zip(outputs, _tensors(small(*inputs)), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    weights = [torch.randn_like(output) for output in outputs]
    sum((output * weight).sum() for output, weight in zip(outputs, weights, strict=True)).backward()
    expected = _tensors(small(*inputs))
    sum((output * weight).sum() for output, weight in zip(expected, weights, strict=True)).backward()
    for parameter_name, parameter in small.named_parameters():
        gradient = full.get_parameter(parameter_name).grad
        assert gradient is not None, parameter_name
        landed = gather(case, parameter_name, gradient, parameter)
        torch.testing.assert_close(landed, parameter.grad, rtol=1e-9, atol=1e-11, msg=parameter_name)
        assert torch.count_nonzero(gradient) == torch.count_nonzero(landed), parameter_name
    for buffer_name, buffer in full.named_buffers():
        assert torch.equal(buffer, before[buffer_name]), buffer_name


@pytest.mark.parametrize("name", CASES)
def test_narrows_to_about_the_square_of_the_width(name: str) -> None:
    """A rule that quietly keeps axes whole would still be right; it must also be narrow."""
    case = CASES[name]
    full, small, inputs = _pair(case, training=True)
    with subnetwork(full, WIDTH, **case.options) as sub:
        full(*inputs)
    for parameter_name, parameter in small.named_parameters():
        whole = full.get_parameter(parameter_name)
        for axis, size in enumerate(parameter.shape):
            if size < whole.shape[axis] and parameter_name != "cls":
                kept = sub.kept(parameter_name, axis)
                expected = case.gathered.get(parameter_name, ())
                chosen = expected[axis] if axis < len(expected) and expected[axis] else list(range(size))
                if (
                    kept is not None or "attn" not in parameter_name
                ):  # cross-attention cuts thirds of its weight
                    assert list(kept or ()) == chosen, (parameter_name, axis)


@pytest.mark.parametrize("parametrise", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_slices_after_a_parametrisation(parametrise: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        parametrise(nn.Linear(3, 10)), nn.ReLU(), parametrise(nn.Linear(10, 6)), nn.Linear(6, 2)
    )
    model = model.double()
    before = copy.deepcopy(dict(model.named_buffers()))
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    model.eval()
    weights = [layer.weight.detach() for layer in (model[0], model[2], model[3])]
    with subnetwork(model, WIDTH):
        output = model(x)
    y = F.relu(F.linear(x, weights[0][: c(10)], model[0].bias[: c(10)]))
    y = F.linear(y, weights[1][: c(6), : c(10)], model[2].bias[: c(6)])
    torch.testing.assert_close(
        output, F.linear(y, weights[2][:, : c(6)], model[3].bias), rtol=1e-12, atol=1e-12
    )
    with subnetwork(model.train(), WIDTH):  # a spectral norm's power iteration writes to its buffers
        model(x)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
