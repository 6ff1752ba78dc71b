"""Where full network and sub-network look."""

import math

import pytest
import torch
import torch.nn.functional as F

from regathlon_core import PassRole, UserError, run_as, subnetwork
from regathlon_core.rng import global_stream, stream
from regathlon_vision import DigitsSettings, ResNet8Settings
from regathlon_vision.evaluations.sub_network_maps.evaluation import correlation
from regathlon_vision.evaluations.sub_network_maps.settings import SubNetworkMapsSettings


@pytest.fixture(scope="module")
def task():
    return DigitsSettings().build()


@pytest.fixture
def model(task):
    with global_stream(0, "init"):
        return ResNet8Settings(width=8).build(task).eval()


def test_three_rows_of_images_and_one_number(task, model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = SubNetworkMapsSettings(images=4, width=0.5)
    found = settings.build().run(model, task, generator=stream(0, "maps"))
    assert set(found.metrics) == {"correlation"}
    assert math.isnan(found.metrics["correlation"]) or -1 <= found.metrics["correlation"] <= 1
    (picture,) = found.pictures
    assert picture.image.shape == (3, 3 * (96 + 6) + 6, 4 * (96 + 6) + 6)
    again = settings.build().run(model, task, generator=stream(0, "maps"))
    assert torch.equal(picture.image, again.pictures[0].image)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module.training for module in model.modules())


def test_the_sub_network_s_map_is_its_class_activation_map(task, model):
    """With average pooling and a linear classifier, sum_k w_k A^k, cut off at 0: the weights of the kept channels."""
    from regathlon_vision.evaluations.grad_cam.functional import grad_cam, map_point

    batch = task.batch("test", torch.arange(6))
    point = map_point(task, model)
    seen = []

    def narrow(model, inputs):
        with run_as(model, PassRole.SUB), subnetwork(model, 0.5, output_layers=("fc",)):
            return model(inputs)

    heat = grad_cam(model, point, batch.inputs, batch.targets, forward=narrow)
    handle = model.get_submodule(point.module).register_forward_hook(
        lambda *call: seen.append(call[-1].detach())
    )
    with torch.no_grad():
        narrow(model, batch.inputs)
    handle.remove()
    (maps,) = seen
    kept = maps.size(1) if maps.size(1) < model.fc.in_features else model.fc.in_features // 2
    maps = torch.Tensor(maps)[:, :kept]
    weights = model.fc.weight.detach()[batch.targets, :kept] / maps[0, 0].numel()
    wanted = (weights[:, :, None, None] * maps).sum(1, keepdim=True).relu()
    wanted = F.interpolate(wanted, size=(8, 8), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(heat, wanted, rtol=1e-4, atol=1e-6)


def test_maps_that_do_not_vary_have_no_correlation():
    flat, ramp = torch.ones(2, 3, 3), torch.arange(18.0).reshape(2, 3, 3)
    assert math.isnan(correlation(flat, ramp))
    assert correlation(torch.cat([flat, ramp]), torch.cat([ramp, ramp])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 1.0}, "width lies between 0 and 1"),
        ({"width": 0.0}, "width lies"),
        ({"images": 0}, "images must be"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SubNetworkMapsSettings(**settings)
