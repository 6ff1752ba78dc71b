"""The rules of tasks, and of every installed regularizer on them."""

import pytest

from regathlon_core.testing import assert_imports_lightly, cases, conformance_checks, task_checks
from regathlon_points import (
    DGCNNSettings,
    ModelNet10Settings,
    ModelNet40Settings,
    PointNet2Settings,
    PointNetSettings,
    ScanObjectNNSettings,
    ShapeNet16Settings,
    ShapeNet55Settings,
    ShapesSettings,
)

TASK = ShapesSettings(points=32)


@pytest.mark.parametrize("check", task_checks(TASK), ids=str)
def test_the_task_conforms(check):
    check()


@pytest.mark.parametrize(
    "check", [check for settings in cases(TASK) for check in conformance_checks(settings, [TASK])], ids=str
)
def test_regularizers_conform_on_it(check):
    check()


def test_declarations_import_nothing_heavy():
    assert_imports_lightly(
        [
            ShapesSettings,
            ModelNet10Settings,
            ModelNet40Settings,
            ShapeNet16Settings,
            ShapeNet55Settings,
            ScanObjectNNSettings,
            PointNetSettings,
            PointNet2Settings,
            DGCNNSettings,
        ]
    )
