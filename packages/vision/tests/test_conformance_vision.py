"""The rules of tasks, and of every installed regularizer on them."""

from dataclasses import dataclass

import pytest

from regathlon_core.testing import assert_imports_lightly, cases, conformance_checks, task_checks
from regathlon_vision import DigitsSettings, ResNet8Settings, ResNet18Settings, ScenesSettings, UNetSettings


@dataclass(frozen=True)
class NarrowResNet(ResNet8Settings):
    width: int = 4


@dataclass(frozen=True)
class NarrowUNet(UNetSettings):
    width: int = 2
    depth: int = 1


@dataclass(frozen=True)
class Digits(DigitsSettings):
    """The task as it is, with a model that trains in no time."""

    models = (NarrowResNet,)


@dataclass(frozen=True)
class Scenes(ScenesSettings):
    models = (NarrowUNet,)


TASKS = (Digits(), Scenes())


@pytest.mark.parametrize("check", [check for task in TASKS for check in task_checks(task)], ids=str)
def test_tasks_conform(check):
    check()


@pytest.mark.parametrize(
    "check",
    [check for task in TASKS for settings in cases(task) for check in conformance_checks(settings, [task])],
    ids=str,
)
def test_regularizers_conform_on_them(check):
    check()


def test_declarations_import_nothing_heavy():
    assert_imports_lightly([DigitsSettings, ScenesSettings, ResNet8Settings, ResNet18Settings, UNetSettings])
