"""What a training costs: seconds, memory and floating-point operations."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_COUNTED_STEPS = 3
_KEPT_TIMES = 4096


@dataclass(frozen=True)
class Cost:
    """The cost of a training.

    Attributes:
        train_seconds: Wall time of all training steps, evaluation not counted.
        step_seconds: Wall time of a step: the median on the CPU, the mean on CUDA.
        peak_memory_mb: Peak memory in MiB: allocated on the device (CUDA), or what the process grew by since
            the training began (CPU).
        train_flops: Floating-point operations of all steps, counted by torch's FlopCounterMode on the first
            few.
        steps: Optimizer steps.
    """

    train_seconds: float
    step_seconds: float
    peak_memory_mb: float
    train_flops: float
    steps: int


class CostMeter:
    """Measures steps; its state survives a resume."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self._times: list[float] = []
        self._flops: list[float] = []
        self._peak_before_resume = 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._memory_at_start = _resident_mb(reset_peak=True)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Measure one step; the first few are also counted in operations, and left out of the median."""
        counting = len(self._flops) < _COUNTED_STEPS
        counter = FlopCounterMode(display=False) if counting else None
        start = time.perf_counter()
        with counter or contextlib.nullcontext():
            yield
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        if counter is not None:
            self._flops.append(float(counter.get_total_flops()))
        elif self.device.type == "cpu" and len(self._times) < _KEPT_TIMES:
            self._times.append(elapsed)

    def synchronize(self) -> None:
        """Wait for the device and count the wait: steps are only queued on CUDA, never waited for singly."""
        if self.device.type == "cuda":
            start = time.perf_counter()
            torch.cuda.synchronize(self.device)
            self.seconds += time.perf_counter() - start

    def cost(self, steps: int) -> Cost:
        """Return the cost of that many steps."""
        return Cost(
            train_seconds=self.seconds,
            step_seconds=statistics.median(self._times) if self._times else self.seconds / max(steps, 1),
            peak_memory_mb=max(self._peak_before_resume, self._peak()),
            train_flops=statistics.fmean(self._flops) * steps if self._flops else 0.0,
            steps=steps,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {
            "seconds": self.seconds,
            "times": self._times,
            "flops": self._flops,
            "peak": max(self._peak_before_resume, self._peak()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.seconds = state["seconds"]
        self._times, self._flops = list(state["times"]), list(state["flops"])
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
