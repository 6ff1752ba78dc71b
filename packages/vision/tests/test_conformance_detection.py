"""The rules of tasks, and of the regularizers that matter for detection, on the digit scenes."""

import math
from dataclasses import dataclass

import pytest

from regathlon_core import (
    Budget,
    CutMixSettings,
    GradAugSettings,
    LabelSmoothingSettings,
    MixupSettings,
    Recipe,
    fit,
)
from regathlon_core.rng import global_stream
from regathlon_core.testing import assert_imports_lightly, cases, conformance_checks, task_checks
from regathlon_core.testing.cases import shortened
from regathlon_vision.detection import (
    CocoSettings,
    DetectionScenesSettings,
    FasterRCNNSettings,
    FolderSettings,
    MaskRCNNSettings,
    MMDetFasterRCNNSettings,
    MMDetMaskRCNNSettings,
    NucleiSettings,
    SmallFasterRCNNSettings,
    SmallMaskRCNNSettings,
)


@dataclass(frozen=True)
class TinyMaskRCNN(SmallMaskRCNNSettings):
    width: int = 4
    channels: int = 8
    proposals: int = 16


@dataclass(frozen=True)
class TinyFasterRCNN(SmallFasterRCNNSettings):
    width: int = 4
    channels: int = 8
    proposals: int = 16


@dataclass(frozen=True)
class Scenes(DetectionScenesSettings):
    """The task as it is, with models that train in no time."""

    models = (TinyMaskRCNN, TinyFasterRCNN)


SCENES = Scenes()
REGULARIZERS = (GradAugSettings(n=1, alpha=0.5),)


@pytest.mark.parametrize("check", task_checks(SCENES), ids=str)
def test_the_task_conforms(check):
    check()


@pytest.mark.parametrize(
    "check",
    [check for settings in REGULARIZERS for check in conformance_checks(settings, [SCENES])],
    ids=str,
)
def test_regularizers_conform_on_it(check):
    check()


@pytest.mark.parametrize("settings", cases(SCENES), ids=str)
def test_every_regularizer_that_is_not_refused_trains_on_it(settings):
    task = SCENES.build()
    with global_stream(0, "init"):
        model = TinyMaskRCNN().build(task)
    keys = list(model.state_dict())
    recipe = Recipe(optimizer="adamw", lr=1e-3, batch_size=2, budget=Budget(steps=2))
    result = fit(model, shortened(task, 2), settings.build(), recipe)
    assert math.isfinite(result.history[-1].train_loss)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("settings", [CutMixSettings(), MixupSettings(), LabelSmoothingSettings()], ids=str)
def test_what_mixes_labels_is_refused_with_a_reason(settings):
    reason = settings.refusal(SCENES)
    assert "which detection/scenes does not offer" in reason
    assert settings.name in reason


def test_declarations_import_nothing_heavy():
    assert_imports_lightly(
        [
            CocoSettings,
            DetectionScenesSettings,
            FasterRCNNSettings,
            FolderSettings,
            MaskRCNNSettings,
            MMDetFasterRCNNSettings,
            MMDetMaskRCNNSettings,
            NucleiSettings,
            SmallFasterRCNNSettings,
            SmallMaskRCNNSettings,
        ]
    )
