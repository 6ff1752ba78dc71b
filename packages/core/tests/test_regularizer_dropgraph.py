"""DropGraph against its paper: adjacency, reasoning, what is dropped, and which sample may see which."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from regathlon_core import DropGraph, FeaturePoint, UserError
from regathlon_core.functional import drop_block
from regathlon_core.regularizers.dropgraph.functional import SCHEDULES, sample_vertices
from regathlon_core.regularizers.dropgraph.reasoning import (
    graph_reasoning,
    shared_reasoning,
    vertex_adjacency,
)
from regathlon_core.rng import global_stream, stream
from regathlon_core.testing import ToyNodes


def layer(channels: int, **settings: object) -> DropGraph:
    made = DropGraph(**settings)
    with global_stream(0, "dropgraph"):
        made.prepare([FeaturePoint("", channels=channels)])
    return made.train()


def act(regularizer: DropGraph, x: Tensor, seed: int = 0) -> Tensor:
    return regularizer.act(x, stream(seed, "act"), "")


def test_adjacency_rows_sum_to_one_and_favour_the_unlike() -> None:
    vertices = torch.randn(5, 7, 16, generator=stream(0, "v"), dtype=torch.float64)
    adjacency = vertex_adjacency(vertices)
    torch.testing.assert_close(adjacency.sum(2), torch.ones(5, 7, dtype=torch.float64))
    assert bool((adjacency >= 0).all())
    assert bool((adjacency <= 1 / 6 + 1e-12).all())
    assert bool((vertex_adjacency(vertices[:, :1]) == 0).all())
    torch.testing.assert_close(vertex_adjacency(torch.ones(1, 4, 3)), torch.full((1, 4, 4), 1 / 4))
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    clusters = vertex_adjacency(torch.stack([one, one, other, other])[None], temperature=0.5)[0]
    assert float(clusters[:2, :2].max()) < float(clusters[:2, 2:].min())
    hot = vertex_adjacency(vertices, temperature=1e9)
    torch.testing.assert_close(hot, vertex_adjacency(vertices, "uniform"), atol=1e-8, rtol=0)


def test_reasoning_equals_loops() -> None:
    rng = np.random.default_rng(0)
    v, (w1, w2, w3) = rng.normal(size=(2, 3, 4)), (rng.normal(size=s) for s in ((4, 2), (2, 2), (2, 4)))
    temperature = 4.0
    wanted = np.zeros_like(v)
    for b in range(2):
        a = np.zeros((3, 3))
        for i in range(3):
            products = [math.exp(float(np.dot(v[b, i], v[b, k])) / temperature) for k in range(3)]
            for j in range(3):
                a[i, j] = (1 - products[j] / sum(products)) / 2
        h1 = np.maximum(
            [[sum(a[i, j] * (v[b, j] @ w1[:, c]) for j in range(3)) for c in range(2)] for i in range(3)], 0
        )
        h2 = h1 + np.maximum(
            [[sum(a[i, j] * (h1[j] @ w2[:, c]) for j in range(3)) for c in range(2)] for i in range(3)], 0
        )
        wanted[b] = [
            [sum(a[i, j] * (h2[j] @ w3[:, c]) for j in range(3)) for c in range(4)] for i in range(3)
        ]
    vertices = torch.from_numpy(v)
    weights = (torch.from_numpy(w) for w in (w1, w2, w3))
    found = graph_reasoning(vertices, vertex_adjacency(vertices), *weights)
    torch.testing.assert_close(found, torch.from_numpy(wanted), atol=1e-12, rtol=0)


@pytest.mark.parametrize("graph", [None, [[0, 0, 1, 1, 1], [2, -1, 2, 2, -1]]])
@pytest.mark.parametrize("kind", ["dissimilarity", "similarity", "learned"])
def test_shared_reasoning_and_its_gradient_are_those_of_reasoning(kind: str, graph: list | None) -> None:
    """The gradient by hand beside autograd's and beside differences, and once more differentiated."""

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=stream(sum(size), "n"), dtype=torch.float64).requires_grad_()

    vertices, w1, w2, w3 = normal(2, 5, 6), normal(6, 3), normal(3, 3), normal(3, 6)
    share = torch.rand(2, 5, generator=stream(0, "s"), dtype=torch.float64)
    number, edges = None if graph is None else torch.tensor(graph), normal(5, 5)

    def shared(vertices: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        return shared_reasoning(vertices, w1, w2, share, kind, 2.0, number, learned=edges)

    adjacency = vertex_adjacency(vertices, kind, 2.0, number, learned=edges)
    wanted = share[:, None] @ graph_reasoning(vertices, adjacency, w1, w2, w3)
    found = shared(vertices, w1, w2).sum(dim=2, keepdim=True).mT @ w3
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    weight = torch.randn(found.shape, generator=stream(0, "g"), dtype=torch.float64)
    inputs = (vertices, w1, w2, w3)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((wanted * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(shared, (vertices, w1, w2))
    assert torch.autograd.gradgradcheck(shared, (vertices, w1, w2))


def test_without_edges_it_is_dropblock_to_the_bit() -> None:
    x = torch.randn(3, 8, 9, 7, generator=stream(0, "x"))
    # A single vertex has no edges: A = 0, so the distortion is 0.
    regularizer = layer(8, p=0.3, block_size=4, alpha=1e-6, rescale=True, schedule="constant")
    wanted = drop_block(x, 0.3, 4, per_channel=False, generator=stream(0, "act"))
    assert torch.equal(act(regularizer, x), wanted)


@pytest.mark.parametrize("shape", [(2, 8, 12), (2, 8, 9, 6), (2, 8, 4, 5, 6)])
def test_kept_units_stay_and_distortions_are_one_direction_per_sample(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=stream(0, "x"))
    out = act(layer(8, p=0.4, block_size=2, alpha=0.5), x).flatten(2)
    kept = (out == x.flatten(2)).all(dim=1)
    assert 0 < int(kept.sum()) < kept.numel()
    for sample, keep in zip(out, kept, strict=True):
        distortions = sample[:, ~keep]  # u·r: one sign per channel, and never beyond r
        assert bool(((distortions >= 0).all(dim=1) | (distortions <= 0).all(dim=1)).all())


def test_samples_do_not_see_each_other() -> None:
    regularizer = layer(8, p=0.5, block_size=3, alpha=0.5)
    x = torch.randn(2, 8, 9, 9, generator=stream(0, "x"))
    changed = x.clone()
    changed[1] += 1
    assert torch.equal(act(regularizer, x)[0], act(regularizer, changed)[0])


def test_graphs_of_a_batch_do_not_see_each_other_nor_what_fills_them_up() -> None:
    vertices = torch.randn(2, 5, 6, generator=stream(0, "v"), dtype=torch.float64)
    valid = torch.tensor([[True] * 5, [True, True, True, False, False]])
    weights = [
        torch.randn(s, generator=stream(0, "w"), dtype=torch.float64) for s in ((6, 3), (3, 3), (3, 6))
    ]
    together = graph_reasoning(vertices, vertex_adjacency(vertices, graph=valid), *weights)
    alone = graph_reasoning(vertices[1:, :3], vertex_adjacency(vertices[1:, :3]), *weights)
    torch.testing.assert_close(together[1:, :3], alone, atol=1e-13, rtol=0)

    present = torch.arange(20) < torch.tensor([20, 7, 1])[:, None]
    index, valid = sample_vertices(3, 20, 0.3, present=present, generator=stream(0, "i"))
    assert valid is not None
    assert valid.sum(1).tolist() == [6, 2, 1]
    assert bool(present.gather(1, index)[valid].all())


def test_vertices_are_distinct_and_uniform() -> None:
    batch, positions = 4000, 12
    index, valid = sample_vertices(batch, positions, 0.25, generator=stream(0, "i"))
    assert valid is None
    assert index.shape == (batch, 3)
    assert all(len(set(row)) == 3 for row in index.tolist())
    counts = torch.bincount(index.flatten(), minlength=positions).double()
    expected = batch * 3 / positions
    spread = math.sqrt(batch * 0.25 * 0.75)
    assert float((counts - expected).abs().max()) < 5 * spread
    assert sample_vertices(2, 5, 0.01)[0].shape == (2, 1)
    assert sample_vertices(2, 50, 1.0, limit=8)[0].shape == (2, 8)


def test_share_of_distorted_positions() -> None:
    x = torch.randn(400, 4, 8, 8, generator=stream(0, "x"))
    out = act(layer(4, p=0.1, block_size=1, alpha=0.2), x)
    changed = (out != x).any(dim=1)
    n = changed.numel()
    assert float(changed.float().mean()) == pytest.approx(0.1, abs=5 * math.sqrt(0.1 * 0.9 / n))


@pytest.mark.parametrize("pool", ["mean", "none"])
def test_gradients_reach_the_graph_and_the_features(pool: str) -> None:
    x = torch.randn(4, 8, 6, 6, generator=stream(0, "x"), requires_grad=True)
    regularizer = layer(8, p=0.5, block_size=1, alpha=0.5, reduction=1, pool=pool)
    out = act(regularizer, x)
    distorted = (out != x).detach()
    out[distorted].square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in regularizer.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in regularizer.parameters())
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0  # through the vertices alone: no kept unit is in the loss


def test_designs_that_must_agree() -> None:
    x = torch.randn(2, 8, 6, 6, generator=stream(0, "x"))
    pooled, own = (
        layer(8, p=0.5, block_size=2, alpha=0.5, adjacency="uniform", pool=pool) for pool in ("mean", "none")
    )
    own.load_state_dict(pooled.state_dict())
    # With uniform edges all vertices reason the same, so pooling them changes nothing; the noise is drawn first or
    # later, so compare directions.
    first, second = act(pooled, x).flatten(2), act(own, x).flatten(2)
    assert torch.equal((first == x.flatten(2)), (second == x.flatten(2)))
    assert torch.equal(first.sign(), second.sign())
    vertices = torch.randn(2, 4, 8, generator=stream(1, "v"))
    w1, w2, w3 = (parameter.detach() for parameter in pooled.parameters())
    identity = graph_reasoning(vertices, vertex_adjacency(vertices, "identity"), w1, w2, w3)
    hidden = (vertices @ w1).relu()
    torch.testing.assert_close(identity, (hidden + (hidden @ w2).relu()) @ w3)


def test_schedules_rise_from_nothing_to_all() -> None:
    times = [i / 50 for i in range(51)]
    for name, schedule in SCHEDULES.items():
        values = [schedule(t) for t in times]
        assert values[-1] == pytest.approx(1)
        if name != "constant":
            assert values[0] == pytest.approx(0, abs=1e-12)
            assert values == sorted(values)
    rising = [SCHEDULES[name] for name in ("cubic", "logistic", "cosine", "linear", "cubic_out")]
    assert all(rising[0](t) <= f(t) + 1e-12 and f(t) <= rising[-1](t) + 1e-12 for f in rising for t in times)
    regularizer = layer(4, schedule="linear", p=0.2)
    regularizer.after_step(0.25)
    assert float(regularizer.strength) == pytest.approx(0.25)
    regularizer.after_step(0.0)
    x = torch.randn(1, 4, 5, 5)
    assert regularizer(x) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_half_precision_activations_stay_finite(dtype: torch.dtype) -> None:
    x = (torch.randn(2, 64, 7, 7, generator=stream(0, "x")) * 500).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = act(layer(64, p=0.5, block_size=3, alpha=0.5), x)
    assert out.dtype is dtype
    assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 4, 2, 9), (1, 4, 1)])
def test_small_maps(shape: tuple[int, ...]) -> None:
    assert act(layer(4, p=0.9, block_size=7), torch.randn(shape)).shape == shape


def test_unknown_channels_are_refused() -> None:
    with pytest.raises(UserError, match="number of channels"):
        DropGraph(where=("0",)).attach(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)))
    with pytest.raises(UserError, match="prepare"):
        DropGraph(p=0.5).train()(torch.randn(1, 4, 5, 5))


def test_it_trains_on_nodes() -> None:
    task = ToyNodes()
    model = task.model(seed=0).train()
    regularizer = DropGraph(p=0.3, block_size=1, alpha=0.2, schedule="constant")
    with global_stream(0, "attach"):
        regularizer.attach(model, task)
    batch = task.batch("train", task.order(0, 0, 16)[0])
    generator = stream(0, "nodes")
    regularizer.transform(model, batch, task, generator)
    task.loss(model, batch).backward()
    assert all(parameter.grad is not None for parameter in regularizer.parameters())
