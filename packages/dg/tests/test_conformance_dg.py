"""The rules of tasks, and of every installed regularizer on them."""

from dataclasses import dataclass

import pytest

from regathlon_core.testing import assert_imports_lightly, cases, conformance_checks, task_checks
from regathlon_dg import DigitDomainsSettings
from regathlon_vision import ResNet8Settings


@dataclass(frozen=True)
class NarrowResNet(ResNet8Settings):
    width: int = 4


@dataclass(frozen=True)
class Digits(DigitDomainsSettings):
    """The task as it is, with a model that trains in no time."""

    models = (NarrowResNet,)


TASK = Digits(test="camera")


@pytest.mark.parametrize("check", task_checks(TASK), ids=str)
def test_the_task_conforms(check):
    check()


@pytest.mark.parametrize(
    "check", [check for settings in cases(TASK) for check in conformance_checks(settings, [TASK])], ids=str
)
def test_regularizers_conform_on_it(check):
    check()


def test_the_declaration_imports_nothing_heavy():
    assert_imports_lightly([DigitDomainsSettings])
