"""The compiler on one page: a traced function goes through the passes and code generation.

trace ──▶ check? ──▶ PIPELINE ──▶ generate (MLIR ▶ LLVM ▶ object) ──▶ cache ──▶ load
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from graphmill.codegen.artifact import Artifact
from graphmill.codegen.constants import Array, sources
from graphmill.codegen.cpu.schedule import Notes, Schedule
from graphmill.codegen.workers import Workers
from graphmill.collector import no_collections
from graphmill.ir.dtypes import bf16
from graphmill.keys import Contents, cache_key, version
from graphmill.packed import at_once, completed
from graphmill.passes.manager import DEFAULT_PIPELINE, Stage, parse_pipeline, run_pipeline
from graphmill.recorders import Recorder, recorder
from graphmill.records import record
from graphmill.runtime import cache as disk
from graphmill.runtime import knobs, native, profiling, threads
from graphmill.schedules import noted
from graphmill.signals import behind

if TYPE_CHECKING:
    from graphmill.codegen.cpu.target import Target
    from graphmill.ir.graph import Function, Value

MANY = 2000  # ops, which take some seconds to compile
LARGE = 1 << 20  # bytes of an argument: work on it is worth all threads


@record
class Options:
    """What a compilation depends on besides the function and its specs."""

    pipeline: str = DEFAULT_PIPELINE
    check: tuple[str, ...] = ()
    target: str = "native"
    profiled: bool = False
    winograd: int = 0
    schedules: tuple[tuple[str, Schedule], ...] = ()  # the user's own, by kernel

    @property
    def passes(self) -> str:
        """The pipeline with the run-time checks in front, and what is allowed behind it."""
        before = f"check{{kinds={'+'.join(self.check)}}}," if self.check else ""
        after = f",winograd{{tile={self.winograd}}}" if self.winograd else ""
        return before + self.pipeline + after


def _provide_native() -> None:
    """Tell the runtime where its native code (worker pool, call path) comes from."""

    def pool() -> bytes:
        from graphmill.codegen.cpu.pool import object_code

        return object_code()

    def call(layout: Mapping[str, int]) -> bytes:
        from graphmill.codegen.cpu.callpath import object_code

        return object_code(layout)

    def digest() -> bytes:
        from graphmill.codegen.cpu.callpath import digest_object_code

        return digest_object_code()

    def poll(layout: Mapping[str, int]) -> bytes:
        from graphmill.codegen.cpu.callpath import poll_object_code

        return poll_object_code(layout)

    def fingerprint() -> str:
        from graphmill.codegen.cpu.words import fingerprint as of_sources

        return f"{of_sources()} {version('llvmlite')}"

    native.provide(pool=pool, call=call, digest=digest, poll=poll, fingerprint=fingerprint)


_provide_native()


@no_collections
def compile_function(function: Function, options: Options) -> Artifact:
    """The artifact of a traced function, from the disk cache when it is there."""
    return compiled(function, options, Contents())[0]


def compiled(function: Function, options: Options, of: Contents) -> tuple[Artifact, str | None]:
    """The same, with its key in the cache, if there is one; `of` tells contents."""
    store = disk.default() if knobs.dump() is None else None
    if store is None:
        return build(function, options), None
    arrays = sources(function)
    of.read(arrays, at_once)
    key = cache_key(function, options, target(options, function), of)
    contents = [of(array) for array in arrays]
    found = store.artifact(key)
    if found is not None:
        return completed(found, lambda: arrays, contents), key
    artifact = build(function, options, contents)
    store.put(key, artifact.to_bytes())
    return artifact, key


def build(function: Function, options: Options, contents: Sequence[str] = ()) -> Artifact:
    """Run the passes and generate code, telling the recorder and the profiler each stage.

    `contents` say what the function's large constants hold (`keys.content`).
    """
    before = sys.exc_info()[1]
    try:
        return _built(function, options, contents)
    except Exception as error:
        from graphmill.failure import internal_error

        raised = behind(error, before)
        if raised is not None:
            raise raised from raised.__cause__
        raise internal_error(function, options, error) from error


def _built(function: Function, options: Options, contents: Sequence[str]) -> Artifact:
    with (
        closing(recorder(function.name)) as record,
        Workers(threads.num_threads()) as workers,
    ):
        if (pool := _pool(options)) is not None and any(map(_is_large, function.params)):
            workers.start(pool)
        record.stage("trace", "ir", lambda: _text(function), 0.0, function=function)
        with profiling.stage(f"passes {function.name}", str(function.loc or "")):
            if len(function.ops) >= MANY and "roll" in options.passes:
                from graphmill.unrolled import warn_of_unrolled

                warn_of_unrolled(optimise(function, options, stop="roll"))
            planned = optimise(function, options, record)
        with profiling.stage(f"codegen {function.name}", str(function.loc or "")):
            artifact = emit(planned, options, record, sources(function), contents, workers)
        record.stage("memory", "text", lambda: _memory_text(planned), 0.0)
        kernels = [asdict(kernel) for kernel in artifact.kernels]
        record.stage("kernels", "text", lambda: _kernel_text(artifact), 0.0, kernels=kernels)
    return artifact


def _pool(options: Options) -> Callable[[], object] | None:
    """What gets ready the pool that code for `options` runs its loops on, if there is any."""
    return native.pool if options.target == "native" and threads.num_threads() > 1 else None


def _is_large(value: Value) -> bool:
    size = value.tensor.nbytes
    return isinstance(size, int) and size >= LARGE


def optimise(
    function: Function, options: Options, record: Recorder | None = None, stop: str | None = None
) -> Function:
    """The function after the pipeline (or after the stage `stop`)."""
    observer = None
    if record is not None and record.active:
        told = record

        def observer(stage: str, program: Any, seconds: float, stats: Any) -> None:
            told.stage(
                stage, "ir", lambda: _text(program), seconds, function=program, stats=dict(stats)
            )

    stages = _stages(function, options)
    return run_pipeline(function, stages, observer, stop, each=observer is not None)


def _stages(function: Function, options: Options) -> tuple[Stage, ...]:
    """The pipeline; convolutions of bf16 are laid out for the target's tiles where it has them."""
    stages = parse_pipeline(options.passes)
    if not any(op.name == "conv" and op.result.tensor.dtype is bf16 for op in function.walk()):
        return stages
    if not target(options).has("amx-bf16"):
        return stages
    return tuple(
        replace(stage, options={"tiles": True, **stage.options}) if stage.name == "block" else stage
        for stage in stages
    )


def emit(
    planned: Function,
    options: Options,
    record: Recorder | None = None,
    sources: Sequence[Array] = (),
    contents: Sequence[str] = (),
    workers: Workers | None = None,
) -> Artifact:
    """Generate CPU code for a planned function; `sources` are the traced one's large constants."""
    from graphmill.codegen.cpu.generate import generate

    observer, machine = None, target(options, planned)
    if record is not None and record.active:
        told, machine = record, replace(machine, notes=Notes())

        def observer(stage: str, kind: str, text: str, seconds: float) -> None:
            told.stage(stage, kind, text, seconds)

    artifact = generate(
        planned, machine, profiled=options.profiled, observer=observer, sources=sources,
        contents=contents, workers=workers or Workers(threads.num_threads()), pool=_pool(options),
    )  # fmt: skip
    if record is not None and machine.notes is not None:
        text = noted(machine.notes, dict(options.schedules))
        record.stage("schedules", "text", text or "no kernel has choices", 0.0)
    return artifact


def texts(planned: Function, options: Options) -> dict[str, str]:
    """The texts code generation goes through, by kind: `mlir`, `llvm`, `asm`."""
    from graphmill.codegen.cpu.generate import generate

    found: dict[str, str] = {}

    def keep(stage: str, kind: str, text: str, seconds: float) -> None:
        found[kind] = text

    generate(planned, target(options, planned), profiled=options.profiled, observer=keep)
    return found


def target(options: Options, function: Function | None = None) -> Target:
    """The CPU that the options name, with what was measured on it, or what the user says.

    The `function` it is for may want to know more than others.
    """
    from graphmill.schedules import with_own
    from graphmill.targets import target as named
    from graphmill.targets import with_bypass

    machine = with_own(named(options.target), options.schedules)
    return machine if function is None else with_bypass(machine, function)


def _memory_text(planned: Function) -> str:
    from graphmill.report.memory import memory_report

    return memory_report(planned)


def _kernel_text(artifact: Artifact) -> str:
    """A line per kernel: its name, the user's line, operations, bytes, how it works."""
    lines = [
        f"{k.name}  {k.location or '?'}  {k.flops} operations  {k.bytes} bytes"
        + (f"\n    {k.schedule}" if k.schedule else "")
        for k in artifact.kernels
    ]
    return "\n".join(lines)


def _text(function: Function) -> str:
    from graphmill.ir.printer import print_function

    return print_function(function, locations=True)
