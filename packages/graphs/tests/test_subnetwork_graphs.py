"""Sub-networks of torch-geometric's layers against smaller models that hold the gathered weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.subnetworks import kept_channels, subnetwork

geometric = pytest.importorskip("torch_geometric.nn")


def c(channels: int) -> int:
    return kept_channels(channels, 0.6)


class Convolutional(nn.Module):
    """Two graph convolutions."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.one, self.two = geometric.GCNConv(5, hidden), geometric.GCNConv(hidden, 3)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        return self.two(F.relu(self.one(x, edges)), edges)


class Attentive(nn.Module):
    """Attention heads, then one averaged head."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.one = geometric.GATConv(5, 4, heads=heads)
        self.two = geometric.GATConv(heads * 4, 3, heads=1, concat=False)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        return self.two(F.elu(self.one(x, edges)), edges)


class Pooled(nn.Module):
    """A graph classifier: GraphSAGE and GIN layers, batch-norm, jumping knowledge, pooling per graph."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.one, self.norm = geometric.SAGEConv(5, hidden), geometric.BatchNorm(hidden)
        self.two = geometric.GINConv(
            nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        )
        self.fc = nn.Linear(3 * hidden, 3)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        first = F.relu(self.norm(self.one(x, edges)))
        second = self.two(first, edges)
        pooled = [geometric.global_mean_pool(first, graph), geometric.global_max_pool(second, graph)]
        return self.fc(torch.cat([*pooled, geometric.global_add_pool(second, graph)], dim=-1))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("model_class", [Convolutional, Attentive, Pooled])
def test_equals_a_smaller_model(model_class: type[nn.Module], training: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    model, small = model_class(10, 5).double(), model_class(c(10), c(5)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    segments = [part * 10 + at for part in range(3) for at in range(c(10))]
    state = {}
    for name, target in small.state_dict().items():
        tensor = model.state_dict()[name]
        tensor = tensor[:, segments] if name == "fc.weight" else tensor
        state[name] = tensor[tuple(slice(size) for size in target.shape)]
    small.load_state_dict(state)
    model.train(training)
    small.train(training)
    x = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    edges = torch.randint(0, 9, (2, 30), generator=generator)
    graph = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
    with subnetwork(model, 0.6):
        out = model(x, edges, graph)
    expected = small(x, edges, graph)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    out.square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in small.named_parameters():
        gradient = model.get_parameter(name).grad
        gradient = gradient[:, segments] if name == "fc.weight" else gradient
        landed = gradient[tuple(slice(size) for size in parameter.shape)]
        torch.testing.assert_close(landed, parameter.grad, rtol=1e-9, atol=1e-10, msg=name)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
