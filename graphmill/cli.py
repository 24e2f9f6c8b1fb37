"""The command line: `graphmill {trace,opt,compile,run,bench,tune,passes,ops,cache,doctor}`.

Every error is one paragraph on stderr and exit code 2; `GRAPHMILL_DEBUG=1` adds the traceback.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from graphmill.tuning import Step, Tuned

app = typer.Typer(
    help="Graphmill: a graph compiler for NumPy-style functions.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Target = Annotated[
    str, typer.Argument(help="module:function, path/file.py:function, or a .gir file")
]
Specs = Annotated[
    list[str] | None,
    typer.Option("--spec", help='one argument, such as "f32[8,64]" or x="f32[batch,784]"'),
]
Constants = Annotated[
    Path | None,
    typer.Option(help="arrays that .gir text leaves out (default: constants.npz beside the file)"),
]
Winograd = Annotated[
    int, typer.Option(help="tiles that 3 × 3 convolutions may use: 0 (none), 2 or 4")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="write here, not to stdout")]


@app.command()
def trace(
    target: Target, spec: Specs = None, output: Output = None, locations: bool = True
) -> None:
    """Print the IR that tracing a function gives."""
    from graphmill.commands import load_program
    from graphmill.ir.printer import print_module

    _write(print_module(load_program(target, spec or []), locations), output)


@app.command()
def opt(
    file: Annotated[Path, typer.Argument(help="IR text, - for stdin")],
    passes: Annotated[
        str | None, typer.Option(help='pipeline, such as "fold,cse,fuse{max_ops=64}"')
    ] = None,
    constants: Constants = None,
    output: Output = None,
    stop_after: Annotated[str | None, typer.Option(help="the stage to end with")] = None,
    each: Annotated[
        bool, typer.Option(help="print the IR after every pass that changed it")
    ] = False,
    diff: Annotated[bool, typer.Option(help="print what each pass changed instead of IR")] = False,
    stats: Annotated[bool, typer.Option(help="times and counts of the passes, on stderr")] = False,
    locations: bool = True,
) -> None:
    """Run passes on IR text and print the result."""
    from graphmill.commands import Stages, read_program
    from graphmill.ir.printer import print_module
    from graphmill.passes.manager import DEFAULT_PIPELINE, run_pipeline

    program = read_program(file, constants)
    stages = Stages(program, locations)
    pipeline = DEFAULT_PIPELINE if passes is None else passes
    done = run_pipeline(program, pipeline, stages.observe, stop_after)
    text = print_module(done, locations)
    if diff:
        text = stages.diffs()
    elif each:
        text = stages.texts()
    _write(text, output)
    if stats:
        table = _table("pass", "ms", "what it did")
        for name, seconds, counts in stages.counts:
            table.add_row(name, f"{seconds * 1e3:.2f}", counts)
        _print(table, stderr=True)


@app.command()
def compile(
    target: Target,
    spec: Specs = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="the library")] = Path("."),
    cpu: Annotated[str, typer.Option("--target", help="native, x86-64-v3, aarch64, …")] = "native",
    constants: Constants = None,
    dump: Annotated[Path | None, typer.Option(help="folder for every stage and a report")] = None,
    winograd: Winograd = 0,
    schedules: Annotated[
        Path | None, typer.Option(help="a file of `graphmill tune --export`")
    ] = None,
) -> None:
    """Build a shared library with a C header from a function."""
    from graphmill.commands import build_library

    built = build_library(target, spec or [], output, cpu, constants, dump, winograd, schedules)
    for path in (built.path, built.header, *built.companions):
        typer.echo(f"{path}  {path.stat().st_size} bytes")


@app.command()
def run(
    target: Target,
    inputs: Annotated[list[Path] | None, typer.Argument(help=".npy files")] = None,
    spec: Specs = None,
    size: Annotated[
        list[str] | None, typer.Option(help="a named dim for random inputs: batch=8")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of random inputs")] = 0,
    repeat: Annotated[int, typer.Option(min=0, help="timed runs after the first")] = 0,
    check: Annotated[bool, typer.Option(help="compare with the reference evaluator")] = False,
    interpret: Annotated[bool, typer.Option(help="run the reference evaluator only")] = False,
    save: Annotated[Path | None, typer.Option(help="folder for the results as .npy")] = None,
    constants: Constants = None,
    dump: Annotated[Path | None, typer.Option(help="folder for every stage and a report")] = None,
    winograd: Winograd = 0,
) -> None:
    """Run a function or a .gir file on .npy inputs, or on random ones."""
    from graphmill.commands import Run

    job = Run(target, inputs or [], spec or [], size or [], seed, constants)
    for line in job.execute(repeat, check, interpret, dump, winograd):
        typer.echo(line)
    if save is not None:
        for path in job.save(save):
            typer.echo(f"wrote {path}")


@app.command()
def bench(
    target: Annotated[str, typer.Argument(help="module:function or path/file.py:function")],
    spec: Specs = None,
    size: Annotated[
        list[str] | None, typer.Option(help="a named dim of the random inputs: batch=8")
    ] = None,
    against: Annotated[
        str, typer.Option(help="with commas: numpy, numba, jax, torch (torch.compile)")
    ] = "numpy",
    threads: Annotated[str, typer.Option(help="thread counts, with commas")] = "1",
    rounds: Annotated[int, typer.Option(min=1, help="turns of each contestant")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="length of a turn")] = 0.1,
    seed: int = 0,
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Time a function of yours, compiled, beside NumPy and other compilers of NumPy code."""
    import json as text

    from graphmill import bench as contest
    from graphmill.commands import counts_of, size_of

    sizes = dict(map(size_of, size or []))
    request = contest.Request(target, spec or [], sizes, against.split(","), seed, rounds, seconds)
    results = contest.compare(request, counts_of(threads))
    if json:
        typer.echo(text.dumps(results, indent=1))
        return
    table = _table("threads", "", "median", "best", "first call", "× Graphmill", "difference")
    problems = [
        line for count, rows in results.items() for line in contest.table(count, rows, table)
    ]
    _print(table)
    for line in problems:
        typer.echo(line)


@app.command()
def tune(
    target: Annotated[
        str | None, typer.Argument(help="module:function or path/file.py:function")
    ] = None,
    spec: Specs = None,
    size: Annotated[
        list[str] | None, typer.Option(help="what a named dim is when kernels are timed: batch=8")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="about how long to search")] = 30,
    show: Annotated[bool, typer.Option("--show", help="list what was found so far")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="forget what was found so far")] = False,
    export: Annotated[
        Path | None, typer.Option(help="write it to a file, for compile --schedules")
    ] = None,
) -> None:
    """Find better schedules for a function's kernels by measuring; the cache keeps them."""
    from graphmill.codegen.cpu.target import native
    from graphmill.commands import CommandError
    from graphmill.schedules import forget, known, write_file
    from graphmill.tuning.commands import rows

    if clear:
        typer.echo(f"kernels whose schedules are forgotten: {forget(native())}")
    elif target is None and not show and export is None:
        raise CommandError("tune needs a function: graphmill tune model.py:f --spec f32[8,512]")
    found, interrupted = dict(known(native())) if show else {}, False
    if target is not None:
        outcome = _tune(target, spec or [], size or [], seconds)
        found, interrupted = found | outcome.found, outcome.interrupted
    table = _table("line", "kernel", "default", "tuned", "gain", "schedule")
    for row in rows(found):
        table.add_row(*row)
    if found:
        _print(table)
    elif not clear and export is None:
        typer.echo("nothing to show: there is no kernel with choices, or all were tuned before")
    if export is not None:
        write_file(export, known(native()))
        typer.echo(f"wrote {export}")
    if interrupted:
        raise typer.Exit(130)


def _tune(target: str, specs: list[str], sizes: list[str], seconds: float) -> Tuned:
    """Search under a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from graphmill.tuning.commands import tuned

    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[gain]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("compiling", total=1.0, gain="")

        def show(step: Step) -> None:
            text = f"kernel {step.number + 1} of {step.kernels}, {step.place}: {step.tried}"
            bar.update(
                task, completed=step.done, description=text, gain=f"best {1 / step.best:.2f} ×"
            )

        return tuned(target, specs, sizes, seconds, show)


@app.command()
def passes() -> None:
    """List the passes, their options and the default pipeline."""
    from graphmill.passes.manager import DEFAULT_PIPELINE, all_passes

    table = _table("pass", "options", "what it does")
    for name, one in all_passes().items():
        options = ", ".join(f"{k}={v}" for k, v in one.options.items())
        table.add_row(name, options, one.doc)
    _print(table)
    typer.echo(f"default pipeline: {DEFAULT_PIPELINE}")


@app.command()
def ops(
    markdown: Annotated[bool, typer.Option(help="as a Markdown table, for the docs")] = False,
) -> None:
    """List the ops: operands, dtypes, how each is evaluated and compiled."""
    from graphmill.commands import op_rows

    head, rows = op_rows()
    if markdown:
        for row in (head, ["---"] * len(head), *rows):
            typer.echo(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
        return
    table = _table(*head)
    for row in rows:
        table.add_row(*row)
    _print(table)


class CacheAction(StrEnum):
    """What to do with the compile cache."""

    info = "info"
    clear = "clear"
    pack = "pack"
    unpack = "unpack"


@app.command()
def cache(
    action: Annotated[CacheAction, typer.Argument()],
    file: Annotated[Path | None, typer.Argument(help="the pack, for pack and unpack")] = None,
) -> None:
    """Look at the compile cache, empty it, pack it into one file, or import such a file.

    A pack is machine code: unpack only what you would run.
    """
    from graphmill.commands import cache_action

    for line in cache_action(action.value, file):
        typer.echo(line)


@app.command()
def doctor() -> None:
    """Say what this machine offers Graphmill, and what is missing."""
    from graphmill.doctor import examine

    table = _table("what", "", "found")
    findings = examine()
    for one in findings:
        mark = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "bad": "[red]bad[/]"}
        table.add_row(one.what, mark[one.state], one.found)
    _print(table)
    for one in findings:
        if one.advice:
            typer.echo(f"{one.what}: {one.advice}")
    if any(one.state == "bad" for one in findings):
        raise typer.Exit(1)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(*columns, box=SIMPLE_HEAD, pad_edge=False)


def _print(table: Table, stderr: bool = False) -> None:
    """Print a table; at full width where nobody looks at a terminal."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=400)
        table.box = None
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """The entry point: run a command; errors become a paragraph and exit code 2."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        app(arguments, standalone_mode=False)
    except typer.Exit as stop:
        raise SystemExit(stop.exit_code) from None
    except typer.Abort:
        raise SystemExit(130) from None
    except Exception as error:
        raise SystemExit(_explain(error)) from None


def _explain(error: Exception) -> int:
    """Print an error as one paragraph; returns the exit code."""
    from graphmill.commands import describe
    from graphmill.runtime import knobs

    if knobs.debug():
        import traceback

        traceback.print_exception(error)
    typer.echo(f"graphmill: {describe(error)}", err=True)
    return 2
