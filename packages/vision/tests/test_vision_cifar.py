"""CIFAR's tasks, on files that the tests write in its layouts, and on the real subset."""

import os
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from regathlon_core import SampleDraw, UserError
from regathlon_core.rng import stream
from regathlon_core.testing import task_checks
from regathlon_vision import (
    Cifar10Settings,
    Cifar100Settings,
    CifarTask,
    PyramidNetSettings,
    ResNet8Settings,
    ResNet18Settings,
    Stl10Settings,
    WideResNetSettings,
)
from regathlon_vision.classification.cifar_files import read_batches
from regathlon_vision.classification.stack import few_labels

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        pickle.dump({key.encode(): value for key, value in content.items()}, file, protocol=2)


def rows(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    ten = folder / "cifar-10-batches-py"
    for number in range(1, 6):
        write_pickle(ten / f"data_batch_{number}", {"data": rows(20, number), "labels": [*range(10)] * 2})
    write_pickle(ten / "test_batch", {"data": rows(20, 9), "labels": [*range(10)] * 2})
    write_pickle(ten / "batches.meta", {"label_names": list(CLASSES)})
    hundred = folder / "cifar-100-python"
    for name, seed in (("train", 1), ("test", 2)):
        write_pickle(
            hundred / name,
            {"data": rows(200, seed), "fine_labels": [*range(100)] * 2, "coarse_labels": [0] * 200},
        )
    write_pickle(hundred / "meta", {"fine_label_names": [f"class {number:03}" for number in range(100)]})
    for part, each in (("cifar10_subset/train", 4), ("cifar10_test", 2)):
        for label, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True)
            for at in range(each):
                pixels = rows(1, 1000 * label + at).reshape(32, 32, 3)
                Image.fromarray(pixels).save(folder / part / name / f"{at}.png")
    return folder


@dataclass(frozen=True)
class Narrow(WideResNetSettings):
    depth: int = 10
    widen: int = 1


@dataclass(frozen=True)
class NarrowPyramid(PyramidNetSettings):
    depth: int = 11
    widen: int = 6


@dataclass(frozen=True)
class Small(Cifar10Settings):
    models = (Narrow, NarrowPyramid, ResNet8Settings)


@dataclass(frozen=True)
class Built(Small):
    """The files' place is not a setting, so the kit gets a task that knows it."""

    def build(self, data=None):
        return CifarTask(self, ROOT[0])


ROOT = []


@pytest.mark.parametrize("check", task_checks(Built(labels=50)), ids=str)
def test_it_keeps_the_rules_of_tasks(check, root):
    ROOT[:] = [root]
    check()


def test_batches_are_read_as_they_are(root):
    task = Cifar10Settings().build(root)
    assert task.classes == CLASSES
    assert [task.size(split) for split in ("train", "val", "test")] == [100, 0, 20]
    batch = task.batch("train", torch.tensor([25]))
    expected = torch.from_numpy(rows(20, 2)[5].reshape(1, 3, 32, 32).astype(np.float32))
    assert torch.allclose(task.pixels(batch.inputs) * 255, expected, atol=1e-3)
    assert batch.targets.tolist() == [5]


def test_cifar_100_has_fine_labels(root):
    task = Cifar100Settings().build(root)
    assert len(task.classes) == 100
    assert task.batch("train", torch.arange(200)).targets.tolist() == [*range(100)] * 2


def test_the_subset_is_read_from_folders(root):
    task = Cifar10Settings(source="subset").build(root)
    assert task.settings.dataset == "cifar10-subset"
    assert [task.size(split) for split in ("train", "test")] == [40, 20]
    batch = task.batch("train", torch.arange(40))
    assert batch.targets.tolist() == [label for label in range(10) for _ in range(4)]
    pixels = (task.pixels(batch.inputs) * 255).round().byte()
    assert np.array_equal(pixels[13].permute(1, 2, 0).numpy(), rows(1, 3001).reshape(32, 32, 3))


def test_low_data_splits_are_balanced_fixed_and_different(root):
    tasks = [Cifar10Settings(labels=50, split=split).build(root) for split in (0, 0, 1)]
    for task in tasks:
        assert torch.bincount(task.batch("train", torch.arange(50)).targets).tolist() == [5] * 10
    first, again, other = (task.batch("train", torch.arange(50)).inputs for task in tasks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_trial_s_seed_chooses_the_split():
    assert [Cifar10Settings(labels=50).of_seed(seed).split for seed in range(7)] == [0, 1, 2, 3, 4, 0, 1]
    assert Cifar10Settings(labels=50, split=3).of_seed(1).split == 3
    assert Cifar10Settings().of_seed(1) == Cifar10Settings()
    assert [Stl10Settings().of_seed(seed).split for seed in (0, 9, 10)] == [0, 9, 0]
    assert Stl10Settings(labels=0).of_seed(1).split is None


def test_labelled_and_other_images_are_apart():
    labels = torch.arange(10).repeat(20)
    for split in range(5):
        kept, others = few_labels(labels, 30, split, 10)
        assert sorted([*kept.tolist(), *others.tolist()]) == list(range(200))
        assert torch.bincount(labels[kept]).tolist() == [3] * 10
    with pytest.raises(UserError, match="a class has only 20"):
        few_labels(labels, 300, 0, 10)


def test_validation_images_are_held_out(root):
    task = Cifar10Settings(validation=20, labels=50).build(root)
    assert [task.size(split) for split in ("train", "val")] == [50, 20]
    held_out = {image.numpy().tobytes() for image in task.batch("val", torch.arange(20)).inputs}
    assert len(held_out) == 20
    assert not held_out & {image.numpy().tobytes() for image in task.batch("train", torch.arange(50)).inputs}


def test_unlabelled_images_are_those_without_labels(root):
    task = Cifar10Settings(labels=50, padding=0).build(root)
    drawn = task.unlabelled(200, stream(0, "test"))
    assert drawn.shape == (200, 3, 32, 32)
    assert torch.equal(drawn, task.unlabelled(200, stream(0, "test")))
    pixels = (task.pixels(drawn) * 255).round().byte()
    known = (task.pixels(task.batch("train", torch.arange(50)).inputs) * 255).round().byte()
    seen = {image.numpy().tobytes() for image in pixels} | {
        image.flip(-1).numpy().tobytes() for image in pixels
    }
    assert not seen & {image.numpy().tobytes() for image in known}


def test_training_images_are_shifted_and_mirrored(root):
    task = Cifar10Settings().build(root)
    index = torch.arange(100).repeat(4)
    plain = task.batch("train", index).inputs
    both = task.batch("train", torch.arange(100), SampleDraw(0, 0)).inputs
    same = task.batch("train", torch.arange(100), SampleDraw(0, 0)).inputs
    assert torch.equal(both, same)
    padded = torch.nn.functional.pad(plain[:100], (4,) * 4, mode="reflect")
    mirrored = 0
    for at in range(100):
        windows = padded[at].unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32)
        straight = (windows == both[at]).flatten(1).all(1).any()
        turned = (windows == both[at].flip(-1)).flatten(1).all(1).any()
        assert straight or turned
        mirrored += int(turned)
    assert 25 <= mirrored <= 75  # 5 sigma of 100 fair coins


def test_noise_has_the_size_it_should(root):
    task = Cifar10Settings(padding=0, noise=0.15).build(root)
    task.mirrored = False
    index = torch.arange(100)
    noise = task.batch("train", index, SampleDraw(0, 0)).inputs - task.batch("train", index).inputs
    count = noise.numel()
    assert abs(float(noise.mean())) < 5 * 0.15 / count**0.5
    assert abs(float(noise.std()) - 0.15) < 5 * 0.15 / (2 * count) ** 0.5


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_pickles_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pickle(tmp_path / "batch", {"data": Evil(), "labels": []})
    with pytest.raises(UserError, match=r"batch: It is damaged or no part of CIFAR: it asks for .*mkdir"):
        read_batches([tmp_path / "batch"], "labels")
    assert not (tmp_path / "pwned").exists()


def test_damaged_files_are_named(tmp_path):
    for content, message in (
        ({"data": rows(3, 0), "labels": [1, 2]}, "no labels for its 3 images"),
        ({"data": [1, 2]}, "no rows of 3 x 32 x 32 bytes"),
        ({"data": rows(3, 0)[:, :10], "labels": [0] * 3}, "no rows of 3 x 32 x 32 bytes"),
    ):
        write_pickle(tmp_path / "batch", content)
        with pytest.raises(UserError, match=message):
            read_batches([tmp_path / "batch"], "labels")
    (tmp_path / "batch").write_bytes(b"\x80\x02not a pickle")
    with pytest.raises(UserError, match="damaged"):
        read_batches([tmp_path / "batch"], "labels")
    with pytest.raises(UserError, match="no such file"):
        read_batches([tmp_path / "nothing"], "labels")


def test_missing_data_is_named(tmp_path):
    with pytest.raises(UserError, match="regathlon data fetch cifar10"):
        Cifar10Settings().build(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": 25}, "labels must be a multiple of its 10 classes"),
        ({"labels": -10}, "labels must be at least 0"),
        ({"padding": 32}, "padding must be below 32"),
        ({"noise": -1.0}, "noise must be a finite number"),
        ({"source": "some"}, "no source of vision/cifar10 'some'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Cifar10Settings(**settings)


@pytest.mark.realdata
def test_the_real_subset(request):
    if not os.environ.get("REGATHLON_DATA"):
        pytest.skip("REGATHLON_DATA is not set")
    try:
        task = Cifar10Settings(source="subset", labels=1000).build()
    except UserError as error:
        pytest.skip(str(error))
    assert [task.size(split) for split in ("train", "test")] == [1000, 10000]
    assert task.classes == CLASSES
    inputs = task.batch("train", torch.arange(1000)).inputs
    # Means of 1000 images; their standard deviation is about a third of a pixel's.
    assert (inputs.mean((0, 2, 3)).abs() < 5 * 0.5 / 1000**0.5).all()
    model = ResNet18Settings().build(task)
    assert model(inputs[:2]).shape == (2, 10)
