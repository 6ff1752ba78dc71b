"""What a training costs: seconds, memory and floating-point operations."""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regathlon_core.counting import FlopCounter

_FIRST_COUNTED = 8
_COUNTED_EVERY = 64
_KEPT_TIMES = 4096


@dataclass(frozen=True)
class Cost:
    """The cost of a training.

    Attributes:
        train_seconds: Wall time of all training steps, evaluation not counted.
        step_seconds: Wall time of a step: the median on the CPU, the mean on CUDA.
        peak_memory_mb: Peak memory in MiB: allocated on the device (CUDA), or what the process grew by since
            the training began (CPU).
        train_flops: Floating-point operations of all steps by torch's FlopCounterMode: every step is counted
            under a budget of FLOPs, unless all cost the same; else the first few and a sample of the rest.
        steps: Optimizer steps.
    """

    train_seconds: float
    step_seconds: float
    peak_memory_mb: float
    train_flops: float
    steps: int


class CostMeter:
    """Measures steps; its state survives a resume.

    Args:
        device: Where the steps run.
        exact_flops: Count the operations of every step as soon as steps are seen to differ, instead of taking
            a sample: the counter slows small steps down.
    """

    def __init__(self, device: torch.device, *, exact_flops: bool = False) -> None:
        self.device, self.exact_flops = device, exact_flops
        self.seconds = 0.0
        self._steps = 0
        self._times: list[float] = []
        self._counted = 0
        self._counted_flops = 0.0
        self._flops_range = (math.inf, -math.inf)
        self._peak_before_resume = 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._memory_at_start = _resident_mb(reset_peak=True)

    @property
    def flops(self) -> float:
        """Operations of all steps so far: those counted, and for the others the mean of those counted."""
        if not self._counted:
            return 0.0
        return self._counted_flops * (self._steps / self._counted)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Measure one step; those whose operations are counted are left out of the median time."""
        counter = FlopCounter() if self._counts() else None
        start = time.perf_counter()
        with counter or contextlib.nullcontext():
            yield
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        self._steps += 1
        if counter is not None:
            self._counted += 1
            self._counted_flops += counter.flops
            least, most = self._flops_range
            self._flops_range = (min(least, counter.flops), max(most, counter.flops))
        elif self.device.type == "cpu" and len(self._times) < _KEPT_TIMES:
            self._times.append(elapsed)

    @contextlib.contextmanager
    def end_of_step(self) -> Iterator[None]:
        """Add the time of what closes a step, once its operations are known."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def _counts(self) -> bool:
        least, most = self._flops_range
        return (
            self._steps < _FIRST_COUNTED
            or self._steps % _COUNTED_EVERY == 0
            or (self.exact_flops and least < most)
        )

    def synchronize(self) -> None:
        """Wait for the device and count the wait: steps are only queued on CUDA, never waited for singly."""
        if self.device.type == "cuda":
            start = time.perf_counter()
            torch.cuda.synchronize(self.device)
            self.seconds += time.perf_counter() - start

    def cost(self) -> Cost:
        """Return the cost of the steps so far."""
        return Cost(
            train_seconds=self.seconds,
            step_seconds=statistics.median(self._times)
            if self._times
            else self.seconds / max(self._steps, 1),
            peak_memory_mb=max(self._peak_before_resume, self._peak()),
            train_flops=self.flops,
            steps=self._steps,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {
            "seconds": self.seconds,
            "steps": self._steps,
            "times": self._times,
            "counted": self._counted,
            "counted_flops": self._counted_flops,
            "flops_range": self._flops_range,
            "peak": max(self._peak_before_resume, self._peak()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.seconds, self._steps = state["seconds"], state["steps"]
        self._times = list(state["times"])
        self._counted, self._counted_flops = state["counted"], state["counted_flops"]
        self._flops_range = tuple(state["flops_range"])
        self._peak_before_resume = state["peak"]

    def _peak(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return max(0.0, _resident_mb(peak=True) - self._memory_at_start)


def _resident_mb(*, peak: bool = False, reset_peak: bool = False) -> float:
    """Return the process's resident memory, or its peak, in MiB; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0.0
    if reset_peak:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) / 1024
    return 0.0
