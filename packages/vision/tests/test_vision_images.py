"""Reading images from folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from regathlon_core import UserError
from regathlon_vision.images import (
    ImageFiles,
    central_window,
    decode,
    image_files,
    list_classes,
    random_window,
    read_stack,
)


def write(path, pixels, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode=None).convert(mode).save(path)
    return path


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("dog", "cat")):
        for at in range(3):
            write(tmp_path / name / f"{at}.png", noise(5, 7, 3, seed=10 * number + at))
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def test_classes_are_folders_in_order(folder):
    listing = list_classes(folder)
    assert listing.classes == ("cat", "dog")
    assert listing.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert [path.parent.name for path in listing.paths] == ["cat"] * 3 + ["dog"] * 3
    given = list_classes(folder, ("dog", "cat"))
    assert [path.parent.name for path in given.paths] == ["dog"] * 3 + ["cat"] * 3


def test_stack_holds_the_pixels(folder):
    listing = list_classes(folder)
    stack = read_stack(listing.paths)
    assert stack.shape == (6, 3, 5, 7)
    assert stack.dtype == torch.uint8
    for at, seed in ((0, 10), (3, 0), (5, 2)):
        assert np.array_equal(stack[at].permute(1, 2, 0).numpy(), noise(5, 7, 3, seed=seed))


def test_stack_resizes_or_refuses_other_sizes(folder):
    write(folder / "dog" / "9.png", noise(9, 9, 3))
    paths = list_classes(folder).paths
    with pytest.raises(UserError, match=r"9\.png: It is 9 by 9 pixels, 0\.png is 5 by 7"):
        read_stack(paths)
    stack = read_stack(paths, size=(5, 7))
    assert torch.equal(stack[:-1], read_stack(paths[:-1]))


def test_labels_are_read_as_the_numbers_they_are(tmp_path):
    labels = noise(6, 6) % 5
    image = Image.fromarray(labels, mode=None).convert("P")
    image.putpalette([value for number in range(5) for value in (number * 40, 0, 255 - number)])
    image.putdata(labels.ravel().tolist())
    image.save(tmp_path / "palette.png")
    Image.fromarray(labels).save(tmp_path / "gray.png")
    for name in ("palette.png", "gray.png"):
        assert np.array_equal(decode(tmp_path / name, "P")[:, :, 0], labels)


def test_gray_images_become_colours(tmp_path):
    gray = noise(4, 4)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert np.array_equal(decode(tmp_path / "gray.png"), np.repeat(gray[:, :, None], 3, axis=2))


@pytest.mark.parametrize("memory", [0, 200, 1 << 20])
def test_windows_do_not_depend_on_memory(folder, memory):
    files = ImageFiles(list_classes(folder).paths, memory=memory)
    index = torch.tensor([4, 0, 4])
    boxes = [(0.0, 0.0, 5.0, 7.0), (1.0, 2.0, 3.0, 3.0), (1.0, 0.0, 4.0, 4.0)]
    whole = files.windows(index, (5, 7), lambda at, height, width: (0.0, 0.0, height, width))
    assert torch.equal(whole, read_stack([files.paths[i] for i in index]))
    for _ in range(2):  # the second time from memory, as far as there is any
        cut = files.windows(index, (3, 3), lambda at, height, width: boxes[at])
        assert torch.equal(cut[1], whole[1, :, 1:4, 2:5])
        assert cut.shape == (3, 3, 3, 3)
        assert len(files) == 6


def test_random_windows_cover_what_they_should():
    numbers = np.random.default_rng(0)
    areas, ratios = [], []
    for _ in range(2000):
        top, left, tall, broad = random_window(60, 80, numbers.random(40).tolist())
        assert 0 <= top <= 60 - tall
        assert 0 <= left <= 80 - broad
        areas.append(tall * broad / 4800)
        ratios.append(broad / tall)
    # Sides are rounded to whole pixels, which moves the area of the smallest windows (about 20 pixels wide) by 5 %.
    assert 0.07 < min(areas) < max(areas) <= 1.0
    assert 0.7 < min(ratios) < max(ratios) < 1.42


def test_windows_that_never_fit_are_central():
    assert random_window(10, 100, [1.0 - 2**-24, 1.0 - 2**-24, 0.0, 0.0] * 3) == (0.0, 43.5, 10.0, 13.0)
    assert central_window(10, 20) == (0.0, 5.0, 10.0, 10.0)


def test_what_cannot_be_read_is_named(folder):
    (folder / "cat" / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.png: It is damaged or no image"):
        read_stack(image_files(folder / "cat"))
    half = (folder / "cat" / "0.png").read_bytes()[:60]
    (folder / "cat" / "broken.png").write_bytes(half)
    with pytest.raises(UserError, match="damaged"):
        decode(folder / "cat" / "broken.png")
    with pytest.raises(UserError, match="no such folder"):
        list_classes(folder, ("cat", "bird"))
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="no images in this folder"):
        list_classes(folder)
    with pytest.raises(UserError, match="no folder of a class"):
        list_classes(folder / "empty")
    with pytest.raises(UserError, match="no such file"):
        decode(folder / "nothing.png")
    with pytest.raises(UserError, match="no images to read"):
        read_stack([])
