"""Partial graph reasoning: which positions are replaced, by what, and when."""

import importlib.resources
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import FeaturePoint, PartialGraph, PartialGraphSettings, UserError
from regathlon_core.functional import partial_graph
from regathlon_core.rng import global_stream, stream
from regathlon_core.testing import ToyImages, conformance_checks


@pytest.mark.parametrize("check", conformance_checks(PartialGraphSettings(alpha=0.5)), ids=str)
def test_conforms(check: Any) -> None:
    check()


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=stream(0, "x"), dtype=torch.float64)


@pytest.mark.parametrize("sample", ["random", "top"])
@pytest.mark.parametrize("shape", [(2, 4, 12), (2, 4, 5, 6), (2, 4, 3, 4, 2)])
def test_sampled_positions_become_a_v_w_and_others_stay(sample: Any, shape: tuple[int, ...]) -> None:
    x, weight = features(*shape), features(4, 4)
    out = partial_graph(x, weight, 0.3, sample=sample, generator=stream(0, "act"))
    for before, after in zip(x.flatten(2), out.flatten(2), strict=True):
        changed = (before != after).any(dim=0)
        count = int(changed.sum())
        assert count == round(0.3 * before.shape[1])
        vertices = before[:, changed].T
        similarity = torch.exp(vertices @ vertices.T / 4)
        edges = (1 - similarity / similarity.sum(dim=1, keepdim=True)) / (count - 1)
        torch.testing.assert_close(after[:, changed], (edges @ vertices @ weight).T)
        if sample == "top":
            size = before.abs().sum(dim=0)
            assert float(size[changed].min()) > float(size[~changed].max())


def test_of_smaller_graphs_nothing_but_their_own_vertices_is_replaced() -> None:
    x = features(3, 4, 10)
    present = torch.arange(10) < torch.tensor([10, 4, 1])[:, None]
    x = x * present[:, None]
    for sample in ("random", "top"):
        out = partial_graph(x, torch.eye(4, dtype=torch.float64), 0.5, sample=sample, present=present)
        changed = (out != x).any(dim=1)
        assert changed.sum(dim=1).tolist() == [5, 2, 1]
        assert not bool((changed & ~present).any())


def attached(**settings: Any) -> tuple[nn.Module, PartialGraph, ToyImages]:
    task = ToyImages()
    model, regularizer = task.model(seed=0), PartialGraph(alpha=0.5, **settings)
    with global_stream(0, "attach"):
        regularizer.attach(model, task)
    return model, regularizer, task


def test_in_evaluation_it_is_there_only_where_it_is_asked_for() -> None:
    for inference in (False, True):
        model, regularizer, task = attached(inference=inference)
        batch = task.batch("val", torch.arange(4))
        regularizer.transform(model, batch, task, generator := stream(0, "act"))
        state = generator.get_state()
        with torch.no_grad():
            first, second = (task.predict(model.eval(), batch) for _ in range(2))
            regularizer.detach()
            plain = task.predict(model, batch)
        assert torch.equal(first, second)
        assert torch.equal(first, plain) is not inference
        assert torch.equal(generator.get_state(), state)


def test_as_a_layer() -> None:
    x = torch.randn(2, 8, 4, 4)
    layer = PartialGraph(alpha=0.5, inference=True)
    with pytest.raises(UserError, match="prepare"):
        layer(x)
    layer.prepare([FeaturePoint("", channels=8)])
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    layer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    with pytest.raises(UserError, match="number of channels"):
        PartialGraph(where=("0",)).attach(nn.Sequential(nn.Conv2d(1, 2, 3)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 1.5),
        ("sample", "best"),
        ("adjacency", "learned"),
        ("max_vertices", 0),
        ("where", "layer3"),
    ],
)
def test_bad_settings(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"partial_graph.*{field}"):
        PartialGraphSettings(**{field: value})


def test_card() -> None:
    folder = importlib.resources.files("regathlon_core.regularizers.partial_graph")
    text = (folder / "card.md").read_text("utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "partial_graph/card.md", "exec"), names)
    assert names["y"].shape == (2, 64, 14, 14)
    for field in PartialGraphSettings().settings():
        assert f"| `{field}` |" in text
