"""``regathlon plan``: what would run, what is skipped, what it will cost, and which part of it fits in a time."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regathlon import datasets, wording, yaml_text
from regathlon.commands.output import err, out, write_json, write_table
from regathlon.commands.running import load, skipped
from regathlon.estimate import duration
from regathlon.executors import Options
from regathlon.executors.local import visible_gpus
from regathlon.files import explained, write_text
from regathlon.plan import Cell, Plan, Trial, make_plan
from regathlon.pricing import Part, Price, PriceList, fit_within, part_of_suite, read_duration, total
from regathlon.run import cores, run_plan
from regathlon.store import RunFolder
from regathlon_core.errors import UserError
from regathlon_core.recipe import Budget

_PROBE_STEPS = 16


@dataclasses.dataclass(frozen=True)
class _Priced:
    """A trial of the plan with its record and price, which is nothing where it is done."""

    trial: Trial
    record: dict[str, Any]
    price: Price
    done: bool


def show_plan(
    source: str,
    *,
    folder: Path | None,
    overrides: Sequence[str],
    data: Path | None,
    jobs: int | None,
    probe: bool,
    within: str | None,
    write: Path | None,
    as_json: bool,
) -> None:
    """Print what a suite would run and cost; see ``regathlon plan --help``."""
    limit = None if within is None else read_duration(within)
    if write is not None and limit is None:
        raise UserError("--write writes the part of a suite that fits; give the time with --within.")
    suite, folder = load(source, folder, overrides)
    root = datasets.root(data)
    plan = make_plan(suite, root)
    run = RunFolder(folder or Path("runs") / suite.name)
    prices = PriceList()
    for other in _runs_beside(run.path):
        prices.learn_run(other)
    if probe:
        _probe(plan, prices, root)
    priced = [_priced(trial, run, prices) for trial in plan.trials]
    jobs = jobs or visible_gpus() or cores()
    whole = total([each.price for each in priced if not each.done], jobs)
    part = None if limit is None else _choose(priced, limit, jobs)
    if part is not None and write is not None:
        chosen = part_of_suite(suite.raw, part, [each.record for each in priced])
        with explained(write):
            write_text(write, yaml_text.write(chosen))
    if as_json:
        write_json(_as_json(plan, priced, whole, part))
        return
    _print_plan(plan, priced)
    _print_missing(plan)
    _print_total(plan, priced, whole, prices, jobs)
    if part is not None and limit is not None:
        _print_part(part, priced, limit, jobs, write)


def _runs_beside(folder: Path) -> list[Path]:
    """Return the run and its neighbours: earlier trials of the same kind may lie in either."""
    beside = (
        [path.parent for path in sorted(folder.parent.glob("*/plan.json"))] if folder.parent.is_dir() else []
    )
    return list(dict.fromkeys([*([folder] if folder.is_dir() else []), *beside]))


def _priced(trial: Trial, run: RunFolder, prices: PriceList) -> _Priced:
    record = trial.record()
    done = run.trial(record["folder"]).state().status == "done"
    return _Priced(trial, record, prices.price(record), done)


def _probe(plan: Plan, prices: PriceList, data: Path) -> None:
    """Train a few steps of every kind of trial whose price is not measured."""
    kinds: dict[tuple[str, str, str], Trial] = {}
    for trial in plan.trials:
        record = trial.record()
        if prices.price(record).source != "measured":
            kinds.setdefault((record["task"], record["model"], record["regularizer"]), trial)
    if not kinds:
        return
    short = [
        dataclasses.replace(
            trial,
            recipe=dataclasses.replace(trial.recipe, budget=Budget(steps=_PROBE_STEPS)),
            evaluations=(),
        )
        for trial in kinds.values()
    ]
    cells = tuple(Cell(trial.record(), trial) for trial in short)
    with tempfile.TemporaryDirectory(prefix="regathlon-probe-") as place:
        folder = Path(place) / "probe"
        options = Options(
            jobs=1, data=data, device="cuda" if visible_gpus() else "cpu", log=folder / "runner.log"
        )
        run_plan(Plan(plan.suite, cells), folder, options, "local", err())
        prices.learn_run(folder)


def _print_plan(plan: Plan, priced: Sequence[_Priced]) -> None:
    groups: dict[tuple[str, str, str], list[_Priced]] = {}
    for each in priced:
        key = (each.record["task"], each.record["model"], each.record["regularizer"])
        groups.setdefault(key, []).append(each)
    rows = []
    for (task, model, regularizer), found in groups.items():
        price, budget = found[0].price, found[0].trial.recipe.budget
        approximate = "≈ " if price.source == "alike" else ""
        rows.append(
            {
                "task": task,
                "model": model,
                "regularizer": regularizer,
                "seeds": [each.trial.seed for each in found],
                "budget": f"{budget.amount:g} {budget.kind}",
                "time each": None if price.seconds is None else f"{approximate}{duration(price.seconds)}",
                "FLOPs each": None if price.flops is None else f"{approximate}{wording.si(price.flops)}",
                "memory": None if price.memory_mb is None else f"{approximate}{price.memory_mb:.0f} MiB",
            }
        )
    if rows:
        write_table(rows, list(rows[0]))


def _print_missing(plan: Plan) -> None:
    console = out()
    if plan.skipped:
        console.print()
        console.print("Skipped:")
        for line in skipped(plan):
            console.print(f"  {line}", soft_wrap=True)
    if plan.refused_evaluations:
        console.print()
        console.print("Evaluations left out:")
        for task, reasons in plan.refused_evaluations.items():
            for reason in reasons.values():
                console.print(f"  {task}: {reason}", soft_wrap=True)


def _print_total(plan: Plan, priced: Sequence[_Priced], whole: Price, prices: PriceList, jobs: int) -> None:
    console = out()
    done = sum(each.done for each in priced)
    left = len(priced) - done
    console.print()
    console.print(
        f"{plan.suite.name}: {len(priced)} trials, {done} done, {left} to run; {len(plan.skipped)} cells skipped. "
        f"{_cost(whole, jobs) if left else 'Nothing to do.'}",
        soft_wrap=True,
    )
    unknown = _unknown(priced)
    if unknown:
        console.print(
            f"No trial of {', '.join(unknown)} was measured yet: --probe trains a few steps of each kind.",
            soft_wrap=True,
        )
    elif left:
        alike = any(each.price.source == "alike" for each in priced if not each.done)
        console.print(
            f"Prices are from {prices.trials} measured trial{'s' if prices.trials > 1 else ''}"
            + ("; ≈ means of the same task with other regularizers." if alike else "."),
            soft_wrap=True,
        )


def _cost(price: Price, jobs: int) -> str:
    if price.seconds is None:
        return f"Time, {jobs} at a time: not yet known."
    parts = [f"Time, {jobs} at a time: about {duration(price.seconds)}"]
    if price.flops is not None:
        parts.append(f"{wording.si(price.flops)}FLOPs")
    if price.memory_mb is not None:
        parts.append(f"{price.memory_mb:.0f} MiB of memory beside the libraries")
    if price.disk_mb is not None:
        parts.append(f"{price.disk_mb:.1f} MiB of disk")
    return f"{', '.join(parts)}."


def _unknown(priced: Sequence[_Priced]) -> list[str]:
    """Return the tasks whose trials have no price."""
    return list(dict.fromkeys(
        each.record["task"] for each in priced if not each.done and each.price.seconds is None
    ))  # fmt: skip


def _choose(priced: Sequence[_Priced], limit: float, jobs: int) -> Part:
    unknown = _unknown(priced)
    if unknown:
        raise UserError(
            f"What fits in a time needs prices, and no trial of {', '.join(unknown)} was measured yet. Give --probe, "
            "which trains a few steps of each kind, or run one seed first.",
            where="--within",
        )
    seconds = [0.0 if each.done else each.price.seconds or 0.0 for each in priced]
    return fit_within([each.record for each in priced], seconds, limit, jobs)


def _print_part(part: Part, priced: Sequence[_Priced], limit: float, jobs: int, write: Path | None) -> None:
    console = out()
    console.print()
    if not part.chosen:
        console.print(f"Not even one seed of the cheapest table fits in {duration(limit)}.")
        return
    seeds = f"seed{'s' if len(part.seeds) > 1 else ''} {', '.join(map(str, part.seeds))}"
    everywhere = f"{seeds} of everything" if part.seeds else ""
    tables = f"seed {part.extra} of {', '.join(f'{task} ({model})' for task, model in part.tables)}"
    said = " and ".join(filter(None, (everywhere, tables if part.tables else "")))
    console.print(
        f"Within {duration(limit)}: {len(part.chosen)} of {len(priced)} trials, {said}; about {duration(part.seconds)} "
        f"with {jobs} at a time.",
        soft_wrap=True,
    )
    if write is not None:
        console.print(f"Run it: regathlon run {write}", soft_wrap=True)
    else:
        console.print("--write FILE makes a suite of it.", soft_wrap=True)


def _as_json(plan: Plan, priced: Sequence[_Priced], whole: Price, part: Part | None) -> dict[str, Any]:
    done = sum(each.done for each in priced)
    found = {
        **plan.record(),
        "done": done,
        "to_run": len(priced) - done,
        "expected_seconds": whole.seconds,
        "expected": dataclasses.asdict(whole),
        "prices": {each.record["id"]: dataclasses.asdict(each.price) for each in priced},
    }
    if part is not None:
        found["within"] = {
            "seeds": part.seeds,
            "tables": part.tables,
            "extra": part.extra,
            "trials": [priced[position].record["id"] for position in sorted(part.chosen)],
            "seconds": part.seconds,
        }
    return found
