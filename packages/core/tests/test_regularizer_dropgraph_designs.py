"""DropGraph's designs: a slow second implementation, learned edges, other distortions, what training leaves behind."""

import importlib.resources
import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from regathlon_core import DropGraph, DropGraphSettings, FeaturePoint, UserError
from regathlon_core.ops.block_mask import sample_block_mask
from regathlon_core.regularizers.dropgraph.functional import (
    replace_positions,
    sample_vertices,
    take_positions,
)
from regathlon_core.regularizers.dropgraph.reasoning import shared_reasoning, vertex_adjacency
from regathlon_core.rng import global_stream, stream
from regathlon_core.testing import ToyImages, ToyNodes


def layer(channels: int, **settings: Any) -> DropGraph:
    made = DropGraph(**settings)
    with global_stream(0, "dropgraph"):
        made.prepare([FeaturePoint("", channels=channels)])
    return made.train()


def act(regularizer: DropGraph, x: Tensor, seed: int = 0) -> Tensor:
    return regularizer.act(x, stream(seed, "act"), "")


def by_loops(regularizer: DropGraph, x: Tensor) -> Tensor:
    """Algorithm 1 line by line: one image, one vertex, one dropped unit at a time; the same draws."""
    settings, generator = regularizer.settings, stream(0, "act")
    batch, channels = x.shape[:2]
    dropped = sample_block_mask((batch, 1), x.shape[2:], settings.block_size, settings.p, generator=generator)
    flat, gone = x.flatten(2), dropped.flatten(1)
    index, _ = sample_vertices(batch, flat.shape[2], settings.alpha, generator=generator)
    w1, w2, w3 = (weight.double() for weight in regularizer.parameters())
    noise = torch.rand(int(gone.sum()), channels, generator=generator, dtype=torch.float64)
    out, at = flat.clone(), 0
    for image in range(batch):
        vertices = [flat[image, :, n] for n in index[image].tolist()]
        count = len(vertices)
        edges = torch.zeros(count, count, dtype=torch.float64)
        for i in range(count):
            products = [math.exp(float(vertices[i] @ vertex) / channels) for vertex in vertices]
            for j in range(count):
                edges[i, j] = (1 - products[j] / sum(products)) / (count - 1)

        def convolve(values: list[Tensor], weight: Tensor, edges: Tensor = edges) -> list[Tensor]:
            count = len(values)
            return [sum(edges[i, j] * (values[j] @ weight) for j in range(count)) for i in range(count)]

        first = [value.relu() for value in convolve(vertices, w1)]
        second = [before + after.relu() for before, after in zip(first, convolve(first, w2), strict=True)]
        pooled = sum(convolve(second, w3)) / count
        for position in range(flat.shape[2]):
            if gone[image, position]:
                out[image, :, position] = pooled * noise[at]
                at += 1
    return out.view_as(x)


@pytest.mark.parametrize("shape", [(2, 8, 15), (2, 8, 5, 6), (3, 8, 6, 3), (2, 8, 3, 4, 2)])
@pytest.mark.parametrize("block_size", [1, 2, 3, 7])
def test_a_slow_implementation_agrees(shape: tuple[int, ...], block_size: int) -> None:
    x = torch.randn(shape, generator=stream(0, "x"), dtype=torch.float64)
    regularizer = layer(8, p=0.3, block_size=block_size, alpha=0.4)
    torch.testing.assert_close(act(regularizer, x), by_loops(regularizer, x), atol=1e-6, rtol=0)


def test_evaluation_and_rate_zero_return_the_features_themselves() -> None:
    x = torch.randn(2, 8, 5, 5)
    assert layer(8, p=0.5).eval()(x) is x
    assert layer(8, p=0.0)(x) is x
    assert layer(8, p=0.5).train()(x) is not x


def test_pooled_distortions_know_no_order_of_vertices() -> None:
    vertices = torch.randn(2, 6, 8, generator=stream(0, "v"), dtype=torch.float64)
    weights = [torch.randn(s, generator=stream(1, "w")).double() for s in ((8, 2), (2, 2))]
    shares = torch.full((2, 6), 1 / 6, dtype=torch.float64)
    order = torch.randperm(6, generator=stream(0, "order"))

    def pooled(vertices: Tensor) -> Tensor:
        return shared_reasoning(vertices, *weights, shares).sum(dim=2)

    torch.testing.assert_close(pooled(vertices), pooled(vertices[:, order]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("block_size", "least", "most"), [(1, 0.1, 0.1), (3, 0.0945, 0.0955), (7, 0.0915, 0.0930)]
)
def test_share_of_dropped_positions(block_size: int, least: float, most: float) -> None:
    """The values of blocks are 1 - (1 - gamma)^(b²) within, and a little less at borders; see the specification."""
    maps, side = 3000, 14
    x = torch.ones(maps, 1, side, side)
    out = act(layer(1, p=0.1, block_size=block_size, alpha=1e-9), x)
    dropped = float((out != x).float().mean())
    # A block is all or nothing: the variance of a map's share is at most that of one draw for each block's area.
    spread = math.sqrt(0.1 * block_size**2 / (maps * side * side))
    assert least - 5 * spread < dropped < most + 5 * spread


def test_both_ways_of_putting_distortions_in_agree_where_the_draws_do() -> None:
    """Positions one by one on a CPU, whole maps elsewhere and for masks per channel."""
    x = torch.randn(2, 3, 10, generator=stream(0, "x"))
    dropped = torch.rand(2, 1, 10, generator=stream(0, "d")) < 0.4
    values = torch.randn(2, 4, 3, generator=stream(0, "v"))
    owner = torch.randint(4, (2, 10), generator=stream(0, "o"))
    for whose, of in ((owner, values), (None, values[:, :1])):
        few = replace_positions(x, dropped, of, whose, stream(0, "u"))
        many = replace_positions(x, dropped.expand(-1, 3, -1), of, whose, stream(0, "u"))
        everywhere = dropped.expand(-1, 3, -1)
        for out in (few, many):
            assert torch.equal(out[~everywhere], x[~everywhere])
            chosen = of[:, 0, :, None].expand(-1, -1, 10) if whose is None else None
            chosen = chosen if chosen is not None else of.gather(1, owner[:, :, None].expand(-1, -1, 3)).mT
            share = (out / chosen)[everywhere]
            assert bool(((share >= 0) & (share < 1)).all())


def test_gradients_of_taking_positions() -> None:
    x = torch.randn(2, 3, 7, generator=stream(0, "x"), dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[4, 1, 6], [0, 3, 2]])

    def both(x: Tensor) -> Tensor:
        kept, taken = take_positions(x, index)
        return kept.clone().sin().sum() + taken.square().sum()

    def plain(x: Tensor) -> Tensor:
        return x.sin().sum() + x.gather(2, index[:, None].expand(-1, 3, -1)).square().sum()

    (found,), (wanted,) = (torch.autograd.grad(f(x), x) for f in (both, plain))
    torch.testing.assert_close(found, wanted)
    assert torch.autograd.gradcheck(both, (x,))
    assert torch.autograd.gradgradcheck(both, (x,))
    assert torch.autograd.gradgradcheck(vertex_adjacency, (x,))


# ---- designs -----------------------------------------------------------------------------------------------


def test_learned_edges_are_trained_and_ignore_the_features() -> None:
    x = torch.randn(2, 8, 6, 6, generator=stream(0, "x"))
    regularizer = layer(8, p=0.5, block_size=1, alpha=0.25, reduction=1, adjacency="learned", max_vertices=16)
    edges = dict(regularizer.named_parameters())["branches.at_.edges"]
    assert edges.shape == (16, 16)
    act(regularizer, x).square().sum().backward()
    assert edges.grad is not None
    assert float(edges.grad[:9, :9].abs().min()) >= 0
    assert float(edges.grad[:9, :9].abs().max()) > 0
    assert float(edges.grad[9:].abs().max()) == 0  # nine vertices, no more
    found = vertex_adjacency(torch.randn(1, 3, 8), "learned", learned=edges)
    assert torch.equal(found[0], edges[:3, :3])
    with pytest.raises(UserError, match="every pair of the 20 vertices"):
        vertex_adjacency(torch.randn(1, 20, 8), "learned", learned=edges)
    with pytest.raises(UserError, match="max_vertices"):
        DropGraphSettings(adjacency="learned")


@pytest.mark.parametrize("pool", ["mean", "none"])
@pytest.mark.parametrize("distortion", ["conv", "dilated_conv"])
def test_convolved_distortions(distortion: Any, pool: Any) -> None:
    x = torch.randn(2, 4, 9, 7, generator=stream(0, "x"), dtype=torch.float64)
    regularizer = layer(4, p=0.5, block_size=1, distortion=distortion, pool=pool)
    out, (weight,) = act(regularizer, x), regularizer.parameters()
    step = 3 if distortion == "dilated_conv" else 1
    wanted = F.conv2d(F.pad(x, (step,) * 4), weight.double(), dilation=step)
    if pool == "mean":
        wanted = wanted.mean(dim=(2, 3), keepdim=True).expand_as(x)
    dropped = (out != x).any(dim=1, keepdim=True).expand_as(x)
    share = (out / wanted)[dropped]
    assert bool(((share >= 0) & (share < 1)).all())
    out.square().sum().backward()
    assert float(weight.grad.abs().max()) > 0  # type: ignore[union-attr]
    with pytest.raises(UserError, match="two sides; these have 1"):
        act(regularizer, torch.randn(2, 4, 9))


def test_average_and_noise() -> None:
    x = torch.randn(2, 4, 9, 7, generator=stream(0, "x"), dtype=torch.float64) + 3
    out = act(layer(4, p=0.5, block_size=1, distortion="average"), x)
    dropped = out != x
    share = (out / x.mean(dim=(2, 3), keepdim=True))[dropped]
    assert bool(((share >= 0) & (share < 1)).all())

    maps = (
        torch.randn(40, 16, 20, 20, generator=stream(0, "x"))
        * torch.tensor([1.0, 5.0]).repeat(20)[:, None, None, None]
    )
    out = act(layer(16, p=0.5, block_size=1, distortion="noise"), maps)
    for size, start in ((1.0, 0), (5.0, 1)):
        noise = out[start::2][(out != maps)[start::2]]
        n = len(noise)  # u·z: mean 0, variance size²/3, fourth moment 3·size⁴/5
        spread = size**2 * math.sqrt((3 / 5 - 1 / 9) / n)
        assert float(noise.square().mean()) == pytest.approx(size**2 / 3, abs=5 * spread + 0.01 * size**2)
        assert abs(float(noise.mean())) < 5 * size / math.sqrt(3 * n)


def test_what_fills_graphs_up_does_not_count_in_any_design() -> None:
    x = torch.randn(2, 4, 6, generator=stream(0, "x"))
    present = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    for distortion in ("average", "noise", "graph"):
        regularizer = layer(4, p=0.999, block_size=1, distortion=distortion, alpha=1.0)
        filled = torch.where(present[:, None], x, 0.0)
        other = torch.where(present[:, None], x, 9.0)
        first, second = [], []
        for values, into in ((filled, first), (other, second)):
            regularizer.present = present
            into.append(act(regularizer, values))
        there = present[:, None].expand_as(x)
        torch.testing.assert_close(first[0][there], second[0][there])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pool": "none"},
        {"adjacency": "learned", "max_vertices": 32},
        {"adjacency": "identity", "pool": "none"},
        {"distortion": "noise"},
        {"distortion": "average"},
        {"distortion": "conv", "pool": "none"},
        {"distortion": "dilated_conv"},
    ],
    ids=str,
)
def test_the_largest_activations_stay_finite(settings: dict[str, Any], dtype: torch.dtype) -> None:
    x = torch.full((2, 64, 7, 7), 60000.0) * torch.randn(2, 64, 7, 7, generator=stream(0, "x")).sign()
    x = x.to(dtype).requires_grad_()
    regularizer = layer(64, p=0.5, block_size=3, alpha=0.5, **settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = act(regularizer, x)
    assert out.dtype is dtype
    assert bool(torch.isfinite(out).all())
    (gradient,) = torch.autograd.grad((out.float() / 1e5).sum(), x)
    assert bool(torch.isfinite(gradient).all())


# ---- what training leaves behind ---------------------------------------------------------------------------


def test_the_plain_model_is_left_with_its_keys_and_its_cost() -> None:
    task = ToyImages()
    model = task.model(seed=0)
    keys, batch = list(model.state_dict()), task.batch("val", torch.arange(4))

    def flops() -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            task.predict(model.eval(), batch)
        return counter.get_total_flops()

    before = flops()
    regularizer = DropGraph(p=0.5, block_size=2, schedule="constant")
    with global_stream(0, "attach"):
        regularizer.attach(model, task)
    assert list(model.state_dict()) == keys
    assert flops() == before
    assert not set(dict(regularizer.named_parameters())) & set(keys)
    task.model(seed=1).load_state_dict(model.state_dict())


def test_without_strength_no_gradient_reaches_the_graph_and_none_is_needed() -> None:
    regularizer = layer(8, p=0.5, alpha=0.5)
    regularizer.after_step(0.0)
    x = torch.randn(2, 8, 5, 5, requires_grad=True)
    regularizer(x).sum().backward()
    assert all(parameter.grad is None for parameter in regularizer.parameters())


def test_graphs_in_a_batch_and_one_by_one() -> None:
    """Every graph's distortion is of its own vertices: with all nodes as vertices, it does not matter who else is there."""
    torch_values = torch.randn(12, 6, generator=stream(0, "x"), dtype=torch.float64)
    graph = torch.tensor([0] * 5 + [1] * 4 + [2] * 3)
    model, task = nn.Sequential(nn.Identity()), ToyNodes()

    def distortions(x: Tensor, graph_of_node: Tensor | None) -> Tensor:
        task.features = lambda model: [FeaturePoint("0", 6, layout="nodes")]  # type: ignore[method-assign]
        task.graph_of_node = lambda inputs: graph_of_node  # type: ignore[method-assign]
        regularizer = DropGraph(p=1.0, block_size=1, alpha=1.0, reduction=1, schedule="constant")
        with global_stream(0, "attach"):
            regularizer.attach(model.train(), task)
        out = model(x)
        regularizer.detach()
        return out.sign()  # r·u, u in (0, 1): the sign is that of r

    together = distortions(torch_values, graph)
    for number in range(3):
        alone = distortions(torch_values[graph == number], None)
        assert torch.equal(together[graph == number], alone)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("p", 1.1),
        ("alpha", 0.0),
        ("block_size", 0),
        ("schedule", "f6"),
        ("pool", "max"),
        ("distortion", "gcn"),
        ("adjacency", "equal"),
        ("temperature", -1.0),
        ("reduction", 0),
        ("max_vertices", 0),
        ("group_rates", (0.5, 1.5)),
        ("where", "layer3"),
    ],
)
def test_bad_settings(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"dropgraph.*{field}"):
        DropGraphSettings(**{field: value})


def test_card() -> None:
    folder = importlib.resources.files("regathlon_core.regularizers.dropgraph")
    text = (folder / "card.md").read_text("utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "dropgraph/card.md", "exec"), names)
    assert names["y"].shape == (2, 64, 14, 14)
    for field in DropGraphSettings().settings():
        assert f"`{field}`" in text, field
