"""PointNet++ and DGCNN: what they compute, and that sub-networks, relevance and regularizers work on them."""

import pytest
import torch
import torch.nn.functional as F

from regathlon_core import Budget, DropGraph, GradAug, Recipe, RelDrop, UserError, fit, subnetwork
from regathlon_core.attribution import gradient_x_input, lrp
from regathlon_core.passes import PassRole, run_as
from regathlon_points import (
    DGCNN,
    DGCNNSettings,
    EdgeConv,
    PointNet,
    PointNet2,
    PointNet2Settings,
    PointNetSettings,
    Shapes,
    ShapesSettings,
)
from regathlon_points.ops import ball_query, farthest_point_sample, knn, take

MODELS = {
    "pointnet": lambda channels: PointNet(channels, 5, width=0.25),
    "pointnet with transform": lambda channels: PointNet(channels, 5, width=0.25, transform=True),
    "ssg": lambda channels: PointNet2(channels, 5, width=0.25),
    "msg": lambda channels: PointNet2(channels, 5, grouping="multi", width=0.25),
    "dgcnn": lambda channels: DGCNN(channels, 5, k=8, width=0.25),
}


def randomised(model, seed=3):
    """Give a model in float64 random weights, biases, scales and running statistics."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            tensor.data.copy_(noise.abs() + 0.5)
        elif tensor.dim() > 1:
            tensor.data.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
        elif tensor.dim() == 1:
            tensor.data.copy_(0.3 * noise + name.endswith("weight"))
    return model


def clouds(channels=3, total=48, batch=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, channels, total, generator=generator, dtype=torch.float64)
    x[:, :3] /= x[:, :3].norm(dim=1).amax(1)[:, None, None]
    return x


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("name", MODELS)
def test_relevance_is_conserved(name, channels):
    model, x = randomised(MODELS[name](channels)), clouds(channels)
    relevance = lrp(model, x, torch.arange(3))
    assert relevance.shape == x.shape
    torch.testing.assert_close(relevance.sum((1, 2)), torch.ones(3, dtype=x.dtype), rtol=0, atol=1e-5)
    logits = model.eval()(x).detach()
    relevance = lrp(model, x, 2, init="logit")
    torch.testing.assert_close(relevance.sum((1, 2)), logits[:, 2], rtol=1e-5, atol=1e-8)
    assert bool(gradient_x_input(model, x, 2).isfinite().all())


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_points_does_not_matter_and_relevance_follows_it(name):
    model, x = randomised(MODELS[name](3)).eval(), clouds()
    order = torch.randperm(48, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(model(x[:, :, order]), model(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        lrp(model, x[:, :, order], 1), lrp(model, x, 1)[:, :, order], rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("batch", "total"), [(1, 1), (1, 2), (2, 1), (3, 7)])
def test_tiny_and_equal_clouds_train_and_are_explained_without_nan(name, batch, total):
    model = MODELS[name](3).train()
    for x in (torch.randn(batch, 3, total), torch.full((batch, 3, total), 0.5)):
        loss = F.cross_entropy(model(x), torch.zeros(batch, dtype=torch.long))
        loss.backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
        assert bool(lrp(model, x, 1).isfinite().all())


def test_points_outside_of_all_balls_are_irrelevant():
    model, x = randomised(PointNet2(3, 5, width=0.25)), clouds(total=64)
    relevance = lrp(model, x, 1).sum(1)
    rows = x.mT
    centers = farthest_point_sample(rows, 32)
    seen = torch.zeros(3, 64, dtype=torch.bool)
    seen.scatter_(1, centers, True)
    seen.scatter_(1, ball_query(rows, take(rows, centers), 0.2, 32).flatten(1), True)
    assert not bool(seen.all())
    assert bool((relevance[~seen] == 0).all())
    assert bool((relevance[seen] != 0).any())


def edge_conv_as_written(layer, x, index):
    """φ(W [x_j - x_i ; x_i]), one edge's vector after the other, and the maximum over j."""
    weight = torch.cat([layer.near.weight, layer.own.weight], dim=1)[:, :, 0]
    rows = x.mT
    near = torch.stack([cloud[neighbours] for cloud, neighbours in zip(rows, index, strict=True)])
    own = rows[:, :, None].expand_as(near)
    values = torch.cat([near - own, own], dim=-1) @ weight.T
    norm = layer.norm
    if norm.training:
        mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2), unbiased=False)
    else:
        mean, variance = norm.running_mean, norm.running_var
    values = (values - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
    return F.leaky_relu(values, 0.2).amax(2).mT


@pytest.mark.parametrize("training", [True, False])
def test_edge_conv_is_what_the_paper_writes(training):
    layer, x = randomised(EdgeConv(3, 7, k=5)).train(training), clouds()
    index = knn(x.mT, 5)
    torch.testing.assert_close(layer(x), edge_conv_as_written(layer, x, index))
    with run_as(layer, PassRole.ATTRIBUTION):
        as_asked = layer(x)
        torch.testing.assert_close(as_asked, edge_conv_as_written(layer, x, index))


def test_edge_conv_takes_its_statistics_over_edges_and_its_gradients_are_those_of_the_paper():
    layer, x = EdgeConv(3, 7, k=5).double().train(), clouds().requires_grad_()
    index = knn(x.detach().mT, 5)
    parameters = [x, *layer.parameters()]
    out = layer(x, index)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=out.dtype)
    grads = torch.autograd.grad((out * slope).sum(), parameters)
    wanted = torch.autograd.grad((edge_conv_as_written(layer, x, index) * slope).sum(), parameters)
    for grad, right in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, right)
    assert int(layer.norm.num_batches_tracked) == 1


def test_initial_weights_are_those_of_one_layer_over_both_halves():
    torch.manual_seed(0)
    layer = EdgeConv(64, 64)
    bound = (1 / 128) ** 0.5  # torch's default for a fan-in of 2 x 64
    for half in (layer.near, layer.own):
        assert float(half.weight.detach().abs().max()) <= bound
        assert float(half.weight.detach().abs().max()) > 0.98 * bound


def cut(full, part, segments):
    """Return the entries of a parameter that a sub-network of half the width keeps."""
    for dim, size in enumerate(part.shape):
        if full.shape[dim] == size:
            continue
        pieces = segments if sum(segments) == full.shape[dim] else [full.shape[dim]]
        starts = [sum(pieces[:i]) for i in range(len(pieces))]
        keep = torch.cat(
            [torch.arange(start, start + piece // 2) for start, piece in zip(starts, pieces, strict=True)]
        )
        full = full.index_select(dim, keep)
    return full


@pytest.mark.parametrize(
    ("full", "half", "segments"),
    [
        (lambda: DGCNN(3, 5, k=6, width=0.25, dropout=0), lambda: DGCNN(3, 5, k=6, width=0.125, dropout=0), {
            "embedding.0.weight": [16, 16, 32, 64], "head.0.0.weight": [256, 256]}),
        (lambda: PointNet(3, 5, width=0.25), lambda: PointNet(3, 5, width=0.125), {}),
    ],
)  # fmt: skip
def test_a_sub_network_is_the_smaller_model_with_segments(full, half, segments):
    full, half, x = randomised(full()), half().double(), clouds()
    state = full.state_dict()
    half.load_state_dict(
        {name: cut(state[name], part, segments.get(name, [])) for name, part in half.state_dict().items()}
    )
    for training in (False, True):  # training moves the smaller model's running statistics
        full.train(training)
        half.train(training)
        with subnetwork(full, 0.5, output_layers=full.output_layers()):
            out = full(x)
        torch.testing.assert_close(out, half(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "settings",
    [
        PointNetSettings(),
        PointNet2Settings(width=0.25),
        PointNet2Settings(width=0.125, grouping="multi"),
        DGCNNSettings(width=0.25, k=6),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "regularizer", [lambda: GradAug(n=2), lambda: DropGraph(p=0.2), RelDrop], ids=lambda r: r().settings.name
)
def test_regularizers_train_them(settings, regularizer):
    task = Shapes(ShapesSettings(points=32))
    recipe = Recipe(batch_size=8, budget=Budget(steps=2))
    result = fit(settings.build(task), task, regularizer(), recipe, seed=0)
    assert result.cost.steps == 2
    assert all(bool(p.isfinite().all()) for p in result.model.parameters())


def test_settings_are_checked():
    for wrong in (
        lambda: PointNet2Settings(width=0.0),
        lambda: PointNet2Settings(grouping="many"),
        lambda: DGCNNSettings(k=0),
        lambda: DGCNNSettings(dropout=1.0),
    ):
        with pytest.raises(UserError):
            wrong()
