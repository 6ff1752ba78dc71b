"""Tasks whose images lie in folders: every layout, the published splits, and what is said when data is wrong."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regathlon_core import SampleDraw, UserError
from regathlon_dg import (
    DigitsDGSettings,
    DomainNetSettings,
    FiveDigitsSettings,
    OfficeHomeSettings,
    PACSSettings,
    TerraIncognitaSettings,
    VLCSSettings,
)

CLASSES = ("dog", "horse")
PACS = PACSSettings.domains


def write_image(path: Path, seed: int, size: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_domain(folder: Path, classes=CLASSES, count: int = 5, start: int = 0, suffix: str = ".png") -> None:
    for label, name in enumerate(classes):
        for number in range(count):
            write_image(folder / name / f"{number}{suffix}", seed=start + 100 * label + number)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """PACS as DomainBed has it, without lists."""
    root = tmp_path_factory.mktemp("pacs")
    for at, domain in enumerate(PACS):
        write_domain(root / "PACS" / domain, count=5 + at, start=1000 * at)
    return root


@pytest.fixture
def pacs(made, tmp_path) -> Path:
    """A copy of it to spoil."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def write_lists(root: Path, first_label: int = 1, held_back: int = 1) -> None:
    (root / "splits").mkdir()
    for domain in PACS:
        lines = {"train": [], "val": []}
        for label, name in enumerate(CLASSES):
            for path in sorted((root / "PACS" / domain / name).iterdir()):
                part = "val" if int(path.stem) < held_back else "train"
                lines[part].append(f"{domain}/{name}/{path.name} {label + first_label}")
        for part, own in lines.items():
            (root / "splits" / f"{domain}_{part}.txt").write_text("\n".join(own) + "\n")


def files(task, split) -> list[Path]:
    samples = task._data[split][0]
    return [task.images.paths[int(number)] for number in samples]


def build(settings, root):
    return settings.build(root)


# ---- layouts -----------------------------------------------------------------------------------------------


def test_official_lists_make_the_parts(pacs):
    write_lists(pacs)
    task = build(PACSSettings(test="sketch", size=16), pacs)
    assert task.classes == CLASSES
    train, val = set(files(task, "train")), set(files(task, "val"))
    assert not train & val
    assert {path.stem for path in val} == {"0"}
    sources = {path for domain in PACS[:3] for path in (pacs / "PACS" / domain).rglob("*.png")}
    assert train | val == sources
    assert set(files(task, "test")) == set((pacs / "PACS" / "sketch").rglob("*.png"))
    for split in ("train", "val", "test"):
        for path, label, domain in zip(files(task, split), *task._data[split][1:], strict=True):
            assert path.parent.name == CLASSES[int(label)]
            assert path.parent.parent.name == PACS[int(domain)]


def test_dassl_s_pacs_with_its_own_lists_comes_first(pacs):
    (pacs / "pacs").mkdir()
    (pacs / "PACS").rename(pacs / "pacs" / "images")
    (pacs / "pacs" / "splits").mkdir()
    for domain in PACS:
        lines = [
            f"{domain}/{name}/{number}.png {label}"
            for label, name in enumerate(CLASSES, start=1)
            for number in range(5)
        ]
        for part, own in (
            ("train", lines[::2] + lines[1::4]),
            ("crossval", lines[3::4]),
            ("test", lines),
        ):
            (pacs / "pacs" / "splits" / f"{domain}_{part}_kfold.txt").write_text("\n".join(own))
    task = build(PACSSettings(test="photo", size=16), pacs)
    assert task.size("test") == 10  # what the list says, though there are 14 files
    assert task.size("val") == 3 * 2


def test_domainbed_s_vlcs_and_dassl_s(tmp_path):
    for folder in ("Caltech101", "LabelMe", "VOC2007", "SUN09"):
        write_domain(tmp_path / "a" / "VLCS" / folder, classes=("bird", "car"), count=10)
    task = build(VLCSSettings(test="sun09", size=16), tmp_path / "a")
    assert (task.size("train"), task.size("val"), task.size("test")) == (2 * 3 * 18, 3 * 2, 20)
    for folder, (part, count) in itertools.product(
        ("CALTECH", "LABELME", "PASCAL", "SUN"), (("train", 4), ("crossval", 2), ("test", 3), ("full", 9))
    ):
        write_domain(tmp_path / "b" / "VLCS" / folder / part, classes=("0", "1"), count=count, suffix=".jpg")
    task = build(VLCSSettings(test="voc2007", size=16), tmp_path / "b")
    assert (task.size("train"), task.size("val"), task.size("test")) == (2 * 3 * 8, 3 * 4, 6)
    assert {path.parts[-3] for path in files(task, "test")} == {"test"}


@pytest.mark.parametrize(
    ("settings", "folder", "names"),
    [
        (OfficeHomeSettings, "office_home", ("Art", "Clipart", "Product", "Real World")),
        (OfficeHomeSettings, "office_home", ("Art", "Clipart", "Product", "Real")),
        (
            TerraIncognitaSettings,
            "terra_incognita",
            ("location_100", "location_38", "location_43", "location_46"),
        ),
        (
            DomainNetSettings,
            "domain_net",
            ("clipart", "infograph", "painting", "quickdraw", "real", "sketch"),
        ),
    ],
    ids=["office-home", "office-home-real", "terra", "domainnet"],
)
def test_domainbed_s_other_layouts(settings, folder, names, tmp_path):
    for name in names:
        write_domain(tmp_path / folder / name, count=10)
    task = build(settings(test=settings.domains[-1], size=16, protocol="domainbed"), tmp_path)
    assert {path.parent.parent.name for path in files(task, "test")} == {names[-1]}
    count = len(names) - 1
    # 80 % of each domain are its training part, and of the target they are what is tested on.
    assert (task.size("train"), task.size("val"), task.size("test")) == (16 * count, 4 * count, 16)


def test_dassl_s_office_home_and_digits(tmp_path):
    for settings, folder, names in (
        (OfficeHomeSettings, "office_home_dg", ("art", "clipart", "product", "real_world")),
        (DigitsDGSettings, "digits_dg", DigitsDGSettings.domains),
    ):
        for name, (part, count) in itertools.product(names, (("train", 3), ("val", 2))):
            write_domain(tmp_path / folder / name / part, count=count)
        task = build(settings(test=names[0], size=16), tmp_path)
        twins = 2 if settings is OfficeHomeSettings else 1
        assert task.size("train") == twins * 3 * 6
        assert (task.size("val"), task.size("test")) == (3 * 4, 10)


def test_dassl_s_domainnet_lists_count_from_zero(tmp_path):
    (tmp_path / "domainnet" / "splits").mkdir(parents=True)
    for domain in DomainNetSettings.domains:
        write_domain(tmp_path / "domainnet" / domain, count=3)
        for part, numbers in (("train", (0, 1)), ("test", (2,))):
            lines = [
                f"{domain}/{name}/{n}.png {label}" for label, name in enumerate(CLASSES) for n in numbers
            ]
            (tmp_path / "domainnet" / "splits" / f"{domain}_{part}.txt").write_text("\n".join(lines))
    task = build(DomainNetSettings(test="real", size=16), tmp_path)
    assert (task.size("train"), task.size("val"), task.size("test")) == (2 * 5 * 4, 5 * 2, 6)


def test_some_domains_do(tmp_path):
    for name in ("mnist", "mnist_m", "usps"):
        for part in ("train", "val"):
            write_domain(tmp_path / "digits_dg" / name / part, count=2)
    few = ("mnist", "usps", "mnist_m")
    task = build(FiveDigitsSettings(test="usps", only=few, size=16), tmp_path)
    assert task.settings.sources == ("mnist", "mnist_m")
    assert [str(one.test) for one in FiveDigitsSettings(only=few).grid()] == ["mnist", "mnist_m", "usps"]
    with pytest.raises(
        UserError, match=r"no folder of the domain svhn and syn; there is mnist, mnist_m, usps"
    ):
        build(FiveDigitsSettings(test="usps", size=16), tmp_path)


def test_the_image_that_is_known_to_be_corrupt_is_left_out(pacs):
    bad = pacs / "PACS" / "sketch" / "dog" / "n02103406_4068-1.png"
    bad.write_bytes(b"")
    task = build(PACSSettings(test="photo", size=16), pacs)
    assert bad not in task.images.paths


# ---- what is wrong -----------------------------------------------------------------------------------------


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"dg/pacs is not there: no folder pacs/images or PACS"):
        build(PACSSettings(test="photo"), tmp_path)


def test_one_domain_only(pacs):
    for domain in PACS[1:]:
        shutil.rmtree(pacs / "PACS" / domain)
    with pytest.raises(UserError, match=r"no folder of the domain cartoon and photo and sketch"):
        build(PACSSettings(test="photo", size=16), pacs)
    with pytest.raises(UserError, match=r"at least 2 domains .* not only photo"):
        PACSSettings(only=("photo",))


def test_a_class_that_a_domain_lacks(pacs):
    shutil.rmtree(pacs / "PACS" / "photo" / "horse")
    with pytest.raises(UserError, match=r"same classes: photo has no class horse"):
        build(PACSSettings(test="sketch", size=16), pacs)


def test_a_class_folder_without_images_is_a_class_that_a_domain_lacks(pacs):
    for path in (pacs / "PACS" / "photo" / "horse").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"photo has no class horse"):
        build(PACSSettings(test="sketch", size=16), pacs)


def test_unequal_class_sets(pacs):
    (pacs / "PACS" / "photo" / "horse").rename(pacs / "PACS" / "photo" / "hourse")
    with pytest.raises(UserError, match=r"cartoon has no class hourse.*photo has no class horse"):
        build(PACSSettings(test="sketch", size=16), pacs)


def test_an_empty_domain(pacs):
    shutil.rmtree(pacs / "PACS" / "cartoon")
    (pacs / "PACS" / "cartoon").mkdir()
    with pytest.raises(UserError, match=r"cartoon: There are no images in the folder of this domain"):
        build(PACSSettings(test="sketch", size=16), pacs)


def test_lists_with_labels_that_count_from_zero(pacs):
    write_lists(pacs, first_label=0)
    with pytest.raises(
        UserError, match=r"_train\.txt: Line 1 gives .*dog/.*png the label 0; .* go from 1 to 2"
    ):
        build(PACSSettings(test="sketch", size=16), pacs)


def test_lists_that_name_what_is_not_there(pacs):
    write_lists(pacs)
    (pacs / "PACS" / "photo" / "dog" / "3.png").unlink()
    (pacs / "PACS" / "photo" / "dog" / "4.png").unlink()
    with pytest.raises(
        UserError, match=r"photo_train\.txt: It names 2 files: photo/dog/3\.png, photo/dog/4\.png"
    ):
        build(PACSSettings(test="sketch", size=16), pacs)


def test_lists_that_cannot_be_read(pacs):
    write_lists(pacs)
    (pacs / "splits" / "photo_val.txt").write_text("photo/dog/0.png\n")
    with pytest.raises(UserError, match=r"photo_val\.txt: Line 1 is no path and label: 'photo/dog/0\.png'"):
        build(PACSSettings(test="sketch", size=16), pacs)
    (pacs / "splits" / "photo_val.txt").unlink()
    with pytest.raises(UserError, match=r"photo_val\.txt: There is no such split list, though"):
        build(PACSSettings(test="sketch", size=16), pacs)


def test_all_damaged_images_are_named_at_once(pacs):
    for name in ("1.png", "2.png"):
        (pacs / "PACS" / "photo" / "dog" / name).write_bytes(b"\x89PNG no more")
    with pytest.raises(UserError, match=r"holds 2 files: \S*dog/1\.png \(.*dog/2\.png"):
        build(PACSSettings(test="sketch", size=16), pacs)


def test_wrong_settings():
    with pytest.raises(UserError, match=r"no protocol of dg/pacs 'domainbet'\. Did you mean 'domainbed'"):
        PACSSettings(protocol="domainbet")
    with pytest.raises(UserError, match="size must be at least 8"):
        PACSSettings(size=4)


# ---- protocols ---------------------------------------------------------------------------------------------


def test_a_protocol_brings_its_recipe():
    assert PACSSettings().recipe == PACSSettings.recipe
    assert PACSSettings().recipe.budget.epochs == 30
    found = PACSSettings(protocol="domainbed").recipe
    assert (found.optimizer, found.lr, found.budget.steps) == ("adam", 5e-5, 5000)
    assert PACSSettings(protocol="domainbed") != PACSSettings()
    assert DigitsDGSettings().recipe.milestones == (0.4, 0.8)


def test_twins_are_mirror_images_in_the_same_batch(made):
    task = build(PACSSettings(test="sketch", size=16), made)
    originals = task.size("train") // 2
    shown = []
    for index in task.order(epoch=0, seed=0, batch_size=12):
        batch = task.batch("train", index, SampleDraw(0, 0))
        half = len(index) // 2
        assert torch.equal(index[half:], index[:half] + originals)
        assert torch.equal(batch.inputs[half:], batch.inputs[:half].flip(-1))
        assert torch.equal(batch.targets[half:], batch.targets[:half])
        counts = torch.bincount(batch.domain[:half], minlength=4)[:3]
        assert counts.max() - counts.min() <= 1
        shown += index[:half].tolist()
    assert set(shown) == set(range(originals))


def test_unbalanced_batches_show_every_sample_once(made):
    task = build(PACSSettings(test="sketch", size=16, balanced=False), made)
    shown = torch.cat([index[: len(index) // 2] for index in task.order(0, 0, 2)])
    assert sorted(shown.tolist()) == list(range(task.size("train") // 2))


def test_without_a_draw_images_are_what_they_are(made):
    settings = PACSSettings(test="sketch", size=16)
    task = build(settings, made)
    batch = task.batch("test", torch.arange(4))
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (settings.mean, settings.std))
    for image, path in zip(batch.inputs, files(task, "test"), strict=False):
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
        torch.testing.assert_close(image * std + mean, pixels, atol=1e-6, rtol=0)


def test_leave_one_out_and_oracle_validation(made):
    loo = PACSSettings(test="sketch", validation="leave_one_out", size=16)
    assert [one.val for one in loo.grid()] == ["art_painting", "cartoon", "photo"]
    assert len(PACSSettings(validation="leave_one_out").grid()) == 12
    task = build(loo.grid()[0], made)
    assert set(task._data["train"][2].tolist()) == {1, 2}
    assert set(task._data["val"][2].tolist()) == {0}
    assert set(task._data["test"][2].tolist()) == {3}
    with pytest.raises(UserError, match="needs a domain to validate on"):
        build(loo, made)
    with pytest.raises(UserError, match="needs validation=leave_one_out"):
        PACSSettings(test="sketch", val="photo")
    task = build(PACSSettings(test="sketch", validation="oracle", protocol="domainbed", size=16), made)
    assert set(task._data["train"][2].tolist()) == {0, 1, 2}
    assert set(task._data["val"][2].tolist()) == set(task._data["test"][2].tolist()) == {3}
    assert not set(files(task, "val")) & set(files(task, "test"))


def test_the_random_split_is_numbered(made):
    one, same, other = (
        build(PACSSettings(test="sketch", protocol="domainbed", size=16, split=split), made)
        for split in (0, 0, 1)
    )
    assert files(one, "train") == files(same, "train")
    assert set(files(one, "train")) != set(files(other, "train"))


# ---- the real data -----------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_the_subsets_of_pacs_and_digits_are_found():
    import os

    root = os.environ.get("REGATHLON_DATA")
    if not root or not (Path(root) / "PACS").is_dir() or not (Path(root) / "digits_dg").is_dir():
        pytest.skip("REGATHLON_DATA holds no PACS and digits_dg")
    task = build(PACSSettings(test="sketch", size=32), Path(root))
    assert len(task.classes) == 7
    for split in ("train", "val", "test"):
        batch = task.batch(split, torch.arange(6), SampleDraw(0, 0) if split == "train" else None)
        assert batch.inputs.shape == (6, 3, 32, 32)
        assert bool(torch.isfinite(batch.inputs).all())
    digits = FiveDigitsSettings(test="usps", only=("mnist", "mnist_m", "usps"))
    task = build(digits, Path(root))
    assert task.classes == tuple("0123456789")
    assert task.size("train") == 2 * len(list((Path(root) / "digits_dg" / "mnist" / "train").rglob("*.png")))
