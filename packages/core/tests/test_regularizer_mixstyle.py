"""MixStyle: statistics by loops, partners of other domains, nothing for the gradient to move in the statistics."""

import pytest
import torch
from torch import Tensor

from regathlon_core import MixStyle, MixStyleSettings, UserError
from regathlon_core.functional import mixstyle
from regathlon_core.regularizers.mixstyle.functional import sample_partners
from regathlon_core.rng import stream
from regathlon_core.testing import ToyDomains, ToyImages, ToyNodes, conformance_checks


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "noise"), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(4, 3, 7), (4, 3, 5, 6), (4, 2, 2, 3, 4)])
def test_statistics_by_loops(shape: tuple[int, ...]) -> None:
    x, partner = 3 * noise(*shape) + 1, torch.tensor([2, 0, 3, 1])
    weight = torch.tensor([0.0, 0.3, 1.0, 0.8], dtype=torch.float64)
    found = mixstyle(x, partner, weight)
    for i, j in enumerate(partner.tolist()):
        for c in range(shape[1]):
            own, other, share = x[i, c], x[j, c], float(weight[i])
            mean = share * own.mean() + (1 - share) * other.mean()
            deviation = share * own.std() + (1 - share) * other.std()
            expected = (own - own.mean()) / own.std() * deviation + mean
            torch.testing.assert_close(
                found[i, c], expected, rtol=1e-5, atol=1e-5
            )  # 1e-6 guards the variance


def test_positions_that_are_not_there_do_not_count() -> None:
    x, partner, weight = noise(2, 3, 9), torch.tensor([1, 0]), torch.zeros(2)
    present = torch.arange(9) < torch.tensor([[9], [4]])
    found = mixstyle(x * present[:, None], partner, weight, present=present)
    torch.testing.assert_close(found[0].mean(1), x[1, :, :4].mean(1))
    torch.testing.assert_close(found[1, :, :4].std(1), x[0].std(1), rtol=1e-4, atol=1e-4)


def test_statistics_are_constants() -> None:
    x = noise(4, 3, 5, 5).requires_grad_()
    weight = torch.full((4,), 0.4, dtype=torch.float64)
    out = mixstyle(x, torch.tensor([1, 2, 3, 0]), weight)
    (grad,) = torch.autograd.grad(out[0].sum(), x)
    assert not bool(grad[1:].any())
    share = 0.4 + 0.6 * x[1].detach().flatten(1).std(1) / x[0].detach().flatten(1).std(1)
    torch.testing.assert_close(grad[0], share[:, None, None].expand_as(grad[0]), rtol=1e-5, atol=1e-5)


def test_partners_come_from_other_domains_evenly() -> None:
    domain = torch.tensor([0, 0, 1, 1, 1, 2])
    generator = stream(0, "partners")
    drawn = torch.stack([sample_partners(6, domain=domain, generator=generator) for _ in range(2000)])
    assert bool((domain[drawn] != domain).all())
    for i in range(6):
        foreign = int((domain != domain[i]).sum())
        counts = torch.bincount(drawn[:, i], minlength=6)[domain != domain[i]]
        expected = 2000 / foreign
        assert bool(((counts - expected).abs() < 5 * expected**0.5).all())
    alone = sample_partners(3, domain=torch.zeros(3, dtype=torch.int64), generator=generator)
    assert alone.tolist() == [0, 1, 2]
    assert sorted(sample_partners(5, generator=generator).tolist()) == [0, 1, 2, 3, 4]


def test_the_step_s_domains_are_used() -> None:
    task = ToyDomains()
    batch = task.batch("train", torch.arange(12))
    layer = MixStyle(p=1.0, alpha=100.0, mix="crossdomain", where=("block1",))
    model = task.model(seed=0)
    layer.attach(model, task)
    layer.transform(model, batch, task, stream(0, "step"))
    styles = batch.domain.double()[:, None, None].expand(12, 1, 8).clone()
    styles += 1e-3 * noise(12, 1, 8)
    means = layer.act(styles, stream(0, "act"), "block1").mean((1, 2))
    layer.detach()
    assert bool(((means > 0.2) & (means < 0.8)).all())


def test_the_coin_and_the_places() -> None:
    x = noise(4, 3, 5, 5)
    layer = MixStyle(p=0.3)
    generator = stream(0, "coin")
    count = sum(layer.act(x, generator, "") is not x for _ in range(1000))
    assert abs(count - 300) < 5 * (1000 * 0.3 * 0.7) ** 0.5
    alone = x[:1]
    assert MixStyle(p=1.0).act(alone, generator, "") is alone
    task = ToyImages()
    names = [point.module for point in layer.usual(task.features(task.model(0)))]
    assert names == ["block1"]


def test_what_cannot_be_is_refused() -> None:
    assert "single one" in (MixStyleSettings().refusal(ToyNodes().settings) or "")
    assert "domains" in (MixStyleSettings(mix="crossdomain").refusal(ToyImages().settings) or "")
    for field, value in (("p", 1.1), ("alpha", 0.0), ("mix", "cross")):
        with pytest.raises(UserError, match=field):
            MixStyleSettings(**{field: value})


CROSS = MixStyleSettings(p=1.0, mix="crossdomain")


@pytest.mark.parametrize("check", conformance_checks(CROSS, [ToyDomains()]), ids=str)
def test_crossdomain_keeps_the_rules(check) -> None:
    check()
