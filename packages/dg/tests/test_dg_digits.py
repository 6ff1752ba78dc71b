"""The task dg/digits."""

import dataclasses

import pytest
import torch

from regathlon_core import Budget, SampleDraw, UserError, fit
from regathlon_core.rng import global_stream
from regathlon_data import DOMAINS, digit_domain
from regathlon_dg import DigitDomainsSettings, DigitDomainsTask
from regathlon_vision import ResNet8Settings


@pytest.fixture(scope="module")
def task() -> DigitDomainsTask:
    return DigitDomainsSettings(test="poster").build()


def everything(task, split):
    return task.batch(split, torch.arange(task.size(split)))


def test_the_declaration_knows_the_domains_of_the_data():
    assert DigitDomainsSettings.domains == DOMAINS


def test_without_a_domain_it_stands_for_each_of_them():
    grid = DigitDomainsSettings().grid()
    assert [str(settings) for settings in grid] == [f"dg/digits(test={domain})" for domain in DOMAINS]
    assert all(settings.grid() == (settings,) for settings in grid)


def test_building_needs_a_domain():
    with pytest.raises(UserError, match=r"needs a domain to test on: one of dg/digits\(test=paper\), "):
        DigitDomainsSettings().build()


def test_a_wrong_domain_gets_the_nearest():
    with pytest.raises(UserError, match=r"no domain of dg/digits 'postr'\. Did you mean 'poster'"):
        DigitDomainsSettings(test="postr")


@pytest.mark.parametrize("held_out", DOMAINS)
def test_the_held_out_domain_is_tested_on_and_nothing_else(held_out):
    task = DigitDomainsSettings(test=held_out).build()
    number = DOMAINS.index(held_out)
    for split in ("train", "val"):
        assert set(everything(task, split).domain.tolist()) == set(range(4)) - {number}
    test = everything(task, "test")
    assert set(test.domain.tolist()) == {number}
    parts = [digit_domain(held_out, split) for split in ("train", "val")]
    assert task.size("test") == sum(len(part.labels) for part in parts)
    labels = torch.cat([torch.from_numpy(part.labels.copy()) for part in parts])
    assert torch.equal(test.targets, labels)


def test_images_labels_and_domains_belong_together(task):
    known = {}
    for domain in DOMAINS:
        part = digit_domain(domain)
        for image, label in zip(part.images, part.labels, strict=True):
            known[image.tobytes()] = (DOMAINS.index(domain), int(label))
    batch = everything(task, "train")
    images = ((batch.inputs / 4 + 0.5) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    found = [known[image.tobytes()] for image in images]
    assert found == list(zip(batch.domain.tolist(), batch.targets.tolist(), strict=True))


def test_train_and_val_share_no_image(task):
    train = {image.numpy().tobytes() for image in everything(task, "train").inputs}
    assert not train & {image.numpy().tobytes() for image in everything(task, "val").inputs}


@pytest.mark.parametrize("batch_size", [1, 3, 7, 24, 100])
def test_batches_are_balanced_over_the_sources(task, batch_size):
    domain = everything(task, "train").domain
    for index in task.order(epoch=0, seed=0, batch_size=batch_size):
        counts = torch.bincount(domain[index], minlength=4)[[0, 1, 3]]
        assert counts.max() - counts.min() <= 1


def test_an_epoch_shows_every_sample(task):
    shown = torch.cat(task.order(epoch=2, seed=5, batch_size=3))
    assert set(shown.tolist()) == set(range(task.size("train")))
    counts = torch.bincount(shown)
    assert counts.max() <= 2  # those of smaller domains fill up their turns


def test_the_order_is_a_function_of_epoch_and_seed(task):
    first, again = task.order(1, 7, 24), task.order(1, 7, 24)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(torch.cat(first), torch.cat(task.order(2, 7, 24)))
    assert not torch.equal(torch.cat(first), torch.cat(task.order(1, 8, 24)))


def test_augmentation_belongs_to_the_sample(task):
    draw = SampleDraw(seed=0, epoch=3)
    together = task.batch("train", torch.arange(10), draw).inputs
    assert torch.equal(together[6], task.batch("train", torch.tensor([6]), draw).inputs[0])
    assert not torch.equal(together, task.batch("train", torch.arange(10)).inputs)


def test_it_learns_in_seconds(task):
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(epochs=3), eval_every=3)
    with global_stream(0, "init"):
        model = ResNet8Settings(width=8).build(task)
    last = fit(model, task, recipe=recipe, seed=0).history[-1]
    assert last.val["accuracy"] > 0.3
    assert last.test["accuracy"] > 0.15
