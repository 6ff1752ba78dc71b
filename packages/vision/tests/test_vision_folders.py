"""STL-10, ImageNet and Tiny ImageNet on files that the tests write in their layouts."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from regathlon_core import Batch, SampleDraw, UserError
from regathlon_core.rng import stream
from regathlon_core.testing import assert_imports_lightly, task_checks
from regathlon_vision import ImageNetSettings, ResNet8Settings, Stl10Settings, TinyImageNetSettings, ops
from regathlon_vision.metrics import TopFiveMetrics

WNIDS = tuple(f"n{number:08}" for number in range(12))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@dataclass(frozen=True)
class Narrow(ResNet8Settings):
    width: int = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    stl = folder / "stl10_binary"
    stl.mkdir()
    for part, count, seed in (("train", 20, 0), ("test", 10, 1), ("unlabeled", 15, 2)):
        noise(count, 3, 96, 96, seed=seed).tofile(stl / f"{part}_X.bin")
    for part, count in (("train", 20), ("test", 10)):
        (np.arange(count) % 10 + 1).astype(np.uint8).tofile(stl / f"{part}_y.bin")
    (stl / "class_names.txt").write_text("\n".join(f"class{number}" for number in range(10)))
    folds = [" ".join(str((fold + at) % 20) for at in range(10)) for fold in range(10)]
    (stl / "fold_indices.txt").write_text("\n".join(folds))
    for at, name in enumerate(WNIDS):
        for number in range(2):
            seed = 10 * at + number
            write(folder / "imagenet" / "train" / name / f"{number}.png", noise(50 + at, 60, 3, seed=seed))
            write(
                folder / "tiny-imagenet-200" / "train" / name / "images" / f"{number}.png",
                noise(64, 64, 3, seed=seed),
            )
        write(folder / "imagenet" / "val" / name / "0.png", noise(48, 40, 3, seed=500 + at))
        write(
            folder / "tiny-imagenet-200" / "val" / "images" / f"val_{at}.png", noise(64, 64, 3, seed=900 + at)
        )
    lines = [f"val_{at}.png\t{name}\t0\t0\t9\t9\n" for at, name in enumerate(WNIDS)]
    (folder / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    return folder


ROOT = []


def built(declaration, **settings):
    @dataclass(frozen=True)
    class Built(declaration):
        models = (Narrow,)

        def build(self, data=None):
            return self.load()(self, ROOT[0])

    return Built(**settings)


CHECKS = [
    check
    for settings in (
        built(Stl10Settings, side=32, padding=4),
        built(ImageNetSettings, side=32),
        built(TinyImageNetSettings),
    )
    for check in task_checks(settings)
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_they_keep_the_rules_of_tasks(check, root):
    ROOT[:] = [root]
    check()


def test_stl_images_stand_upright_and_folds_are_the_files(root):
    task = Stl10Settings(split=3, padding=0).build(root)
    assert [task.size(split) for split in ("train", "test")] == [10, 10]
    batch = task.batch("train", torch.tensor([0]))
    stored = torch.from_numpy(noise(20, 3, 96, 96, seed=0)[3]).transpose(1, 2)
    torch.testing.assert_close((task.pixels(batch.inputs)[0] * 255).round().byte(), stored)
    assert batch.targets.tolist() == [3]
    assert Stl10Settings(labels=0).build(root).size("train") == 20


def test_stl_unlabelled_images_are_its_own(root):
    task = Stl10Settings(padding=0).build(root)
    task.mirrored = False
    drawn = (task.pixels(task.unlabelled(40, stream(0, "u"))) * 255).round().byte()
    pool = torch.from_numpy(noise(15, 3, 96, 96, seed=2)).transpose(2, 3)
    which = (drawn[:, None] == pool[None]).flatten(2).all(2)
    assert which.any(1).all()
    assert which.any(0).sum() > 5


def test_damaged_stl_files_are_named(root, tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for path in (root / "stl10_binary").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "train_y.bin").write_bytes(b"\x01")
    with pytest.raises(UserError, match=r"train_y\.bin: There are 20 images and 1 labels"):
        Stl10Settings().build(tmp_path)
    (folder / "train_X.bin").write_bytes(b"\x01" * 100)
    with pytest.raises(UserError, match=r"train_X\.bin: Its size is no multiple"):
        Stl10Settings().build(tmp_path)
    (folder / "fold_indices.txt").unlink()
    with pytest.raises(UserError, match="regathlon data fetch stl10"):
        Stl10Settings().build(tmp_path)


def test_imagenet_evaluates_the_middle(root):
    task = ImageNetSettings(side=42).build(root)
    assert task.classes == WNIDS
    batch = task.batch("test", torch.arange(12))
    assert batch.targets.tolist() == list(range(12))
    # 7/8 of the shorter side of 48 x 40 pixels are 35, resized to 42.
    middle = Image.fromarray(noise(48, 40, 3, seed=500)).resize(
        (42, 42), Image.Resampling.BILINEAR, box=(2.5, 6.5, 37.5, 41.5)
    )
    found = (task.pixels(batch.inputs[0]) * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.asarray(middle))


def test_imagenet_trains_on_random_parts(root):
    plain = ImageNetSettings(side=32, colours=False).build(root)
    coloured = ImageNetSettings(side=32).build(root)
    index = torch.arange(24)
    one, other = (plain.batch("train", index, SampleDraw(0, epoch)).inputs for epoch in (0, 1))
    assert one.shape == (24, 3, 32, 32)
    assert not torch.equal(one, other)
    assert not torch.equal(one, coloured.batch("train", index, SampleDraw(0, 0)).inputs)
    again = plain.batch("train", index, SampleDraw(0, 0)).inputs
    assert torch.equal(one, again)
    sizes = {
        view.batch.inputs.shape[-1]
        for view, _ in zip(
            plain.views(Batch(torch.zeros(1, 3, 224, 224), index[:1]), stream(0, "v")),
            range(60),
            strict=False,
        )
    }
    assert sizes == {224, 192, 160, 128}


def test_tiny_imagenet_reads_annotations_or_folders(root, tmp_path):
    task = TinyImageNetSettings().build(root)
    assert [task.size(split) for split in ("train", "test")] == [24, 12]
    assert task.batch("test", torch.arange(12)).targets.tolist() == list(range(11, -1, -1))
    notes = root / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    kept = notes.read_text()
    try:
        notes.write_text("val_0.png\tn99999999\t0\t0\t9\t9\n")
        with pytest.raises(UserError, match=r"val_annotations\.txt: A line is no image"):
            TinyImageNetSettings().build(root)
    finally:
        notes.write_text(kept)


def test_the_true_class_among_five():
    metrics = TopFiveMetrics(12)
    logits = torch.arange(12.0).expand(12, 12)
    metrics.update(logits, Batch(logits, torch.arange(12)))
    found = metrics.compute()
    assert found["top5_accuracy"] == pytest.approx(5 / 12)
    assert found["accuracy"] == pytest.approx(1 / 12)
    assert np.isnan(TopFiveMetrics(12).compute()["top5_accuracy"])


# ---- the operations they use -------------------------------------------------------------------------------


def test_windows_are_cut_and_resized_in_one_go():
    images = torch.rand(3, 2, 9, 11, generator=stream(0, "images"))
    windows = torch.tensor([[0.0, 0, 9, 11], [2, 3, 4, 4], [1, 1, 6, 8]])
    whole = ops.resized_windows(images, windows[:1].expand(3, 4), (9, 11))
    torch.testing.assert_close(whole, images)
    found = ops.resized_windows(images, windows, (5, 6))
    for at, (top, left, tall, broad) in enumerate(windows.long().tolist()):
        part = images[at : at + 1, :, top : top + tall, left : left + broad]
        wanted = torch.nn.functional.interpolate(part, size=(5, 6), mode="bilinear", align_corners=False)
        inner = (slice(None), slice(1, -1), slice(1, -1))  # at its border a window sees its neighbours
        torch.testing.assert_close(found[at][inner], wanted[0][inner])


def test_shifts_may_mirror_the_border():
    images = torch.arange(5 * 6, dtype=torch.float32).reshape(1, 1, 5, 6)
    padded = torch.nn.functional.pad(images, (2,) * 4, mode="reflect")
    for row in range(5):
        for column in range(5):
            uniform = torch.tensor([[(row + 0.5) / 5, (column + 0.5) / 5]])
            out = ops.random_shift(images, uniform, 2, border="reflect")
            assert torch.equal(out, padded[:, :, row : row + 5, column : column + 6])


def test_colours_jitter_as_they_should():
    x = torch.rand(4, 3, 6, 6, generator=stream(0, "colours")) * 0.5 + 0.2
    assert torch.allclose(ops.jitter_colours(x, torch.ones(4, 3)), x, atol=1e-6)
    gray = ops.jitter_colours(x, torch.tensor([[1.0, 1.0, 0.0]]).expand(4, 3))
    assert torch.allclose(gray, ops.gray(x).expand(-1, 3, -1, -1), atol=1e-6)
    flat = ops.jitter_colours(x, torch.tensor([[1.0, 0.0, 1.0]]).expand(4, 3))
    assert torch.allclose(flat, ops.gray(x).mean((2, 3), keepdim=True).expand_as(x), atol=1e-6)
    shift = ops.light(x, torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3)) - x
    wanted = torch.tensor([-0.5675, -0.5808, -0.5836]) * 0.2175
    assert torch.allclose(shift, wanted[:, None, None].expand_as(x), atol=1e-6)


@pytest.mark.parametrize(
    ("declaration", "settings", "message"),
    [
        (Stl10Settings, {"labels": 50}, "labels is 1000"),
        (Stl10Settings, {"split": 10}, "folds 0 to 9"),
        (Stl10Settings, {"side": 64}, "side is 96, 48 or 32"),
        (Stl10Settings, {"padding": 96}, "padding lies in 0 to 95"),
        (ImageNetSettings, {"side": 8}, "side must be at least 32"),
        (TinyImageNetSettings, {"padding": 64}, "padding lies in 0 to 63"),
    ],
)
def test_wrong_settings_are_refused(declaration, settings, message):
    with pytest.raises(UserError, match=message):
        declaration(**settings)


def test_declarations_import_nothing_heavy():
    assert_imports_lightly([Stl10Settings, ImageNetSettings, TinyImageNetSettings])
