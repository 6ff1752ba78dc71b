"""Observers that end a training early, for tests of what a resume brings back."""

from __future__ import annotations

from collections.abc import Iterable

from regathlon_core.engine.fit import EpochRecord, SilentObserver


class Killed(BaseException):
    """What a kill looks like from inside."""


class Ending(SilentObserver):
    """Ends a training at chosen events, each once.

    A kill comes right after a step or an evaluation, before its checkpoint.

    Args:
        kill: Events at which the training dies of ``Killed``: ``"step 5"``, ``"epoch 2"``.
        stop: Steps after which it is asked to save its state and stop.

    Attributes:
        step: The last step that was done.

    Example:
        >>> from regathlon_core import Budget, Recipe, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> try:
        ...     fit(task.model(seed=0), task, recipe=Recipe(budget=Budget(steps=3)), observer=Ending(kill=["step 2"]))
        ... except Killed:
        ...     print("killed")
        killed
    """

    def __init__(self, *, kill: Iterable[str] = (), stop: Iterable[int] = ()) -> None:
        self._kill, self._stop = set(kill), set(stop)
        self.step = 0

    def stepped(self, step: int, total_steps: int) -> None:
        """Perhaps die."""
        self.step = step
        self._die(f"step {step}")

    def epoch_ended(self, record: EpochRecord) -> None:
        """Perhaps die."""
        self._die(f"epoch {record.epoch}")

    def stop_requested(self) -> bool:
        """Perhaps ask to stop."""
        stop = self.step in self._stop
        self._stop.discard(self.step)
        return stop

    def _die(self, event: str) -> None:
        if event in self._kill:
            self._kill.remove(event)
            raise Killed
