"""Published collections, on small data in the same layouts, which the tests write."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from regathlon_core.errors import UserError
from regathlon_core.rng import SampleDraw
from regathlon_points import (
    Collection,
    ModelNet10Settings,
    ModelNet40Settings,
    PointNet,
    ScanObjectNNSettings,
    ShapeNet16Settings,
    ShapeNet55Settings,
)
from regathlon_points.classification import clouds as reading
from regathlon_points.classification.augmentation import Augmentation, turn
from regathlon_points.classification.files import read_array, read_hdf5, read_mesh, read_text

h5py = pytest.importorskip("h5py")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep what tests read out of the user's cache; compiled loops are found where they were."""
    folder = tmp_path / "cache"
    from regathlon_points.ops import compiled

    compiled.library()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def box(path, size=(1.0, 2.0, 3.0), glued=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = trimesh.creation.box(size).export(file_type="off")
    path.write_text(text.replace("OFF\n", "OFF", 1) if glued else text)


def rng(*seed):
    return np.random.default_rng([7, *seed])


def write_meshes(root, name="ModelNet10"):
    for i, kind in enumerate(("bathtub", "chair")):
        for split, count in (("train", 3), ("test", 2)):
            for n in range(count):
                box(
                    root / name / kind / split / f"{kind}_{split}_{n}.off",
                    (1.0 + i, 1.0 + n, 2.0),
                    glued=n == 1,
                )


def write_hdf5(path, count, points=40, classes=2, normals=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = rng(count).normal(size=(count, points, 3)).astype(np.float32)
        file["label"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
        if normals:
            file["normal"] = rng(count, 1).normal(size=(count, points, 3)).astype(np.float32)


def write_rows(path, columns=6, rows=50, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rng(rows).normal(size=(rows, columns)), delimiter=separator)


def write_everything(root):
    write_meshes(root)
    write_meshes(root, "ModelNet40")
    folder = root / "modelnet40_ply_hdf5_2048"
    for split, counts in (("train", (5, 3)), ("test", (4,))):
        for i, count in enumerate(counts):
            write_hdf5(folder / f"ply_data_{split}{i}.h5", count, normals=True)
        names = [f"data/modelnet40_ply_hdf5_2048/ply_data_{split}{i}.h5" for i in range(len(counts))]
        (folder / f"{split}_files.txt").write_text("\n".join(names) + "\n")
    (folder / "shape_names.txt").write_text("airplane\nbathtub\n")
    folder = root / "modelnet40_normal_resampled"
    for number in (10, 40):
        for split, count in (("train", 3), ("test", 2)):
            names = [f"{kind}_{n:04}" for kind in ("chair", "night_stand") for n in range(count)]
            for name in names:
                write_rows(folder / name.rpartition("_")[0] / f"{name}.txt")
            (folder / f"modelnet{number}_{split}.txt").write_text("\n".join(names))
        (folder / f"modelnet{number}_shape_names.txt").write_text("chair\nnight_stand\n")
    folder = root / "shapenetcore_partanno_segmentation_benchmark_v0_normal"
    folder.mkdir()
    (folder / "synsetoffset2category.txt").write_text("Chair\t03001627\nAirplane\t02691156\n")
    (folder / "train_test_split").mkdir()
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        names = [
            f"shape_data/{synset}/{split}{n}" for synset in ("03001627", "02691156") for n in range(count)
        ]
        for name in names:
            write_rows(folder / Path(name).relative_to("shape_data").with_suffix(".txt"), 7, separator=" ")
        (folder / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
    folder = root / "ShapeNet55-34"
    (folder / "ShapeNet-55").mkdir(parents=True)
    (folder / "shapenet_pc").mkdir()
    for split, count in (("train", 3), ("test", 2)):
        names = [f"{synset}-{split}{n}.npy" for synset in ("03001627", "02691156") for n in range(count)]
        for name in names:
            np.save(folder / "shapenet_pc" / name, rng(count).normal(size=(60, 3)).astype(np.float32))
        (folder / "ShapeNet-55" / f"{split}.txt").write_text("\n".join(names))
    for part in ("main_split", "main_split_nobg"):
        for name in ("training", "test"):
            for ending in ("", "_augmentedrot_scale75"):
                write_hdf5(root / "h5_files" / part / f"{name}_objectdataset{ending}.h5", 15, classes=15)
    (root / "ModelNet10_points").mkdir()
    np.savez(
        root / "ModelNet10_points" / "modelnet10_chair_monitor_points1024.npz",
        points=rng(0).normal(size=(10, 40, 3)).astype(np.float16),
        labels=np.repeat([0, 1], 5).astype(np.uint8),
        is_test=(np.arange(10) % 5 == 4).astype(np.uint8),
        classes=np.array(["chair", "monitor"]),
    )


LAYOUTS = {
    ModelNet10Settings(points=16): (6, 0, 4),
    ModelNet10Settings(points=16, normals=True): (6, 0, 4),
    ModelNet10Settings(points=16, source="normals"): (6, 0, 4),
    ModelNet10Settings(points=16, source="subset"): (8, 0, 2),
    ModelNet40Settings(points=16): (8, 0, 4),
    ModelNet40Settings(points=16, normals=True, sampling="first"): (8, 0, 4),
    ModelNet40Settings(points=16, source="meshes"): (6, 0, 4),
    ModelNet40Settings(points=16, source="normals", normals=True): (6, 0, 4),
    ShapeNet16Settings(points=16, normals=True): (6, 2, 4),
    ShapeNet55Settings(points=16): (6, 0, 4),
    ScanObjectNNSettings(points=16): (15, 0, 15),
    ScanObjectNNSettings(points=16, variant="plain", background=False): (15, 0, 15),
}


@pytest.mark.parametrize("settings", LAYOUTS, ids=str)
def test_layouts(settings, tmp_path):
    with pytest.raises(UserError, match=f"data fetch {settings.dataset}"):
        Collection(settings, tmp_path)
    write_everything(tmp_path)
    task = Collection(settings, tmp_path)
    assert tuple(task.size(split) for split in ("train", "val", "test")) == LAYOUTS[settings]
    assert len(task.classes) == (15 if "scan" in settings.name else 2)
    batch = task.batch("test", torch.arange(task.size("test")))
    assert batch.inputs.shape == (task.size("test"), 6 if settings.normals else 3, 16)
    assert batch.inputs.dtype == torch.float32
    assert sorted(set(batch.targets.tolist())) == list(range(len(task.classes)))
    radius = batch.inputs[:, :3].norm(dim=1).amax(1)
    torch.testing.assert_close(radius, torch.ones_like(radius))
    assert float(batch.inputs[:, :3].mean(2).abs().max()) < 1e-5
    again = Collection(settings, tmp_path).batch("test", torch.arange(task.size("test")))
    assert torch.equal(again.inputs, batch.inputs)
    model = PointNet(task.in_channels, len(task.classes), width=0.125)
    assert set(task.evaluate(model, "test")) >= {"accuracy", "class_accuracy"}


def test_mesh_points_lie_on_the_surface_in_proportion_to_area_with_outward_normals(tmp_path):
    path = tmp_path / "box.off"
    box(path, glued=True)
    rows = read_mesh(path, 2000)
    assert rows.shape == (8000, 6)
    half = np.array([0.5, 1.0, 1.5])
    on_face = np.isclose(np.abs(rows[:, :3]), half, atol=1e-9)
    assert (on_face.any(axis=1)).all()
    areas = np.array([2 * 3, 1 * 3, 1 * 2]) / 11  # of the pairs of faces across x, y and z
    for axis, share in enumerate(areas):
        error = 5 * math.sqrt(share * (1 - share) / len(rows))
        assert abs(on_face[:, axis].mean() - share) < error
        there = on_face[:, axis] & (on_face.sum(1) == 1)
        wanted = np.zeros((there.sum(), 3))
        wanted[:, axis] = np.sign(rows[there, axis])
        np.testing.assert_allclose(rows[there, 3:], wanted, atol=1e-9)
    assert np.array_equal(read_mesh(path, 2000), rows)


GOOD = trimesh.creation.box().export(file_type="off")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no whole OFF mesh"),
        ("PLY\n" + GOOD, "no whole OFF mesh"),
        (GOOD[: len(GOOD) // 2], "no whole OFF mesh"),
        (GOOD[:-40], "no whole OFF mesh"),
        (GOOD.replace("3 1 3 0", "3 1 3 99"), "no whole OFF mesh"),
        (GOOD.replace("0.5", "nan"), "no whole OFF mesh"),
        (GOOD.replace("0.5", "0.0"), "no area"),
        ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "no whole OFF mesh"),
        ("OFF\nvertices\n", "no whole OFF mesh"),
    ],
)
def test_a_broken_mesh_is_named(tmp_path, text, words):
    path = tmp_path / "broken.off"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        read_mesh(path, 8)
    assert "broken.off" in str(error.value)


def test_a_broken_mesh_among_others_is_named_by_the_task(tmp_path):
    write_meshes(tmp_path)
    (tmp_path / "ModelNet10" / "chair" / "train" / "chair_train_2.off").write_text("OFF\n8 12 0\n0 0")
    with pytest.raises(UserError, match="chair_train_2"):
        Collection(ModelNet10Settings(points=8), tmp_path)


def test_other_broken_files_are_named(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"\x00\xff broken"):
        path.write_bytes(content)
        for read in (lambda p: read_text(p, normals=False), read_array, read_hdf5):
            with pytest.raises(UserError, match="It "):
                read(path)
    path.write_text("1,2\n3,4\n")
    with pytest.raises(UserError, match="2 numbers instead of 3"):
        read_text(path, normals=False)
    np.save(tmp_path / "flat.npy", np.zeros(5))
    with pytest.raises(UserError, match="instead of coordinates"):
        read_array(tmp_path / "flat.npy")
    write_hdf5(tmp_path / "plain.h5", 3)
    with pytest.raises(UserError, match="no whole HDF5"):
        read_hdf5(tmp_path / "plain.h5", normals=True)


def test_labels_and_lists_that_do_not_fit_are_named(tmp_path):
    write_everything(tmp_path)
    folder = tmp_path / "modelnet40_ply_hdf5_2048"
    write_hdf5(folder / "ply_data_train1.h5", 6, classes=3)
    with pytest.raises(UserError, match="none of the 2 classes"):
        Collection(ModelNet40Settings(points=8), tmp_path)
    (folder / "test_files.txt").unlink()
    with pytest.raises(UserError, match="test_files"):
        Collection(ModelNet40Settings(points=8), tmp_path)
    folder = tmp_path / "modelnet40_normal_resampled"
    listing = folder / "modelnet40_test.txt"
    listing.write_text(listing.read_text() + "\nsofa_0001\n")
    with pytest.raises(UserError, match="sofa"):
        Collection(ModelNet40Settings(points=8, source="normals"), tmp_path)
    (folder / "chair" / "chair_0001.txt").unlink()
    with pytest.raises(UserError, match="chair_0001"):
        Collection(ModelNet40Settings(points=8, source="normals"), tmp_path)


def test_what_was_read_is_remembered_until_files_change_and_never_half_written(tmp_path, cache, monkeypatch):
    write_meshes(tmp_path)
    monkeypatch.setattr(reading, "_CHUNK", 2)
    settings = ModelNet10Settings(points=8)
    calls = []

    def counted(path, points):
        calls.append(path.name)
        if len(calls) == dies_at:
            raise KeyboardInterrupt
        return read_mesh(path, points)

    from regathlon_points.classification import published

    monkeypatch.setattr(published, "read_mesh", counted)
    dies_at = 5  # in the third chunk
    with pytest.raises(KeyboardInterrupt):
        Collection(settings, tmp_path)
    calls.clear()
    dies_at = -1
    first = Collection(settings, tmp_path)
    assert len(calls) == 10 - 4  # two chunks were there already
    calls.clear()
    second = Collection(settings, tmp_path)
    assert calls == []
    index = torch.arange(6)
    assert torch.equal(first.batch("train", index).inputs, second.batch("train", index).inputs)
    assert list(cache.rglob("*.tmp")) == []
    changed = tmp_path / "ModelNet10" / "chair" / "test" / "chair_test_0.off"
    os.utime(changed, ns=(1, 1))
    Collection(settings, tmp_path)
    assert changed.name in calls
    assert len(calls) == 2
    for stored in cache.rglob("*.npy"):
        stored.write_bytes(stored.read_bytes()[:50])
    assert torch.equal(
        Collection(settings, tmp_path).batch("train", index).inputs, first.batch("train", index).inputs
    )


def test_few_and_equal_points_make_whole_clouds():
    for cloud in (np.ones((1, 3)), np.ones((9, 3)), rng(1).normal(size=(3, 6))):
        for sampling in ("farthest", "first"):
            thin = reading.thin_out(cloud, 5, sampling)
            assert thin.shape == (5, cloud.shape[1])
            assert np.isfinite(thin).all()


def test_votes_average_the_probabilities_of_turned_clouds(tmp_path):
    write_everything(tmp_path)
    model = PointNet(3, 2, width=0.125).eval()
    plain = Collection(ModelNet10Settings(points=16, source="subset"), tmp_path)
    voting = Collection(ModelNet10Settings(points=16, source="subset", votes=3), tmp_path)
    batch = plain.batch("train", torch.arange(8))
    with torch.no_grad():
        turned = [turn(batch.inputs, torch.full((8,), vote / 3)) for vote in range(3)]
        wanted = torch.stack([model(cloud).softmax(1) for cloud in turned]).mean(0).argmax(1)
        accuracy = float((wanted == batch.targets).float().mean())
    assert voting.evaluate(model.train(), "train")["accuracy"] == pytest.approx(accuracy)
    assert all(module.training for module in model.modules())
    once = plain.evaluate(model, "train")
    assert once == Collection(ModelNet10Settings(points=16, source="subset", votes=1), tmp_path).evaluate(
        model, "train"
    )


def clouds(channels=6, batch=400, points=20):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, points, generator=generator)


def test_augmentations_do_what_they_say():
    x, index, draw = clouds(), torch.arange(400), SampleDraw(0, 0)
    assert torch.equal(Augmentation()(x, index, draw), x)
    scaled = Augmentation(scale=(0.8, 1.25))(x, index, draw)
    factor = scaled[:, :3] / x[:, :3]
    torch.testing.assert_close(factor, factor[:, :1, :1].expand_as(factor), rtol=1e-4, atol=1e-4)
    assert 0.8 <= float(factor.min()) + 1e-4 < 0.82
    assert 1.23 < float(factor.max()) < 1.25 + 1e-3
    mean = float(factor[:, 0, 0].double().mean())  # uniform: variance (0.45)² / 12
    assert mean == pytest.approx(1.025, abs=5 * 0.45 / math.sqrt(12 * 400))
    assert torch.equal(scaled[:, 3:], x[:, 3:])
    by_axis = Augmentation(scale=(0.5, 2.0), axis_scale=True)(x, index, draw)[:, :3] / x[:, :3]
    assert float((by_axis[:, 0, 0] - by_axis[:, 1, 0]).abs().mean()) > 0.1
    shift = Augmentation(shift=0.1)(x, index, draw)[:, :3] - x[:, :3]
    torch.testing.assert_close(shift, shift[:, :, :1].expand_as(shift), rtol=0, atol=1e-5)
    assert 0.095 < float(shift.abs().max()) <= 0.1 + 1e-5
    turned = Augmentation(rotation=True)(x, index, draw)
    for part in (slice(0, 3), slice(3, 6)):
        torch.testing.assert_close(turned[:, part].norm(dim=1), x[:, part].norm(dim=1))
        assert torch.equal(turned[:, part][:, 2], x[:, part][:, 2])
    angle = (x[:, :3] * x[:, 3:]).sum(1)  # between a point and its normal
    torch.testing.assert_close((turned[:, :3] * turned[:, 3:]).sum(1), angle, rtol=1e-4, atol=1e-4)


def test_dropped_points_become_the_first_and_their_share_is_uniform():
    x = clouds(3, batch=600, points=100)
    out = Augmentation(dropout=0.875)(x, torch.arange(600), SampleDraw(0, 0))
    lost = (out != x).any(1)
    first = x[:, :, :1].expand_as(x)
    assert torch.equal(out.mT[lost], first.mT[lost])
    share = lost.double().mean(1)
    # Of 99 points that can differ, uniform shares in [0, 0.875]: mean 0.4375 · 0.99, variance below 0.875²/12 + 1/400.
    assert float(share.mean()) == pytest.approx(
        0.4375 * 0.99, abs=5 * math.sqrt((0.875**2 / 12 + 1 / 400) / 600)
    )
    assert float(share.max()) > 0.8
    assert float(share.min()) < 0.05


def test_settings_that_make_no_sense_are_refused():
    for wrong in (
        lambda: ModelNet40Settings(points=0),
        lambda: ModelNet40Settings(votes=0),
        lambda: ModelNet40Settings(source="mesh"),
        lambda: ModelNet40Settings(sampling="random"),
        lambda: ModelNet40Settings(scale=(2.0, 1.0)),
        lambda: ModelNet40Settings(point_dropout=1.0),
        lambda: ModelNet40Settings(shift=-0.1),
        lambda: ModelNet10Settings(source="subset", normals=True),
        lambda: ShapeNet55Settings(normals=True),
        lambda: ScanObjectNNSettings(variant="easy"),
    ):
        with pytest.raises(UserError):
            wrong()


@pytest.mark.realdata
def test_real_meshes_and_points():
    root = os.environ.get("REGATHLON_DATA")
    if root is None:
        pytest.skip("REGATHLON_DATA is not set")
    paths = sorted(Path(root).glob("ModelNet10/*/train/*.off"))
    if not paths:
        pytest.skip("no ModelNet10 meshes there")
    for path in paths[:3]:
        rows = read_mesh(path, 64)
        assert rows.shape == (256, 6)
        np.testing.assert_allclose(np.linalg.norm(rows[:, 3:], axis=1), 1, atol=1e-6)
    task = Collection(ModelNet10Settings(source="subset", points=256), Path(root))
    assert (task.size("train"), task.size("test"), task.classes) == (400, 100, ("chair", "monitor"))
