"""The evaluation of what GSNR-guided dropout drops."""

import pytest
import torch

from regathlon_core import UserError
from regathlon_core.rng import global_stream, stream
from regathlon_core.testing import assert_imports_lightly
from regathlon_dg import DigitDomainsSettings, GSNRDropsSettings
from regathlon_vision import ResNet8Settings


@pytest.fixture(scope="module")
def found():
    task = DigitDomainsSettings(test="poster").build()
    with global_stream(0, "init"):
        model = ResNet8Settings(width=4).build(task)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    settings = GSNRDropsSettings(p=0.2, block_size=2, batches=3, batch_size=24, images=4)
    findings = settings.build().run(model, task, generator=stream(0, "evaluation"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert not any(module._forward_hooks for module in model.modules())
    return findings


def test_numbers(found):
    metrics = found.metrics
    assert metrics["loss_difference"] > 0
    for place in ("layer2.0", "layer3.0"):
        # Exactly as many blocks as would cover the share without overlaps, up to rounding to a whole block.
        assert 0.05 < metrics[f"dropped/{place}"] <= 0.21
        assert 0 < metrics[f"half/{place}"] <= 0.5


def test_pictures(found):
    assert [picture.name for picture in found.pictures] == ["places", "channels", "images"]
    assert found.pictures[0].image.shape == (3, 96 + 12, 2 * (96 + 6) + 6)
    rows = 4  # all samples, and three source domains
    assert found.pictures[1].image.shape == (3, 2 * (16 * rows + 6) + 6, 512 + 12)
    for picture in found.pictures:
        assert len(picture.image.unique()) > 3


def test_it_is_a_function_of_its_generator():
    task = DigitDomainsSettings(test="poster").build()
    with global_stream(0, "init"):
        model = ResNet8Settings(width=4).build(task)
    settings = GSNRDropsSettings(block_size=2, batches=1, batch_size=24)
    one, two = (settings.build().run(model, task, generator=stream(0, "evaluation")) for _ in range(2))
    assert one.metrics == two.metrics


def test_bad_settings_are_refused_by_name():
    for field, value in (("p", 0.0), ("batches", 0), ("batch_size", 1)):
        with pytest.raises(UserError, match=field):
            GSNRDropsSettings(**{field: value})


def test_the_declaration_imports_nothing_heavy():
    assert_imports_lightly([GSNRDropsSettings])
