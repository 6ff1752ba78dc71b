"""What is dropped, how often and on what scale; consistency by hand; cards; the new models beside GradAug and RelDrop."""

import importlib.resources
import re
from math import sqrt

import pytest
import torch

from regathlon_core import UserError
from regathlon_core.notation import parse_one
from regathlon_core.testing import conformance_checks
from regathlon_graphs import (
    DropEdgeSettings,
    DropMessage,
    DropMessageSettings,
    DropNodeSettings,
    GrandSettings,
    Karate,
    KarateSettings,
    NodeGatSettings,
    NodeGcnSettings,
    NodeNetwork,
    NodeSageSettings,
)
from regathlon_graphs.changes import drop_edges, drop_nodes
from regathlon_graphs.pyg import Graph
from regathlon_graphs.regularizers.grand.regularizer import consistency

SETTINGS = (DropEdgeSettings(), DropMessageSettings(), DropNodeSettings(), GrandSettings())


def ring(nodes=4000):
    one = torch.arange(nodes)
    pairs = torch.stack([one, (one + 1) % nodes])
    edge_attr = torch.arange(nodes).float().repeat(2)[:, None]
    return Graph(x=torch.ones(nodes, 3), edge_index=torch.cat([pairs, pairs.flip(0)], 1), edge_attr=edge_attr)


def test_edges_are_dropped_both_ways_with_their_attributes():
    graph = ring()
    out = drop_edges(graph, 0.3, generator=torch.Generator().manual_seed(0))
    kept = {tuple(edge) for edge in out.edge_index.T.tolist()}
    assert kept == {(b, a) for a, b in kept}
    assert abs(len(kept) / 8000 - 0.7) < 5 * sqrt(0.3 * 0.7 / 4000)
    number = {tuple(e): a for e, a in zip(graph.edge_index.T.tolist(), graph.edge_attr.tolist(), strict=True)}
    assert all(
        number[tuple(e)] == a for e, a in zip(out.edge_index.T.tolist(), out.edge_attr.tolist(), strict=True)
    )
    assert out.x is graph.x


def test_nodes_are_dropped_whole_and_the_mean_stays():
    graph = ring()
    out = drop_nodes(graph, 0.4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out.x, out.x[:, :1].expand_as(out.x))
    assert out.x.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert abs(float((out.x[:, 0] > 0).float().mean()) - 0.6) < 5 * sqrt(0.4 * 0.6 / 4000)
    assert not drop_nodes(graph, 1.0).x.any()
    assert out.edge_index is graph.edge_index


@pytest.mark.parametrize("kind", ["gcn", "sage", "gat"])
def test_messages_are_dropped_in_training_alone(kind):
    task = Karate()
    batch = task.batch("train", torch.arange(4))
    model = NodeNetwork(task.in_channels, 4, kind=kind, hidden=8)
    plain = model(batch.inputs)
    regularizer = DropMessage(p=0.5)
    regularizer.attach(model, task)
    changed = regularizer.transform(model, batch, task, torch.Generator().manual_seed(0))
    assert not torch.allclose(model(changed.inputs), plain)
    model.eval()
    torch.testing.assert_close(model(batch.inputs), plain)
    regularizer.detach()
    torch.testing.assert_close(model.train()(batch.inputs), plain)


def test_entries_of_messages_are_dropped_one_by_one():
    graph = ring(2000)
    model = NodeNetwork(3, 2, hidden=64, layers=2)
    seen = []
    regularizer = DropMessage(p=0.25)
    regularizer._generator = torch.Generator().manual_seed(0)
    graph.message_dropout = lambda messages: (
        seen.append((messages, regularizer._drop(messages))) or seen[-1][1]
    )
    model(graph)
    before, after = seen[0]
    dropped = (after == 0) & (before != 0)
    assert abs(float(dropped.float().mean()) - 0.25) < 5 * sqrt(0.25 * 0.75 / before.numel())
    torch.testing.assert_close(after[~dropped], before[~dropped] / 0.75)


def test_consistency_is_equations_4_to_6():
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    predicted = [output.float().softmax(1) for output in outputs]
    average = sum(predicted) / 3
    total = 0.0
    for node in range(5):
        powers = [float(average[node, k]) ** (1 / 0.4) for k in range(3)]
        sharp = [power / sum(powers) for power in powers]
        total += sum((float(p[node, k]) - sharp[k]) ** 2 for p in predicted for k in range(3))
    assert float(consistency(outputs, 0.4)) == pytest.approx(total / 15, rel=1e-5)


def test_grand_with_one_view_and_no_weight_trains_on_dropped_nodes():
    task = Karate()
    batch = task.batch("train", torch.arange(4))
    model = NodeNetwork(task.in_channels, 4)
    (loss,) = (
        GrandSettings(views=1, weight=0.0)
        .build()
        .losses(model, batch, task, torch.Generator().manual_seed(0))
    )
    graph = drop_nodes(batch.inputs, 0.5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, task.loss(model, batch.replace(inputs=graph)))


@pytest.mark.parametrize("change", [{"views": 0}, {"weight": -1.0}, {"temperature": 0.0}, {"p": 1.5}])
def test_settings_of_grand_out_of_range_are_refused(change):
    with pytest.raises(UserError):
        GrandSettings(**change)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_cards_are_complete_and_run(settings):
    card = (importlib.resources.files(type(settings).__module__.rpartition(".")[0]) / "card.md").read_text(
        "utf-8"
    )
    assert card.startswith(f"# {settings.name}\n")
    for title in (
        "What it does",
        "How to use",
        "Hyper-parameters",
        "Cost",
        "Composes with",
        "Deviations",
        "Citation",
    ):
        assert f"\n## {title}\n" in card
    for field in settings.settings():
        assert f"| `{field}` |" in card
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(compile(block, f"{settings.name}/card.md", "exec"), {})


class OtherModel(KarateSettings):
    """Karate with another model as the default."""


@pytest.mark.parametrize(
    "model", [NodeGatSettings, NodeSageSettings, NodeGcnSettings], ids=lambda model: model.name
)
@pytest.mark.parametrize(
    "regularizer", ["gradaug(n=1, views=[edge_drop])", "reldrop", "dropgraph", "drop_edge"]
)
def test_regularizers_of_images_and_graphs_conform_on_every_model(model, regularizer, monkeypatch):
    from regathlon_core.regularizers.dropgraph.settings import DropGraphSettings
    from regathlon_core.regularizers.gradaug.settings import GradAugSettings
    from regathlon_core.regularizers.reldrop.settings import RelDropSettings

    kinds = {s.name: s for s in (DropGraphSettings, GradAugSettings, RelDropSettings, DropEdgeSettings)}
    call = parse_one(regularizer, kind="regularizer")
    monkeypatch.setattr(OtherModel, "models", (model,))
    kind = kinds[call.name]
    settings = kind(**{**kind.acting, **call.values(kind)})
    refusal = settings.refusal(OtherModel())
    if refusal:
        pytest.skip(refusal)
    for check in conformance_checks(settings, [OtherModel()]):
        try:
            check()
        except pytest.skip.Exception:
            continue
        except Exception as error:
            if type(error).__name__ != "SkipTest":
                raise
