"""Compare the cost of several ways to do one thing, on a machine that others use too."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from regathlon.executors.memory import keep_freed_memory


@dataclass(frozen=True)
class Ratio:
    """Cost of a variant over that of the first, as medians over rounds.

    Attributes:
        wall: Of elapsed time.
        cpu: Of the process's CPU time, which waiting for other processes does not enter.
        milliseconds: CPU time of one call, for orientation.
    """

    wall: float
    cpu: float
    milliseconds: float


@dataclass(frozen=True)
class Times:
    """Seconds of every variant in every round.

    Attributes:
        wall: Elapsed, by name.
        cpu: Of the process.
        calls: Calls of each variant in a round.
    """

    wall: Mapping[str, list[float]]
    cpu: Mapping[str, list[float]]
    calls: int

    def ratio(self, name: str, beside: str) -> Ratio:
        """Return the cost of a variant over that of another; each ratio is taken within a round."""
        wall, cpu = (
            statistics.median(a / b for a, b in zip(times[name], times[beside], strict=True))
            for times in (self.wall, self.cpu)
        )
        return Ratio(wall, cpu, 1000 * statistics.median(self.cpu[name]) / self.calls)


def measure(
    variants: Mapping[str, Callable[[], object]], rounds: int, *, calls: int = 1, warm_up: int = 2
) -> Times:
    """Time variants side by side: every round runs each of them.

    A machine that is slow for a while is slow for all variants of a round, so it cancels out in ratios; the order turns
    from round to round, so that no variant is always the first. Memory is kept as trials keep it.

    Args:
        variants: What to run, by name.
        rounds: How many times each is measured.
        calls: Calls of each variant in a round.
        warm_up: Calls of each before the first round.
    """
    keep_freed_memory()
    names = list(variants)
    for name in names:
        for _ in range(warm_up):
            variants[name]()
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            _synchronize()
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            for _ in range(calls):
                variants[name]()
            _synchronize()
            cpu[name].append(time.process_time() - cpu_start)
            wall[name].append(time.perf_counter() - wall_start)
    return Times(wall, cpu, calls)


def compare(
    variants: Mapping[str, Callable[[], object]], rounds: int, *, calls: int = 1, warm_up: int = 2
) -> dict[str, Ratio]:
    """Return what variants cost over the first of them, timed side by side as ``measure`` does.

    Args:
        variants: What to run, by name; the first is what the others are compared with.
        rounds: How many ratios the medians are of.
        calls: Calls of each variant in a round.
        warm_up: Calls of each before the first round.

    Returns:
        The ratios by name, in the order given; those of the first are 1.
    """
    times = measure(variants, rounds, calls=calls, warm_up=warm_up)
    first = next(iter(variants))
    return {name: times.ratio(name, first) for name in variants}


def report(
    results: Mapping[str, Mapping[str, Ratio]],
    *,
    json_path: Path | None,
    subject: str,
    assert_ratio: float | None,
) -> int:
    """Print results, write them where asked, and judge one variant.

    Args:
        results: What ``compare`` returned, by setting.
        json_path: File to write, or None.
        subject: The variant that is judged.
        assert_ratio: Largest ratio of CPU time allowed, or None.

    Returns:
        Exit code: 1 where the subject is too slow.
    """
    width = max(len(name) for ratios in results.values() for name in ratios)
    failed = []
    for setting, ratios in results.items():
        print(setting)
        for name, ratio in ratios.items():
            costs = f"cpu {ratio.cpu:6.3f}  wall {ratio.wall:6.3f}  {ratio.milliseconds:9.2f} ms"
            print(f"  {name:{width}}  {costs}")
        if assert_ratio is not None and ratios[subject].cpu > assert_ratio:
            failed.append(setting)
    if json_path is not None:
        table = {
            setting: {name: asdict(ratio) for name, ratio in ratios.items()}
            for setting, ratios in results.items()
        }
        record = {"torch": torch.__version__, "threads": torch.get_num_threads(), "results": table}
        json_path.write_text(json.dumps(record, indent=2) + "\n")
    for setting in failed:
        print(f"{setting}: {subject} costs more than {assert_ratio:g} of the first", file=sys.stderr)
    return 1 if failed else 0


def _synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
