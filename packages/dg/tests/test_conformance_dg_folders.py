"""The rules of tasks on tasks whose images lie in folders, and of a method made for them."""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from regathlon_core.testing import assert_imports_lightly, cases, conformance_checks, task_checks
from regathlon_dg import (
    DigitsDGSettings,
    DigitsNetSettings,
    DomainNetSettings,
    FiveDigitsSettings,
    OfficeHomeSettings,
    PACSSettings,
    ResNet18Settings,
    TerraIncognitaSettings,
    VLCSSettings,
)

KEPT: list[tempfile.TemporaryDirectory] = []


@functools.cache
def root() -> Path:
    """Two classes of noise, bright above and bright below, in the layouts of PACS and Digits-DG."""
    KEPT.append(tempfile.TemporaryDirectory())
    folder = Path(KEPT[-1].name)
    rng = np.random.default_rng(0)
    places = [folder / "PACS" / domain for domain in PACSSettings.domains]
    places += [
        folder / "digits_dg" / name / part for name in DigitsDGSettings.domains for part in ("train", "val")
    ]
    for place in places:
        for label, name in enumerate(("above", "below")):
            (place / name).mkdir(parents=True)
            for number in range(12):
                pixels = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8)
                pixels[8 * label : 8 * label + 8] += 120
                Image.fromarray(pixels).save(place / name / f"{number}.png")
    return folder


class Here:
    """Finds its data in a folder of the test's own."""

    def build(self, data=None):
        return self.load()(self, root())


@dataclass(frozen=True)
class NarrowResNet18(ResNet18Settings):
    width: int = 4


@dataclass(frozen=True)
class NarrowDigitsNet(DigitsNetSettings):
    width: int = 4


@dataclass(frozen=True)
class Photos(Here, PACSSettings):
    """PACS with a network that trains in no time."""

    models: ClassVar = (NarrowResNet18,)
    # Of 16 pixels the last stage's strided 3x3 convolution would see one, and oneDNN's bfloat16 weight gradient of
    # that is NaN at random (torch 2.11, processors with avx512_bf16): 73,505 NaN in each of two kernel places.
    size: int = 32


@dataclass(frozen=True)
class Numbers(Here, DigitsDGSettings):
    """Digits-DG with a network that trains in no time."""

    models: ClassVar = (NarrowDigitsNet,)
    size: int = 16


TASKS = [Photos(test="sketch"), Photos(test="photo", protocol="domainbed"), Numbers(test="svhn")]
METHODS = ("gsnr",)


@pytest.mark.parametrize("check", [check for task in TASKS for check in task_checks(task)], ids=str)
def test_tasks_conform(check):
    check()


@pytest.mark.parametrize(
    "check",
    [
        check
        for settings in cases(TASKS[0])
        if settings.name in METHODS
        for check in conformance_checks(settings, TASKS[:1])
    ],
    ids=str,
)
def test_a_method_for_domains_conforms_on_them(check):
    check()


def test_the_declarations_import_nothing_heavy():
    assert_imports_lightly(
        [
            DigitsDGSettings,
            DomainNetSettings,
            FiveDigitsSettings,
            OfficeHomeSettings,
            PACSSettings,
            TerraIncognitaSettings,
            VLCSSettings,
        ]
    )
