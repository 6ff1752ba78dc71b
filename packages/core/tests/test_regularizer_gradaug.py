"""GradAug against its paper: what the passes are taught, what they may move, and what they cost."""

import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core import Batch, Compose, CutMix, GradAug, RandScale, RandWidth, UserError, View, run_as
from regathlon_core.passes import PassRole
from regathlon_core.regularizers.gradaug.functional import sample_widths
from regathlon_core.regularizers.gradaug.settings import GradAugSettings, RandRotSettings
from regathlon_core.rng import stream
from regathlon_core.settings import check_composition
from regathlon_core.subnetworks import kept_channels, subnetwork
from regathlon_core.testing import ToyImages, ToyNodes


@pytest.fixture(scope="module")
def task() -> ToyImages:
    return ToyImages()


@pytest.fixture
def model(task: ToyImages) -> nn.Module:
    return task.model(seed=0).double().train()


@pytest.fixture
def batch(task: ToyImages) -> Batch:
    found = task.batch("train", torch.arange(8))
    return found.replace(inputs=found.inputs.double())


def step(regularizer: GradAug, model: nn.Module, batch: Batch, task: ToyImages, seed: int = 0) -> list[float]:
    regularizer.attach(model, task)
    generator = stream(seed, "test")
    values = []
    for loss in regularizer.losses(model, batch, task, generator):
        values.append(float(loss.detach()))
        loss.backward()
    return values


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("divisor", [1, 4])
def test_gradients_are_the_sum_of_separate_trainings(
    divisor: int, task: ToyImages, model: nn.Module, batch: Batch
) -> None:
    regularizer = GradAug(n=3, alpha=0.4, divisor=divisor)
    separate = copy.deepcopy(model)
    step(regularizer, model, batch, task)

    # The same draws again, each term alone on a copy of its own.
    logits = copy.deepcopy(separate)(batch.inputs).detach()
    total = {name: torch.zeros_like(parameter) for name, parameter in separate.named_parameters()}

    def add(net: nn.Module, loss: Tensor) -> None:
        for (name, _), grad in zip(
            net.named_parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True
        ):
            total[name] += grad

    net = copy.deepcopy(separate)
    add(net, F.cross_entropy(net(batch.inputs), batch.targets))
    generator = stream(0, "test")
    views = task.views(batch, generator)
    for width in sample_widths(3, 0.4, generator):
        view = next(views)
        net = copy.deepcopy(separate)
        with subnetwork(net, width, divisor=divisor) as sub:
            log_p = net(view.batch.inputs).log_softmax(1)
        soft_cross_entropy = -(logits.softmax(1) * log_p).sum(1).mean()
        add(net, soft_cross_entropy)
        assert len(sub.kept("block1.0.weight") or range(8)) % divisor == 0
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, total[name], atol=1e-12, rtol=0)


def test_channels_beyond_the_sub_network_learn_from_labels_alone(
    task: ToyImages, model: nn.Module, batch: Batch
) -> None:
    plain = copy.deepcopy(model)
    plain_loss = F.cross_entropy(plain(batch.inputs), batch.targets)
    plain_loss.backward()
    step(GradAug(n=1, alpha=0.5, always_min=True), model, batch, task)
    kept = kept_channels(8, 0.5)
    assert kept == 4
    beyond = model.get_parameter("block1.0.weight").grad[kept:]
    assert torch.equal(beyond, plain.get_parameter("block1.0.weight").grad[kept:])
    assert not torch.equal(
        model.get_parameter("block1.0.weight").grad[:kept], plain.get_parameter("block1.0.weight").grad[:kept]
    )


def test_only_the_full_pass_moves_statistics(task: ToyImages, model: nn.Module, batch: Batch) -> None:
    plain = copy.deepcopy(model)
    plain(batch.inputs)
    for regularizer in (GradAug(n=3, alpha=0.5), GradAug(n=2, alpha=1.0), RandScale(n=2), RandWidth(n=2)):
        trained = copy.deepcopy(model)
        step(regularizer, trained, batch, task)
        for (name, buffer), wanted in zip(trained.named_buffers(), plain.buffers(), strict=True):
            assert torch.equal(buffer, wanted), f"{regularizer.settings.name} moves {name}"


def test_soft_labels_are_constants_and_the_distance_is_a_divergence(task: ToyImages) -> None:
    generator = stream(0, "logits")
    outputs = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    loss = task.soft_loss(outputs, reference)
    wanted = F.kl_div(outputs.log_softmax(1), reference.softmax(1), reduction="batchmean")
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert reference.grad is None
    soft = outputs.detach().clone().requires_grad_()
    (-(reference.detach().softmax(1) * soft.log_softmax(1)).sum(1).mean()).backward()
    torch.testing.assert_close(outputs.grad, soft.grad, atol=1e-14, rtol=0)
    assert float(task.soft_loss(outputs, outputs).detach()) == pytest.approx(0, abs=1e-14)


def test_widths_hold_the_smallest_once_and_are_uniform_above_it() -> None:
    generator = stream(0, "widths")
    draws = 4000
    others = []
    for _ in range(draws):
        widths = sample_widths(3, 0.6, generator)
        assert widths == sorted(widths, reverse=True)
        assert widths.count(0.6) == 1
        assert all(0.6 <= width <= 1 for width in widths)
        others += widths[:2]
    mean, sd = 0.8, 0.4 / 12**0.5
    assert sum(others) / len(others) == pytest.approx(mean, abs=5 * sd / len(others) ** 0.5)
    assert 0.6 not in [sample_widths(1, 0.6, generator)[0] for _ in range(50)]
    assert sample_widths(1, 0.6, generator, always_min=True) == [0.6]
    assert sample_widths(0, 0.6, generator) == []


def test_views_are_made_of_the_mixed_batch(task: ToyImages, model: nn.Module, batch: Batch) -> None:
    seen: list[Batch] = []

    class Watching(ToyImages):
        def views(self, batch, generator, kinds=()):  # type: ignore[no-untyped-def]
            seen.append(batch)
            return super().views(batch, generator, kinds)

    watching = Watching()
    regularizer = Compose([GradAug(n=1), CutMix(p=1.0)])
    regularizer.attach(model, watching)
    generator = stream(1, "mix")
    mixed = regularizer.transform(model, batch, watching, generator)
    list(regularizer.losses(model, mixed, watching, generator))
    assert mixed.mixed is not None
    assert seen[0] is mixed


def test_one_graph_is_alive_at_a_time(task: ToyImages, model: nn.Module, batch: Batch) -> None:
    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            alive.add(self)

    alive: weakref.WeakSet[Saved] = weakref.WeakSet()

    counts = []
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        for loss in GradAug(n=3, alpha=0.5).losses(model, batch, task, stream(0, "memory")):
            counts.append(len(alive))
            loss.backward()
            del loss
            assert not alive
    assert len(counts) == 4
    assert all(counts)


def test_an_exception_in_a_sub_pass_leaves_the_model_plain(model: nn.Module, batch: Batch) -> None:
    class Failing(ToyImages):
        def views(self, batch, generator, kinds=()):  # type: ignore[no-untyped-def]
            yield View(
                batch.replace(inputs=batch.inputs[:, :, 0])
            )  # two-dimensional images: convolution refuses

    failing = Failing()
    terms = GradAug(n=1).losses(model, batch, failing, stream(0, "fail"))
    next(terms).backward()
    flags = [module.training for module in model.modules()]
    with pytest.raises((RuntimeError, UserError)):
        next(terms)
    assert [module.training for module in model.modules()] == flags
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert model(batch.inputs).shape == (8, 3)


def test_a_stale_statistic_would_show() -> None:
    """The seed's warning: were sub passes to move statistics, evaluation would use those of other inputs."""
    task = ToyImages()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(32))
    small = F.interpolate(batch.inputs, scale_factor=0.5)
    before = copy.deepcopy(model)
    with run_as(model, PassRole.SUB):
        model(small)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before.buffers(), strict=True))
    model(small)
    assert not all(torch.equal(a, b) for a, b in zip(model.buffers(), before.buffers(), strict=True))


def test_what_a_task_does_not_offer_is_refused_by_name() -> None:
    nodes = ToyNodes().settings
    reason = RandRotSettings().refusal(nodes)
    assert reason is not None
    assert "rotation" in reason
    assert nodes.name in reason
    assert "wobble" in (GradAugSettings(views=("wobble",)).refusal(ToyImages().settings) or "")
    with pytest.raises(UserError, match=r"gradaug and rand_rot|rand_rot and gradaug"):
        check_composition([GradAugSettings(), RandRotSettings()])


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"alpha": 1.1}, {"n": -1}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        GradAug(**settings)


def test_hard_labels_are_those_of_the_view(task: ToyImages, model: nn.Module, batch: Batch) -> None:
    net = copy.deepcopy(model)
    values = step(GradAug(n=1, alpha=1.0, labels="hard"), model, batch, task)
    generator = stream(0, "test")
    sample_widths(1, 1.0, generator)
    view = next(task.views(batch, generator))
    with run_as(net, PassRole.SUB):
        wanted = F.cross_entropy(net(view.batch.inputs), batch.targets)
    assert values[1] == pytest.approx(float(wanted.detach()), rel=1e-12)


def test_sub_networks_may_be_let_move_statistics_of_their_channels(
    task: ToyImages, model: nn.Module, batch: Batch
) -> None:
    once = copy.deepcopy(model)
    once(batch.inputs)
    step(GradAug(n=1, alpha=0.5, always_min=True, sub_statistics=True), model, batch, task)
    moved = 0
    for (name, found), wanted in zip(model.named_buffers(), once.buffers(), strict=True):
        if name.endswith("num_batches_tracked"):
            assert int(found) == 2 * int(wanted)
        elif name.endswith(("running_mean", "running_var")):
            kept = kept_channels(len(found), 0.5)
            assert torch.equal(found[kept:], wanted[kept:])
            assert not torch.equal(found[:kept], wanted[:kept])
            moved += 1
    assert moved


def test_statistics_of_channels_in_several_pieces_move_too() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(3, 4), nn.Linear(3, 6), nn.BatchNorm1d(10)
            self.out = nn.Linear(10, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.norm(torch.cat([self.a(x), self.b(x)], 1)))

    model = Joined().train()
    x = torch.randn(8, 3, generator=stream(0, "x"))
    with run_as(model, PassRole.FULL), subnetwork(model, 0.5) as sub:
        model(x)
    kept = sub.kept("norm.weight")
    assert kept == (0, 1, 4, 5, 6)
    assert [at for at in range(10) if model.norm.running_mean[at] != 0] == list(kept)
    assert int(model.norm.num_batches_tracked) == 1


@pytest.mark.parametrize("kind", [GradAug, RandScale, RandWidth])
def test_no_sub_networks_are_refused(kind) -> None:
    with pytest.raises(UserError, match="n must be a whole number of at least 1, not 0"):
        kind(n=0)


@pytest.mark.parametrize("kind", [GradAug, RandWidth])
def test_multiples_of_nothing_are_refused(kind) -> None:
    with pytest.raises(UserError, match="divisor must be a whole number of at least 1, not 0"):
        kind(divisor=0)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_impossible_widths_are_refused(alpha: float) -> None:
    with pytest.raises(UserError, match="alpha must be a number above 0 and at most 1"):
        GradAug(alpha=alpha)


def test_views_that_lose_samples_are_refused(task: ToyImages, model: nn.Module, batch: Batch) -> None:
    class Losing(ToyImages):
        def views(self, batch, generator, kinds=()):  # type: ignore[no-untyped-def]
            while True:
                yield View(batch.replace(inputs=batch.inputs[:5], targets=batch.targets[:5]))

    with pytest.raises(UserError, match="A view has 5 samples and the batch that it was made of 8"):
        step(GradAug(n=1), model, batch, Losing())
    assert "forward" not in model.__dict__
