"""Rules bound to what they are tried on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from regathlon_core.settings import RegularizerSettings, TaskSettings, check_composition
from regathlon_core.task import Task
from regathlon_core.testing.cases import Case
from regathlon_core.testing.regularizer_rules import REGULARIZER_RULES
from regathlon_core.testing.task_rules import TASK_RULES
from regathlon_core.testing.toys import TOY_TASKS, ToyDomainsSettings


@dataclass(frozen=True)
class Check:
    """One rule on one regularizer and task, or on one task; call it to try.

    Attributes:
        rule: The rule; its docstring says it.
        title: What it is tried on.
        subject: Makes what the rule is called with; the task is built when the first check on it is called.
    """

    rule: Callable[[Any], None]
    title: str
    subject: Callable[[], Any]

    def __call__(self) -> None:
        """Try it.

        Raises:
            AssertionError: The rule is broken.
            unittest.SkipTest: The rule says nothing here.
        """
        self.rule(self.subject())

    def __str__(self) -> str:
        return f"{self.rule.__name__}-{self.title}"


def conformance_checks(
    settings: RegularizerSettings | Sequence[RegularizerSettings],
    tasks: Iterable[Task | TaskSettings] | None = None,
) -> list[Check]:
    """Return the checks of a regularizer on every task that it does not refuse.

    Args:
        settings: The regularizer, or the parts of a composition, at a strength at which it clearly acts.
        tasks: Tasks or their declarations; unless given, a toy task of every modality, and one with domains
            for a regularizer that needs them.

    Raises:
        AssertionError: It refuses all of the tasks, so that nothing would be checked.

    Example:
        >>> from regathlon_core import NoRegularizerSettings
        >>> checks = conformance_checks(NoRegularizerSettings())
        >>> str(checks[0])
        'settings_are_plain-none-vision/toy'
        >>> for check in checks[:3]:
        ...     check()
    """
    given = (settings,) if isinstance(settings, RegularizerSettings) else tuple(settings)
    parts = check_composition(given)
    name = "+".join(map(str, parts))
    if tasks is None:
        needs_domains = any("domains" in part.needs for part in parts)
        tasks = (*TOY_TASKS, ToyDomainsSettings()) if needs_domains else TOY_TASKS
    accepted = [task for task in tasks if all(part.refusal(_declaration(task)) is None for part in parts)]
    assert accepted, f"{name} refuses every one of the tasks, so nothing would be checked"
    return [
        Check(rule, f"{name}-{_declaration(task)}", functools.partial(_case, parts, task))
        for task in accepted
        for rule in REGULARIZER_RULES
    ]


def task_checks(task: Task | TaskSettings) -> list[Check]:
    """Return the checks of a task.

    Args:
        task: The task or its declaration.

    Example:
        >>> from regathlon_core.testing import ToyImages
        >>> for check in task_checks(ToyImages())[:3]:
        ...     check()
    """
    return [Check(rule, str(_declaration(task)), functools.partial(_built, task)) for rule in TASK_RULES]


def run_check(rule: str, settings: RegularizerSettings | Sequence[RegularizerSettings], task: Task) -> None:
    """Try one rule by its name, which a test of a regularizer's own may want.

    Args:
        rule: Name of the rule.
        settings: The regularizer or the parts of a composition.
        task: The task.

    Raises:
        KeyError: There is no such rule.

    Example:
        >>> from regathlon_core import NoRegularizerSettings
        >>> from regathlon_core.testing import ToyImages
        >>> run_check("settings_are_plain", NoRegularizerSettings(), ToyImages())
    """
    rules = {known.__name__: known for known in REGULARIZER_RULES}
    given = (settings,) if isinstance(settings, RegularizerSettings) else tuple(settings)
    rules[rule](Case(check_composition(given), task))


def _declaration(task: Task | TaskSettings) -> TaskSettings:
    return task.settings if isinstance(task, Task) else task


def _case(parts: tuple[RegularizerSettings, ...], task: Task | TaskSettings) -> Case:
    return Case(parts, _built(task))


def _built(task: Task | TaskSettings) -> Task:
    return task if isinstance(task, Task) else _build(task)


@functools.lru_cache(maxsize=8)
def _build(settings: TaskSettings) -> Task:
    return settings.build()
