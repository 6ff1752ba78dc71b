"""The rules of tasks, and of every installed regularizer on them."""

import pytest

from regathlon_core.testing import assert_imports_lightly, cases, conformance_checks, task_checks
from regathlon_graphs import AtlasSettings, DigitGraphSettings, KarateSettings, NodeGcnSettings

TASKS = (DigitGraphSettings(neighbours=3), KarateSettings(), AtlasSettings())


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
    assert_imports_lightly([AtlasSettings, DigitGraphSettings, KarateSettings, NodeGcnSettings])
