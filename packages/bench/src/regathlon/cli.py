"""The command line. Only typer is imported here; commands import what they need when they are called."""

from __future__ import annotations

import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

DONE, SOME_FAILED, INVALID, INTERRUPTED = 0, 2, 3, 130
"""Exit codes."""

app = typer.Typer(
    name="regathlon",
    help="Compare regularizers of neural networks across modalities under one protocol.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="List, fetch, verify and find data sets.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Folder of data sets [default: REGATHLON_DATA, else the user's cache]."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the suite: seeds=5, budget.epochs=3, regularizers=[none]."
    ),
]
SelectionOption = Annotated[
    str | None,
    typer.Option("--selection", metavar="NAME", help="last, best_val or oracle [default: the suite's]."),
]


class Test(StrEnum):
    """How two methods of a table are compared, seed by seed."""

    permutation = "permutation"
    wilcoxon = "wilcoxon"
    t = "t"


TestOption = Annotated[Test, typer.Option("--test", help="The test paired by seed; permutation is exact.")]
AlphaOption = Annotated[
    float, typer.Option("--alpha", metavar="P", help="Probability of any false claim in a table.")
]
DifferenceOption = Annotated[
    float | None,
    typer.Option(
        "--difference",
        metavar="D",
        help="Say how many more seeds would show a gain of D [default: the measured gain].",
    ),
]


class Device(StrEnum):
    """Where trials train."""

    cpu = "cpu"
    cuda = "cuda"
    auto = "auto"


@app.command()
def run(
    suite: Annotated[
        str, typer.Argument(metavar="[SUITE]", help="A suite's name, file, or run directory.")
    ] = "quick",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run directory [default: runs/SUITE].")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", metavar="N", help="Trials at a time [default: one per core or GPU]."),
    ] = None,
    executor: Annotated[str, typer.Option("--executor", metavar="NAME", help="Where trials run.")] = "local",
    set_: SetOption = None,
    data: DataOption = None,
    device: Annotated[
        Device, typer.Option("--device", help="auto is CUDA where there is one.")
    ] = Device.auto,
    checkpoint_seconds: Annotated[
        float,
        typer.Option("--checkpoint-every", metavar="SECONDS", help="Time between a trial's checkpoints."),
    ] = 30.0,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker", metavar="NAME[=TARGET]", help="Show the run in tensorboard or mlflow as well."
        ),
    ] = None,
) -> None:
    """Run a suite; run again to go on where it stopped.

    Ctrl-C once saves checkpoints and stops, twice stops now. Exit codes: 0 all done, 2 some trials failed,
    3 the plan is invalid, 130 interrupted.
    """
    from regathlon.commands.running import run_suite

    code = run_suite(
        suite,
        folder=out,
        jobs=jobs,
        executor=executor,
        overrides=set_ or [],
        data=data,
        device=device.value,
        checkpoint_seconds=checkpoint_seconds,
        trackers=tracker or [],
    )
    raise typer.Exit(code)


@app.command()
def plan(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name or file.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run directory, for what is done already.")
    ] = None,
    set_: SetOption = None,
    data: DataOption = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", metavar="N", help="Trials at a time [default: one per core or GPU]."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train a few steps of what has no price yet.")
    ] = False,
    within: Annotated[
        str | None, typer.Option("--within", metavar="TIME", help="Pick a balanced part that fits: 8h, 90m.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write that part as a suite.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what would run, what is skipped and why, what data is missing and what it will cost.

    Prices are measured on earlier trials, of this run and of those beside it.
    """
    from regathlon.commands.planning import show_plan

    show_plan(
        suite,
        folder=out,
        overrides=set_ or [],
        data=data,
        jobs=jobs,
        probe=probe,
        within=within,
        write=write,
        as_json=json,
    )


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")], json: JsonOption = False
) -> None:
    """Show where a run stands."""
    from regathlon.commands.reading import show_status

    show_status(folder, as_json=json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    html: Annotated[bool, typer.Option("--html", help="Write one self-contained page.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page [default: DIR/report.html].")
    ] = None,
    selection: SelectionOption = None,
    test: TestOption = Test.permutation,
    alpha: AlphaOption = 0.05,
    difference: DifferenceOption = None,
) -> None:
    """Show a run's leaderboard, or write it as a page that needs no network."""
    from regathlon.commands.reading import read, show_report, write_report

    found = read(folder, selection, test=test.value, alpha=alpha, difference=difference)
    if html or out is not None:
        write_report(*found, out)
    else:
        show_report(*found)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMAT", help="csv, json, markdown, latex; or bibtex: whom to cite."
        ),
    ] = "csv",
    selection: SelectionOption = None,
    test: TestOption = Test.permutation,
    alpha: AlphaOption = 0.05,
    difference: DifferenceOption = None,
) -> None:
    """Write a run's results to standard output."""
    from regathlon.commands.reading import check_format, export_results, read

    check_format(format_)
    export_results(*read(folder, selection, test=test.value, alpha=alpha, difference=difference), format_)


@app.command()
def compare(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Another one [default: the papers].")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Against what the papers printed.")] = False,
    selection: SelectionOption = None,
    json: JsonOption = False,
) -> None:
    """Hold a run against the papers' numbers, or against another run."""
    from regathlon.commands.comparing import show_comparison

    show_comparison(folder, other, paper=paper, selection=selection, as_json=json)


@app.command()
def merge(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="The new run directory.")],
    sources: Annotated[list[Path], typer.Argument(metavar="DIR...", help="The runs to merge.")],
) -> None:
    """Make one run of several, from several machines; 2 is the exit code where they contradict each other."""
    from regathlon.commands.comparing import merge as merge_

    raise typer.Exit(merge_(target, sources))


@app.command()
def track(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="tensorboard or mlflow.")],
    target: Annotated[
        str | None, typer.Option("--target", metavar="PLACE", help="A folder or address [default: in DIR].")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until standard input ends, for a run at work.")
    ] = False,
) -> None:
    """Show a run in TensorBoard or MLflow: all that was not shown yet."""
    from regathlon.commands.tracking import track as track_

    track_(folder, to, target, follow=follow)


@app.command("list")
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="tasks, models, regularizers, datasets, suites, executors or trackers."
        ),
    ],
    json: JsonOption = False,
) -> None:
    """List what is installed."""
    from regathlon.commands.listing import show_list

    show_list(kind, as_json=json)


@app.command()
def describe(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A regularizer, task, model, data set or suite.")
    ],
) -> None:
    """Show the card of a regularizer, or what there is to know of a task, model, data set or suite."""
    from regathlon.commands.describing import show_description

    show_description(name)


@app.command()
def doctor(json: JsonOption = False, data: DataOption = None) -> None:
    """Check versions, devices, data and plugins."""
    from regathlon.commands.doctor import show_doctor

    raise typer.Exit(show_doctor(as_json=json, data=data))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: Without the program's name; None for those of the process.
    """
    from regathlon_core.errors import UserError
    from regathlon_data import DataError

    try:
        code = typer.main.get_command(app)(args=arguments, prog_name="regathlon", standalone_mode=False)
    except (UserError, DataError) as error:
        print(f"regathlon: {error}", file=sys.stderr)  # noqa: T201
        return INVALID
    except KeyboardInterrupt:
        print("regathlon: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except Exception as error:
        return _usage(error) if hasattr(error, "format_message") else _unexpected(error)
    return code if isinstance(code, int) else DONE


def _usage(error: Any) -> int:
    """Say what is wrong with the command line, and the nearest command or option."""
    from regathlon_core.errors import nearest

    message = error.format_message()
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None)
    names: list[str] = []
    if context is not None:
        if wrong is not None:
            names = [name for parameter in context.command.params for name in parameter.opts]
        elif message.startswith("No such command"):
            wrong, names = message.split("'")[1], list(context.command.commands)
    near = nearest(wrong, names) if wrong else []
    hint = f" Did you mean {near[0]!r}?" if near and "Did you mean" not in message else ""
    help_ = f" (Help: {context.command_path} --help)" if context is not None else ""
    print(f"regathlon: {message}{hint}{help_}", file=sys.stderr)  # noqa: T201
    return INVALID


def _unexpected(error: Exception) -> int:
    """Say in one line that something of ours is broken, and where the details are."""
    import tempfile

    with tempfile.NamedTemporaryFile(
        "w", prefix="regathlon-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(f"{sys.argv}\n")
        traceback.print_exception(error, file=log)
    print(  # noqa: T201
        f"regathlon: an unexpected error, which is a fault of the program: {type(error).__name__}: {error}. "
        f"Details: {log.name}",
        file=sys.stderr,
    )
    return 1


# ---- data ----


@data_app.command("list")
def data_list(data: DataOption = None, json: JsonOption = False) -> None:
    """List the data sets and which of them are here."""
    from regathlon.commands.data import list_data

    list_data(data, as_json=json)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set.")], data: DataOption = None
) -> None:
    """Download a data set, check it and unpack it."""
    from regathlon.commands.data import fetch_data

    fetch_data(name, data)


@data_app.command("verify")
def data_verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A data set [default: all that are here].")
    ] = None,
    data: DataOption = None,
) -> None:
    """Check the files of data sets against their manifests."""
    from regathlon.commands.data import verify_data

    raise typer.Exit(verify_data(name, data))


@data_app.command("path")
def data_path(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A data set [default: the folder of all].")
    ] = None,
    data: DataOption = None,
) -> None:
    """Write the folder where a data set is looked for."""
    from regathlon.commands.data import show_path

    show_path(name, data)
