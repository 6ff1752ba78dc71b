"""Mixup across domains: who is averaged with whom, and by how much."""

import math

import pytest
import torch

from regathlon_core import MixupDomains, MixupDomainsSettings, UserError
from regathlon_core.regularizers.mixup_domains.functional import sample_mixup_domains
from regathlon_core.rng import stream
from regathlon_core.testing import ToyDomains, conformance_checks


@pytest.mark.parametrize("domain", [[0, 1, 2, 0, 1, 2], [3, 3, 3, 1, 0, 0, 0], [0, 1]])
def test_partners_are_of_the_next_domain_and_domains_share_a_weight(domain: list[int]) -> None:
    owner = torch.tensor(domain)
    for seed in range(20):
        partner, weight = sample_mixup_domains(owner, 0.4, generator=stream(seed, "mix"))
        following = {}
        for number in set(domain):
            chosen = owner == number
            (following[number],) = set(owner[partner[chosen]].tolist())
            assert len(set(weight[chosen].tolist())) == 1
            others = int((owner == following[number]).sum())
            assert len(set(partner[chosen].tolist())) == min(int(chosen.sum()), others)
        # A circle: going on to the next domain comes by every one of them.
        at, seen = domain[0], set()
        while at not in seen:
            seen.add(at)
            at = following[at]
        assert seen == set(domain)
        assert bool(((weight >= 0) & (weight <= 1)).all())


def test_every_other_sample_is_as_likely_a_partner() -> None:
    owner = torch.tensor([0, 0, 1, 1, 1, 2])
    draws = 4000
    counts = torch.zeros(6)
    for seed in range(draws):
        counts[sample_mixup_domains(owner, 1.0, generator=stream(seed, "mix"))[0][0]] += 1
    share = counts / draws
    # Of the two other domains each is next in half of the circles; their samples are equally likely.
    for place, p in enumerate((0, 0, 1 / 6, 1 / 6, 1 / 6, 1 / 2)):
        assert abs(float(share[place]) - p) <= 5 * math.sqrt(p * (1 - p) / draws)


def test_inputs_and_labels_are_mixed_alike() -> None:
    task = ToyDomains()
    batch = task.batch("train", torch.arange(12))
    found = MixupDomains(alpha=1.0).transform(task.model(seed=0), batch, task, stream(0, "step"))
    partner, weight = sample_mixup_domains(batch.domain, 1.0, generator=stream(0, "step"))
    share = weight.reshape(-1, *[1] * (batch.inputs.ndim - 1))
    torch.testing.assert_close(found.inputs, share * batch.inputs + (1 - share) * batch.inputs[partner])
    assert torch.equal(found.mixed.targets, batch.targets[partner])
    assert torch.equal(found.mixed.weight, weight)
    assert torch.equal(found.targets, batch.targets)
    assert torch.equal(found.domain, batch.domain)


def test_a_single_domain_is_mixed_with_itself() -> None:
    partner, _ = sample_mixup_domains(torch.zeros(8, dtype=torch.int64), 1.0, generator=stream(0, "mix"))
    assert sorted(partner.tolist()) == list(range(8))


def test_bad_settings_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="alpha"):
        MixupDomainsSettings(alpha=-1.0)


@pytest.mark.parametrize("check", conformance_checks(MixupDomainsSettings(), [ToyDomains()]), ids=str)
def test_it_keeps_the_rules(check) -> None:
    check()
