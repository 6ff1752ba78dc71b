"""The conformance kit: the rules that every regularizer and every task keeps, as checks that anyone can run.

A regularizer of one's own, on a toy task of every modality that it does not refuse::

    import pytest
    from regathlon_core.testing import conformance_checks
    from my_package import GaussianNoiseSettings

    @pytest.mark.parametrize("check", conformance_checks(GaussianNoiseSettings(std=0.1)), ids=str)
    def test_conforms(check):
        check()

A check needs no pytest: it is called without arguments, returns where the rule is kept, raises
``AssertionError`` with one sentence where it is broken, and ``unittest.SkipTest`` (which pytest shows as a
skip) with the reason where it says nothing, because the plain model itself cannot do what is asked. Its rule
is written in ``check.rule.__doc__``. Give settings at which the regularizer clearly acts: a check that it has
an effect is among them.

A task of one's own, and every regularizer that is installed on it::

    from regathlon_core.testing import cases, conformance_checks, task_checks

    TASK = MyTaskSettings()

    @pytest.mark.parametrize("check", task_checks(TASK), ids=str)
    def test_task_conforms(check):
        check()

    CHECKS = [check for settings in cases(TASK) for check in conformance_checks(settings, [TASK])]

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_regularizers_conform_on_it(check):
        check()

``task_checks`` and ``conformance_checks`` also take a built task, where building needs a folder of data. A
composition is checked as a sequence: ``conformance_checks([CutMixSettings(), DropBlockSettings()])``. Rates
and distributions (how many are dropped, what law a size is drawn from) belong to each method's own tests.
"""

from regathlon_core.testing.cases import all_regularizers, cases
from regathlon_core.testing.checks import Check, conformance_checks, run_check, task_checks
from regathlon_core.testing.imports import assert_imports_lightly
from regathlon_core.testing.observers import Ending, Killed
from regathlon_core.testing.toys import (
    TOY_TASKS,
    ToyDomains,
    ToyImages,
    ToyNodes,
    ToyPoints,
    ToyResidual,
    ToyScenes,
    ToyTokens,
)

__all__ = [
    "TOY_TASKS",
    "Check",
    "Ending",
    "Killed",
    "ToyDomains",
    "ToyImages",
    "ToyNodes",
    "ToyPoints",
    "ToyResidual",
    "ToyScenes",
    "ToyTokens",
    "all_regularizers",
    "assert_imports_lightly",
    "cases",
    "conformance_checks",
    "run_check",
    "task_checks",
]
