"""Heat maps, relevance rank accuracy and other images of the same classes, on small folders that the tests write."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from regathlon_core import UserError
from regathlon_core.task import Batch
from regathlon_vision import DigitsTask
from regathlon_vision.base import ImageTask
from regathlon_vision.classification.settings import DigitsSettings
from regathlon_vision.evaluations.heat_maps.evaluation import signed_colours
from regathlon_vision.evaluations.heat_maps.settings import HeatMapsSettings
from regathlon_vision.evaluations.relevance_rank.evaluation import boxes_mask
from regathlon_vision.evaluations.relevance_rank.settings import RelevanceRankSettings
from regathlon_vision.evaluations.zero_shot.evaluation import average_precision
from regathlon_vision.evaluations.zero_shot.settings import ZeroShotSettings

CLASSES = ("n01", "n02", "n03")


class Colours(ImageTask):
    """Images of one of three colours, 16 x 16 pixels."""

    pixel_mean = (0.5, 0.5, 0.5)
    pixel_std = (0.25, 0.25, 0.25)
    classes = CLASSES
    in_channels = 3

    def __init__(self):
        super().__init__(DigitsSettings())

    def size(self, split):
        return 9

    def batch(self, split, index, draw=None):
        labels = index % 3
        pixels = torch.zeros(len(index), 3, 16, 16)
        pixels[torch.arange(len(index)), labels] = 0.8
        return Batch(self.normalized(pixels), labels, index=index)


class Brightest(nn.Module):
    """The class is the brightest colour, seen as a mean over what lies above the mean of the data."""

    def forward(self, x):
        return 30 * x.relu().mean((2, 3))


def generator():
    return torch.Generator().manual_seed(0)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def of_colour(label, size=(20, 24), value=200):
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, :, label] = value
    return pixels


def test_accuracy_counts_the_folders_classes_only(tmp_path):
    for name in ("n01", "n03"):
        for n in range(3):
            # The second class is brightest everywhere, but is not in the folder.
            pixels = of_colour(CLASSES.index(name))
            pixels[:, :, 1] = 255
            write(tmp_path / "a" / name / f"{n}.png", pixels)
    write(tmp_path / "a" / "n03" / "9.png", of_colour(0))
    settings = ZeroShotSettings(folders=("a",), outliers="")
    metrics = settings.build(tmp_path).run(Brightest(), Colours(), generator=generator()).metrics
    assert metrics == {"a/accuracy": pytest.approx(6 / 7)}


def test_outliers_are_told_by_how_unsure_the_model_is(tmp_path):
    for n in range(4):
        write(tmp_path / "o" / "n02" / f"{n}.png", np.full((18, 18, 3), 140, np.uint8))
        write(tmp_path / "o" / "n01" / f"{n}.png", np.full((18, 18, 3), 140, np.uint8))
    settings = ZeroShotSettings(folders=(), outliers="o")
    metrics = settings.build(tmp_path).run(Brightest(), Colours(), generator=generator()).metrics
    assert metrics["o/aupr"] == pytest.approx(1.0)  # gray: no class is brighter
    assert metrics["o/share"] == pytest.approx(8 / (8 + 6))  # six test images are of the two classes


def test_average_precision_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        scores = torch.randint(0, 12, (60,), generator=draw).double()  # with ties
        positive = torch.rand(60, generator=draw) < 0.3
        wanted = metrics.average_precision_score(positive.numpy(), scores.numpy())
        assert average_precision(scores, positive) == pytest.approx(wanted)


def test_missing_and_strange_folders_are_named(tmp_path):
    run = ZeroShotSettings(folders=("a",), outliers="").build(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        run.run(Brightest(), Colours(), generator=generator())
    write(tmp_path / "a" / "n09" / "0.png", of_colour(0))
    with pytest.raises(UserError, match="n09"):
        run.run(Brightest(), Colours(), generator=generator())
    with pytest.raises(UserError):
        ZeroShotSettings(folders=(), outliers="")


def left_half(label, value=255):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16, label] = value
    return pixels


BOX = "<annotation><object><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object></annotation>"


@pytest.mark.parametrize("kind", ["png", "xml", "flat"])
@pytest.mark.parametrize(("on_object", "wanted"), [(True, 1.0), (False, 0.0)])
def test_relevance_on_the_object_and_beside_it(tmp_path, kind, on_object, wanted):
    for label, name in enumerate(CLASSES):
        write(tmp_path / "images" / name / f"{name}_x.png", left_half(label))
        mask = np.zeros((32, 32), np.uint8)
        mask[:, slice(0, 16) if on_object else slice(16, 32)] = 7
        folder = tmp_path / "marks" / ("" if kind == "flat" else name)
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "xml":
            (folder / f"{name}_x.xml").write_text(
                BOX.format(0 if on_object else 16, 0, 16 if on_object else 32, 32)
            )
        else:
            write(folder / f"{name}_x.png", mask)
    write(tmp_path / "images" / "n01" / "unmarked.png", left_half(0))
    settings = RelevanceRankSettings(images="images", annotations="marks")
    metrics = settings.build(tmp_path).run(Brightest(), Colours(), generator=generator()).metrics
    assert metrics == {"accuracy": pytest.approx(wanted), "object": 0.5, "images": 3.0}


def test_annotations_that_are_missing_or_broken_are_named(tmp_path):
    write(tmp_path / "images" / "n01" / "x.png", left_half(0))
    run = RelevanceRankSettings(images="images", annotations="marks").build(tmp_path)
    with pytest.raises(UserError, match="no mask"):
        run.run(Brightest(), Colours(), generator=generator())
    (tmp_path / "marks").mkdir()
    for text in ("<annotation>", "<annotation/>", BOX.format("a", 1, 2, 3)):
        (tmp_path / "marks" / "x.xml").write_text(text)
        with pytest.raises(UserError, match="box"):
            run.run(Brightest(), Colours(), generator=generator())
    (tmp_path / "marks" / "x.xml").unlink()
    write(tmp_path / "marks" / "x.png", np.zeros((32, 32), np.uint8))
    with pytest.raises(UserError, match="empty"):
        run.run(Brightest(), Colours(), generator=generator())


def test_boxes_cover_their_share_and_at_least_a_pixel(tmp_path):
    path = tmp_path / "box.xml"
    path.write_text(BOX.format(10, 20, 30, 80))
    mask = boxes_mask(path, (100, 40), (50, 20))
    assert torch.equal(mask.nonzero().amin(0), torch.tensor([10, 5]))
    assert torch.equal(mask.nonzero().amax(0), torch.tensor([39, 14]))
    path.write_text(BOX.format(39, 99, 39, 99))
    assert int(boxes_mask(path, (100, 40), (10, 4)).sum()) == 1


def test_heat_maps_show_images_and_their_relevance():
    task = DigitsTask()
    model = DigitsSettings.models[0]().build(task).eval()
    findings = HeatMapsSettings(images=3).build().run(model, task, generator=generator())
    (picture,) = findings.pictures
    side = 96
    assert picture.image.shape == (3, 2 * (side + 6) + 6, 3 * (side + 6) + 6)
    assert picture.image.dtype == torch.uint8
    again = HeatMapsSettings(images=3).build().run(model, task, generator=generator()).pictures[0]
    assert torch.equal(again.image, picture.image)
    with pytest.raises(UserError):
        HeatMapsSettings(images=0)


def test_colours_of_relevance():
    colours = signed_colours(torch.zeros(2, 3, 3))
    assert bool((colours == 1).all())
    relevance = torch.tensor([[[2.0, 0.0], [-2.0, 1.0]]])
    red, green, blue = signed_colours(relevance)[0]
    assert red.tolist() == [[1, 1], [0, 1]]
    assert blue.tolist() == [[0, 1], [1, 0.5]]
    assert green.tolist() == [[0, 1], [0, 0.5]]
    peak = torch.zeros(1, 20, 20)
    peak[0, 0, 0], peak[0, 1, :10] = 1000.0, 1.0
    assert math.isclose(float(signed_colours(peak)[0, 1, 1, 0]), 0.0, abs_tol=1e-6)
