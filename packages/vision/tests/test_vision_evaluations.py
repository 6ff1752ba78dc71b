"""Grad-CAM, what it leaves of images, t-SNE, and masks beside their references."""

import dataclasses
import importlib.resources
import re
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import FeaturePoint, UserError, stream
from regathlon_core.rng import global_stream
from regathlon_core.testing import assert_imports_lightly
from regathlon_vision import DigitsSettings, ResNet8Settings, ScenesSettings, UNetSettings
from regathlon_vision.evaluations.drawing import as_bytes, enlarged, heat_colours, laid_out, palette
from regathlon_vision.evaluations.grad_cam.functional import grad_cam, relative
from regathlon_vision.evaluations.grad_cam.masking import MaskedTask
from regathlon_vision.evaluations.grad_cam.settings import GradCamMaskingSettings, GradCamSettings
from regathlon_vision.evaluations.segmentations.settings import SegmentationsSettings
from regathlon_vision.evaluations.tsne.evaluation import scatter
from regathlon_vision.evaluations.tsne.settings import TsneSettings

SETTINGS = [GradCamSettings, GradCamMaskingSettings, TsneSettings, SegmentationsSettings]


class Averaged(nn.Module):
    """Maps, their averages, and a linear classifier: there Grad-CAM is CAM."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.after = nn.Dropout(0.0, inplace=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.after(self.maps(x)).mean(dim=(2, 3)))


def test_where_maps_are_averaged_it_is_the_classifier_s_weights() -> None:
    with global_stream(0, "model"):
        model = Averaged()
    x = torch.randn(5, 1, 6, 7, generator=stream(0, "x"))
    heat = grad_cam(model.train(), FeaturePoint("maps", 4), x)
    with torch.no_grad():
        maps, predicted = model.maps(x), model(x).argmax(dim=1)
        wanted = torch.einsum("bk,bkhw->bhw", model.fc.weight[predicted], maps).relu() / 42
    torch.testing.assert_close(heat, wanted)
    other = grad_cam(model, FeaturePoint("maps", 4), x, torch.full((5,), 2))
    torch.testing.assert_close(
        other, torch.einsum("k,bkhw->bhw", model.fc.weight[2].detach(), maps).relu() / 42
    )


def test_nothing_is_left_on_the_model() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    heat = grad_cam(model.train(), FeaturePoint("2", 4), torch.randn(2, 1, 8, 9))
    assert heat.shape == (2, 8, 9)
    assert bool((heat >= 0).all())
    assert not heat.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    with pytest.raises(UserError, match="needs maps"):
        grad_cam(model, FeaturePoint("4", 4), torch.randn(2, 1, 8, 9))


def test_relative_heat() -> None:
    heat = torch.tensor([[[0.0, 2.0], [1.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert relative(heat).tolist() == [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]


@pytest.fixture(scope="module")
def digits() -> tuple:
    task = DigitsSettings().build()
    with global_stream(0, "init"):
        return ResNet8Settings(width=4).build(task).eval(), task


def test_heat_maps_are_drawn(digits: tuple) -> None:
    model, task = digits
    for images, columns, rows in ((3, 3, 2), (10, 8, 4)):
        findings = GradCamSettings(images=images).build().run(model, task, generator=stream(0, "e"))
        (picture,) = findings.pictures
        assert picture.image.shape == (3, rows * 102 + 6, columns * 102 + 6)
        assert picture.image.float().std() > 20


def test_masked_images_show_where_the_model_looks(digits: tuple) -> None:
    model, task = digits
    point = next(point for point in reversed(task.features(model)) if point.default)
    masked = MaskedTask(task, model, point, 0.5, "cpu")
    index = torch.arange(6)
    plain, batch = task.batch("test", index), masked.task.batch("test", index)
    heat = relative(grad_cam(model, point, plain.inputs))
    shown = (heat >= 0.5)[:, None]
    assert torch.equal(batch.inputs, plain.inputs * shown)
    assert masked.seen() == pytest.approx(float(shown.float().mean()))
    assert masked.task.size("train") == task.size("train")
    assert torch.equal(task.batch("test", index).inputs, plain.inputs)


def test_a_network_is_trained_on_what_is_left(digits: tuple) -> None:
    model, task = digits
    settings = GradCamMaskingSettings(blocks=1, width=2, epochs=1)
    found, again = (
        dict(settings.build().run(model, task, generator=stream(0, "e")).metrics) for _ in range(2)
    )
    assert found == again
    assert set(found) == {"accuracy", "seen"}
    assert 0 <= found["accuracy"] <= 1
    assert 0 < found["seen"] < 1


def test_features_are_mapped(digits: tuple) -> None:
    model, task = digits
    settings = TsneSettings(samples=40, perplexity=10)
    first, again = (settings.build().run(model, task, generator=stream(0, "e")) for _ in range(2))
    assert -1 <= first.metrics["silhouette"] <= 1
    assert first.metrics == again.metrics
    assert torch.equal(first.pictures[0].image, again.pictures[0].image)
    assert first.pictures[0].image.shape == (3, 720, 720)


def test_points_are_where_they_belong() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    colours = torch.tensor([[255, 0, 0], [0, 0, 255]], dtype=torch.uint8)
    sheet = scatter(points, colours, ringed=torch.tensor([False, True]))
    assert sheet[:, 720 - 1 - 24, 24].tolist() == [255, 0, 0]  # down on the left
    assert sheet[:, 24, 720 - 1 - 24].tolist() == [0, 0, 255]
    assert sheet[:, 24, 720 - 1 - 24 + 5].tolist() == [0, 0, 0]
    assert sheet[:, 360, 360].tolist() == [255, 255, 255]


def test_masks_are_drawn_beside_their_references() -> None:
    task = ScenesSettings().build()

    class Perfect(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            index = torch.linspace(0, task.size("test") - 1, 3).long()
            every = task.batch("test", index)
            which = int((every.inputs - x).abs().flatten(1).sum(dim=1).argmin())
            return (
                nn.functional.one_hot(every.targets[which].clamp(max=10), 11).permute(2, 0, 1)[None].float()
            )

    (picture,) = (
        SegmentationsSettings(images=3).build().run(Perfect(), task, generator=stream(0, "e")).pictures
    )
    assert picture.image.shape == (3, 3 * 166 + 6, 4 * 166 + 6)
    columns = [picture.image[:, :, 6 + 166 * at : 166 * (at + 1)] for at in range(4)]
    assert torch.equal(columns[1], columns[2])
    red = (columns[3] == torch.tensor([220, 30, 30])[:, None, None]).all(dim=0)
    assert not bool(red.any())
    with global_stream(0, "init"):
        untrained = UNetSettings(width=2, depth=1).build(task).eval()
    (picture,) = (
        SegmentationsSettings(images=3).build().run(untrained, task, generator=stream(0, "e")).pictures
    )
    wrong = picture.image[:, :, 6 + 166 * 3 :]
    assert bool((wrong == torch.tensor([220, 30, 30])[:, None, None]).all(dim=0).any())


def test_tasks_that_do_not_fit_are_refused() -> None:
    digits, scenes = DigitsSettings(), ScenesSettings()
    assert all(settings().refusal(digits) is None for settings in SETTINGS[:3])
    assert all(settings().refusal(scenes) is not None for settings in SETTINGS[:3])
    assert SegmentationsSettings().refusal(scenes) is None
    assert "a class for every pixel" in str(SegmentationsSettings().refusal(digits))


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (GradCamSettings, "images", 0),
        (GradCamMaskingSettings, "threshold", 1.5),
        (GradCamMaskingSettings, "epochs", 0),
        (GradCamMaskingSettings, "lr", 0.0),
        (TsneSettings, "samples", 2),
        (TsneSettings, "perplexity", 0.0),
        (SegmentationsSettings, "images", -1),
    ],
)
def test_wrong_settings_are_refused(settings: type, field: str, value: float) -> None:
    with pytest.raises(UserError, match=field):
        settings(**{field: value})


def test_declarations_are_light_and_known() -> None:
    assert_imports_lightly(SETTINGS)
    known = {point.name: point.load() for point in entry_points(group="regathlon.evaluations")}
    for settings in SETTINGS:
        assert known[settings.name] is settings
        assert settings.load()
        assert dataclasses.is_dataclass(settings)


def test_drawing() -> None:
    assert len({tuple(colour) for colour in palette(24).tolist()}) == 24
    assert as_bytes(torch.tensor([[[-1.0, 0.5, 2.0]]])).tolist() == [[[0, 128, 255]]] * 3
    assert enlarged(torch.arange(2).view(1, 1, 2), 5).tolist() == [[[0] * 3 + [1] * 3] * 3]
    black = torch.zeros(3, 2, 2, dtype=torch.uint8)
    sheet = laid_out([[black, black], [black, black]])
    assert sheet.shape == (3, 22, 22)
    assert int((sheet == 0).sum()) == 4 * 12
    assert heat_colours(torch.zeros(1, 1))[2] > heat_colours(torch.zeros(1, 1))[0]


def test_card() -> None:
    folder = importlib.resources.files("regathlon_vision.evaluations.grad_cam")
    text = (folder / "card.md").read_text("utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "grad_cam/card.md", "exec"), names)
    assert names["heat"].shape == (2, 32, 32)
