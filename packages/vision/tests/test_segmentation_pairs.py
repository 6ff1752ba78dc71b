"""Tasks on images and masks in files, written here in the layouts that their data sets have."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from regathlon_core import Budget, SampleDraw, UserError, fit
from regathlon_core.rng import global_stream
from regathlon_core.testing import assert_imports_lightly, task_checks
from regathlon_vision import (
    AttentionUNetSettings,
    DeepLabV3Settings,
    Fcn32sSettings,
    MoNuSegSettings,
    PairFolderSettings,
    UNetSettings,
    VocSettings,
)
from regathlon_vision.segmentation.augmentation import DRAWS, Augmentation, centred, shrunk
from regathlon_vision.segmentation.monuseg import draw_outlines
from regathlon_vision.segmentation.pairs import ForegroundMetrics
from regathlon_vision.segmentation.voc import CLASSES


def scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on dark noise, and where it is."""
    rows, columns = np.mgrid[:height, :width]
    centre = rng.uniform(0.3, 0.7, 2) * (height, width)
    disc = np.hypot(rows - centre[0], columns - centre[1]) < min(height, width) / 4
    image = rng.integers(0, 80, (height, width, 3)) + 150 * disc[:, :, None]
    return image.astype(np.uint8), disc.astype(np.uint8)


def write_pairs(
    folder: Path, count: int, size: tuple[int, int], *, value: int = 1, ending: str = ".png"
) -> None:
    rng = np.random.default_rng(count)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image, mask = scene(rng, *size)
        Image.fromarray(image).save(folder / "images" / f"{number}{ending}")
        Image.fromarray(mask * value).save(folder / "masks" / f"{number}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_pairs(root / "discs" / "train", 12, (40, 32))
    write_pairs(root / "discs" / "test", 6, (24, 50))
    return root


@dataclasses.dataclass(frozen=True)
class NarrowUNet(UNetSettings):
    width: int = 2
    depth: int = 1


@dataclasses.dataclass(frozen=True)
class NarrowAttentionUNet(AttentionUNetSettings):
    width: int = 2
    depth: int = 2


@dataclasses.dataclass(frozen=True)
class Discs(PairFolderSettings):
    models = (NarrowUNet, NarrowAttentionUNet)
    folder: str = "discs"
    size: int = 32
    rotation: float = 10.0
    zoom: tuple[float, ...] = (0.9, 1.2)


@pytest.mark.parametrize("number", range(len(task_checks(Discs()))))
def test_a_folder_is_a_task(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGATHLON_DATA", str(folder))
    task_checks(Discs())[number]()


def test_images_keep_their_masks_through_sizes_and_transformations(folder: Path) -> None:
    task = Discs().build(folder)
    for split, draw in (
        ("test", None),
        ("train", None),
        ("train", SampleDraw(0, 0)),
        ("train", SampleDraw(0, 1)),
    ):
        batch = task.batch(split, torch.arange(6), draw)
        assert batch.inputs.shape == (6, 3, 32, 32)
        bright = task.pixels(batch.inputs).mean(dim=1) > 0.45
        counted = batch.targets != 255
        assert float((bright == (batch.targets == 1))[counted].float().mean()) > 0.95
    test = task.batch("test", torch.arange(2))
    assert bool((test.targets[:, :8] == 255).all())  # 24 by 50 becomes 15 by 32: filled up above
    assert float(test.inputs[:, :, :8].abs().max()) < 0.02  # with the mean of the data, to a byte


def test_it_learns_in_seconds(folder: Path) -> None:
    task = Discs(zoom=(1.0, 1.0), rotation=0.0).build(folder)
    with global_stream(0, "init"):
        model = UNetSettings(width=4, depth=1).build(task)
    recipe = dataclasses.replace(Discs.recipe, lr=0.02, budget=Budget(steps=20), eval_every=99)
    result = fit(model, task, recipe=recipe, seed=0)
    assert result.history[-1].test["foreground_iou"] > 0.6


def test_foreground_metrics() -> None:
    metrics = ForegroundMetrics(2, ignore_index=255, dense=True)
    truth = torch.tensor([[[0, 1, 1, 1, 255, 0]]])
    guess = torch.tensor([[[1, 1, 1, 0, 1, 0]]])
    logits = torch.nn.functional.one_hot(guess, 2).permute(0, 3, 1, 2).float()
    metrics.update(logits, dataclasses.make_dataclass("B", ["targets"])(truth))
    found = metrics.compute()
    assert found["foreground_iou"] == pytest.approx(2 / 4)
    assert found["foreground_dice"] == pytest.approx(4 / 6)
    assert found["miou"] == pytest.approx((1 / 3 + 2 / 4) / 2)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"folder": ""}, "needs the name of a folder"),
        ({"folder": "nothing"}, "no such folder"),
        ({"folder": "alone"}, "neither a folder test nor a folder val"),
        ({"folder": "unequal"}, r"mask is 8 by 8 pixels, the image 8 by 9"),
        ({"folder": "unmasked"}, r"1\.jpg: It has no mask 1\.png"),
        ({"folder": "black_and_white", "classes": 3}, "Its mask holds 200, which is none of the 3 classes"),
    ],
)
def test_folders_that_are_wrong_say_how(tmp_path: Path, keywords: dict, message: str) -> None:
    write_pairs(tmp_path / "alone" / "train", 1, (8, 8))
    write_pairs(tmp_path / "unequal" / "test", 1, (8, 8))
    write_pairs(tmp_path / "unequal" / "train", 1, (8, 9))
    Image.new("L", (8, 8)).save(tmp_path / "unequal" / "train" / "masks" / "0.png")
    for split in ("train", "test"):
        write_pairs(tmp_path / "unmasked" / split, 2, (8, 8), ending=".jpg")
        write_pairs(tmp_path / "black_and_white" / split, 1, (8, 8), value=200)
    (tmp_path / "unmasked" / "train" / "masks" / "1.png").unlink()
    with pytest.raises(UserError, match=message):
        PairFolderSettings(**keywords).build(tmp_path).batch("train", torch.tensor([0]))


def test_black_and_white_masks(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_pairs(tmp_path / "bw" / split, 2, (8, 8), value=255)
    batch = (
        PairFolderSettings(folder="bw", foreground=True, size=8)
        .build(tmp_path)
        .batch("test", torch.arange(2))
    )
    assert batch.targets.unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "keywords", "message"),
    [
        (PairFolderSettings, {"classes": 1}, "classes must be a whole number of at least 2"),
        (PairFolderSettings, {"classes": 256}, "at most 255"),
        (PairFolderSettings, {"classes": 3, "foreground": True}, "two classes"),
        (PairFolderSettings, {"zoom": (0.0, 1.0)}, "zoom"),
        (PairFolderSettings, {"rotation": 200.0}, "rotation"),
        (MoNuSegSettings, {"crop": 0}, "crop"),
        (MoNuSegSettings, {"crop": 256}, "say source=tiles"),
        (
            MoNuSegSettings,
            {"source": "tile"},
            "no source of segmentation/monuseg 'tile'. Did you mean 'tiles'",
        ),
        (VocSettings, {"crop": -1}, "crop"),
        (Fcn32sSettings, {"blocks": (1, 2)}, "blocks are four counts"),
    ],
)
def test_wrong_settings_are_refused(settings: type, keywords: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings(**keywords)


# ---- MoNuSeg -----------------------------------------------------------------------------------------------


def outlines(path: Path, polygons: list[list[tuple[float, float]]]) -> None:
    vertices = ["".join(f'<Vertex X="{x}" Y="{y}" Z="0.0"/>' for x, y in polygon) for polygon in polygons]
    regions = "".join(f"<Region Id='{n}'><Vertices>{v}</Vertices></Region>" for n, v in enumerate(vertices))
    path.write_text(f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>")


def test_corners_and_outlines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for part in ("images", "annotations"):
            (tmp_path / "MoNuSeg" / split / part).mkdir(parents=True)
        pixels = rng.integers(0, 255, (700, 600, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "MoNuSeg" / split / "images" / "a.tif")
        square = [(550.0, 650.0), (580.0, 650.0), (580.0, 690.0), (550.0, 690.0)]
        outlines(tmp_path / "MoNuSeg" / split / "annotations" / "a.xml", [square])
    task = MoNuSegSettings().build(tmp_path)
    assert [task.size(split) for split in ("train", "val", "test")] == [4, 0, 4]
    batch = task.batch("test", torch.arange(4))
    found = (task.pixels(batch.inputs) * 255).round()
    for sample, (top, left) in enumerate([(0, 0), (0, 88), (188, 0), (188, 88)]):
        wanted = torch.from_numpy(pixels[top : top + 512, left : left + 512].astype(np.float32)).permute(
            2, 0, 1
        )
        assert torch.equal(found[sample], wanted)
    assert [int(mask.sum()) for mask in batch.targets] == [0, 0, 0, 31 * 41]
    assert batch.targets[3, 650 - 188, 550 - 88] == 1


def test_outlines_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    outlines(path, [[(1.0, 1.0), (4.0, 1.0), (4.0, 3.0)], [(0.0, 0.0)]])
    mask = draw_outlines(path, 6, 6)
    assert mask[1, 1:5].tolist() == [1, 1, 1, 1]
    assert mask[0].sum() == 0
    for text in (
        "<Annotations>",
        "<A><Region><Vertex X='1'/></Region></A>",
        "<A><Region><Vertex X='nan' Y='1'/></Region></A>",
    ):
        path.write_text(text)
        with pytest.raises(UserError, match="no outlines"):
            draw_outlines(path, 6, 6)


def test_tiles_are_not_taken_for_images(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_pairs(tmp_path / "MoNuSeg" / split, 2, (64, 64), value=255)
    with pytest.raises(UserError, match="MoNuSeg/train/annotations"):
        MoNuSegSettings().build(tmp_path)
    with pytest.raises(UserError, match=r"64 by 64 pixels, smaller than squares of 70; say crop=64"):
        MoNuSegSettings(source="tiles", crop=70).build(tmp_path)
    task = MoNuSegSettings(source="tiles", crop=64).build(tmp_path)
    assert (task.size("train"), task.batch("test", torch.arange(2)).inputs.shape) == (2, (2, 3, 64, 64))
    assert MoNuSegSettings(source="tiles", crop=40).build(tmp_path).size("train") == 8


@pytest.fixture
def real_data() -> Path:
    root = os.environ.get("REGATHLON_DATA")
    if not root or not (Path(root) / "MoNuSeg" / "train").is_dir():
        pytest.skip("REGATHLON_DATA names no folder with MoNuSeg's tiles")
    return Path(root)


@pytest.mark.realdata
def test_monuseg_s_tiles(real_data: Path) -> None:
    task = MoNuSegSettings(source="tiles", crop=256).build(real_data)
    assert (task.size("train"), task.size("test")) == (150, 70)
    batch = task.batch("test", torch.arange(8))
    nuclei = batch.targets == 1
    assert 0.05 < float(nuclei.float().mean()) < 0.6
    grey = task.pixels(batch.inputs).mean(dim=1)
    assert float(grey[nuclei].mean()) < float(grey[~nuclei].mean())  # nuclei are stained darker


# ---- VOC ---------------------------------------------------------------------------------------------------


def write_voc(root: Path, *, drawn: bool) -> None:
    rng = np.random.default_rng(0)
    voc = root / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / part).mkdir(parents=True)
    names = {"train": ["a", "b"], "val": ["c"]}
    more = ["a", "c", "d", "e"]  # SBD overlaps with both; VOC's own masks and its validation split come first
    sbd = voc / "SegmentationClassAug" if drawn else root / "SBD" / "cls"
    sbd.mkdir(parents=True)
    for name in "abcde":
        image, mask = scene(rng, 60, 90)
        Image.fromarray(image).save(voc / "JPEGImages" / f"{name}.jpg", quality=95)
        labels = (mask * 15).astype(np.uint8)
        labels[0] = 255
        if name in names["train"] + names["val"]:
            palette = Image.fromarray(labels)
            palette.putpalette([(37 * value) % 256 for value in range(768)])
            palette.save(voc / "SegmentationClass" / f"{name}.png")
        if name in more and drawn:
            Image.fromarray((mask * 7).astype(np.uint8)).save(sbd / f"{name}.png")
        elif name in more:
            savemat(sbd / f"{name}.mat", {"GTcls": {"Segmentation": mask * 7}})
    for split, members in names.items():
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(members) + "\n")
    if not drawn:
        (root / "SBD" / "train.txt").write_text("a\nd\n")
        (root / "SBD" / "val.txt").write_text("c\ne\n")


@pytest.mark.parametrize("drawn", [True, False])
def test_voc_and_sbd(tmp_path: Path, drawn: bool) -> None:
    write_voc(tmp_path, drawn=drawn)
    task = VocSettings(crop=64).build(tmp_path)
    assert [task.size(split) for split in ("train", "val", "test")] == [4, 0, 1]
    assert len(task.classes) == len(CLASSES) == 21
    test = task.batch("test", torch.arange(1))
    assert test.inputs.shape == (1, 3, 512, 512)
    assert test.targets.unique().tolist() == [0, 15, 255]
    train = task.batch("train", torch.arange(4), SampleDraw(0, 0))
    assert train.inputs.shape == (4, 3, 64, 64)
    per_image = [set(labels.unique().tolist()) - {0, 255} for labels in train.targets]
    assert per_image == [{15}, {15}, {7}, {7}]
    assert VocSettings(sbd=False).build(tmp_path).size("train") == 2


def test_voc_without_sbd_says_what_is_missing(tmp_path: Path) -> None:
    write_voc(tmp_path, drawn=False)
    (tmp_path / "SBD").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"sbd=false"):
        VocSettings().build(tmp_path)
    damaged = tmp_path / "SBD"
    (tmp_path / "elsewhere").rename(damaged)
    (damaged / "cls" / "d.mat").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"d\.mat: It is missing or no mask"):
        VocSettings().build(tmp_path).batch("train", torch.tensor([2]))


# ---- parts -------------------------------------------------------------------------------------------------


def test_transformations_are_those_that_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 255, (3, 8, 8), dtype=np.uint8))
    mask = image[:1].clone()
    half = [0.5] * DRAWS

    def run(augmentation: Augmentation, **draws: float) -> tuple[torch.Tensor, torch.Tensor]:
        names = ("turn", "across", "down", "slant", "large", "mirror", "flip")
        uniform = [draws.get(name, value) for name, value in zip(names, half, strict=True)]
        return augmentation(image, mask, uniform, (1.0, 2.0, 3.0), 255)

    assert torch.equal(run(Augmentation(mirror=True), mirror=0.4)[0], image.flip(-1))
    assert torch.equal(run(Augmentation(mirror=True), mirror=0.6)[0], image)
    assert torch.equal(run(Augmentation(flip=True), flip=0.4)[1], mask.flip(-2))
    turned = run(Augmentation(rotation=90.0), turn=1.0)
    assert torch.equal(turned[0], image.rot90(-1, (1, 2)))
    assert torch.equal(turned[1], mask.rot90(-1, (1, 2)))
    moved, labels = run(Augmentation(shift=0.25), across=1.0)
    assert torch.equal(moved[:, :, 2:], image[:, :, :-2])
    assert torch.equal(labels[:, :, 2:], mask[:, :, :-2])
    assert moved[:, :, :2].flatten(1).unique(dim=1).tolist() == [[1], [2], [3]]
    assert bool((labels[:, :, :2] == 255).all())
    assert run(Augmentation(zoom=(2.0, 2.0)))[1].unique().numel() <= 16


def test_frames() -> None:
    pixels = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)
    assert centred(pixels, 2, [0]).tolist() == [[[1, 2], [5, 6]]]
    assert centred(pixels, 5, [9])[0, 0].tolist() == [9] * 5
    assert shrunk(pixels, 4, labels=True) is pixels
    assert shrunk(pixels, 2, labels=True).shape == (1, 1, 2)
    assert set(shrunk(pixels, 2, labels=True).flatten().tolist()) <= set(range(12))


@pytest.mark.parametrize(
    "model",
    [
        Fcn32sSettings(blocks=(1, 1, 1, 1)),
        DeepLabV3Settings(blocks=(1, 1, 1, 1)),
        AttentionUNetSettings(width=4, depth=3),
    ],
)
def test_models_give_every_pixel_a_class(folder: Path, model) -> None:
    task = Discs().build(folder)
    built = model.build(task).eval()
    with torch.no_grad():
        for height, width in ((64, 64), (33, 70)):
            assert built(torch.randn(1, 3, height, width)).shape == (1, 2, height, width)
    points = task.features(built)
    placed = [point.name for point in points if "dropgraph" in point.placements]
    assert placed
    assert any(point.default for point in points)
    (layer,) = task.output_layers(built)
    assert built.get_submodule(layer).out_channels == 2


def test_gates_close_what_they_are_told_to() -> None:
    from regathlon_vision.models.attention_unet import AttentionGate

    gate, skip, below = AttentionGate(4, 8), torch.randn(1, 4, 7, 6), torch.randn(1, 8, 4, 3)
    torch.nn.init.zeros_(gate.psi.weight)
    torch.nn.init.constant_(gate.psi.bias, 50.0)
    torch.testing.assert_close(gate(skip, below), skip)
    torch.nn.init.constant_(gate.psi.bias, -200.0)
    assert not bool(gate(skip, below).any())


def test_declarations_import_nothing_heavy() -> None:
    assert_imports_lightly(
        [
            PairFolderSettings,
            MoNuSegSettings,
            VocSettings,
            AttentionUNetSettings,
            Fcn32sSettings,
            DeepLabV3Settings,
        ]
    )
