"""Running passes: the table of passes, pipelines as text, and the one runner."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from graphmill.collector import no_collections
from graphmill.ir.graph import Function, Module
from graphmill.passes.statistics import Statistics, recording
from graphmill.records import record
from graphmill.tables import Table

Program = TypeVar("Program", Function, Module)
Observer = Callable[[str, Any, float, Statistics], None]

# The way of every function; the folder has one module per name.
DEFAULT_PIPELINE = (
    "inline,state,outline,roll,decompose,fold,simplify,layout,simplify,"
    "absorb,block,groups,cse,dce,attention,recompute,fuse,inline,memory"
)
MODULES = (
    "absorb", "attention", "block", "check", "cse", "dce", "decompose", "fold", "fuse", "groups",
    "inline", "layout", "memory", "outline", "recompute", "roll", "simplify", "specialise",
    "state", "winograd",
)  # fmt: skip

# passes that leave a function as it is when it has none of these ops: they are not even loaded then
NEEDS: Mapping[str, frozenset[str]] = {
    "inline": frozenset({"call"}),
    "state": frozenset({"variable.read", "variable.assign"}),
    "outline": frozenset({"dot_general"}),
    "decompose": frozenset({"conv", "dot_general"}),
    "layout": frozenset({"transpose", "dot_general"}),
    "absorb": frozenset({"conv"}),
    "block": frozenset({"conv"}),
    "groups": frozenset({"dot_general"}),
    "attention": frozenset({"dot_general"}),
    "recompute": frozenset({"slice"}),
}

# functions of fewer ops compile fast enough as they are, and unrolled code fuses better
LEAST_OPS: Mapping[str, int] = {"roll": 256, "outline": 256}


@record
class Pass:
    """A registered pass: a plain function from function to function, or module to module."""

    name: str
    run: Callable[..., Any]
    doc: str
    options: Mapping[str, Any]
    on_modules: bool


@record
class Stage:
    """A pass with its options, one step of a pipeline."""

    name: str
    options: Mapping[str, Any]

    @property
    def of(self) -> Pass:
        """The pass, which is loaded now."""
        return _load(self.name)

    def __str__(self) -> str:
        given = ", ".join(f"{k}={_text(v)}" for k, v in sorted(self.options.items()))
        return f"{self.name}{{{given}}}" if given else self.name


class PipelineError(ValueError):
    """Text that is no pipeline: an unknown pass or option, or a value of the wrong kind."""


_PASSES = Table[str, Pass]()
Registered = TypeVar("Registered", bound=Callable[..., Any])


def register_pass(name: str, on_modules: bool = False) -> Callable[[Registered], Registered]:
    """Enter a function into the table; its keyword-only parameters are the options."""

    def enter(run: Registered) -> Registered:
        options: Mapping[str, Any] = getattr(run, "__kwdefaults__", None) or {}
        doc = (run.__doc__ or "").strip().split("\n", 1)[0]
        _PASSES.enter(name, Pass(name, run, doc, options, on_modules), run.__module__)
        return run

    return enter


def all_passes() -> Mapping[str, Pass]:
    """Every pass by name."""
    for name in MODULES:
        _load(name)
    return dict(sorted(_PASSES.items()))


def _load(name: str) -> Pass:
    if name not in _PASSES and name in MODULES:
        import_module(f"graphmill.passes.{name}")
    found = _PASSES.find(name)
    if found is None:
        raise KeyError(name)
    return found


_STAGE = re.compile(r"\s*([\w-]+)\s*(?:\{([^}]*)\})?\s*(?:,|$)")


def parse_pipeline(text: str) -> tuple[Stage, ...]:
    """Parse `fold,simplify,fuse{max_ops=64}`; raises `PipelineError`."""
    stages, at = [], 0
    while at < len(text.rstrip(", ")):
        match = _STAGE.match(text, at)
        if match is None:
            raise PipelineError(f"{text[at:]!r} is no pipeline; write for example fold,fuse{{}}")
        stages.append(_stage(match[1], match[2] or ""))
        at = match.end()
    return tuple(stages)


def _stage(name: str, options: str) -> Stage:
    if name not in _PASSES and name not in MODULES:
        raise PipelineError(f"there is no pass {name!r}; there are {', '.join(all_passes())}")
    given = {}
    for part in filter(None, (part.strip() for part in options.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        accepted = _load(name).options
        if not equals or key not in accepted:
            known = ", ".join(accepted) or "none"
            raise PipelineError(f"{name} has no option {key!r}; it has {known}")
        given[key] = _value(f"{name}.{key}", accepted[key], value)
    return Stage(name, given)


def _value(option: str, default: object, text: str) -> object:
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise PipelineError(f"{option} is true or false, not {text!r}")
        return text == "true"
    try:
        return type(default)(text)  # type: ignore[call-arg]
    except ValueError:
        raise PipelineError(f"{option} is a {type(default).__name__}, not {text!r}") from None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@no_collections
def run_pipeline(
    program: Program,
    pipeline: str | Sequence[Stage] = DEFAULT_PIPELINE,
    observer: Observer | None = None,
    stop_after: str | None = None,
    *,
    each: bool = True,
) -> Program:
    """Run the stages in turn, each followed by the verifier; returns the new program.

    Unless `each`, the verifier runs once, at the end; when that fails, all is run again to see
    which stage is at fault. `observer(stage, program, seconds, statistics)` is called after each
    stage that changed the text. `stop_after` names the stage to end with (`PipelineError` if none
    is called so). An exception gets a note that says where.
    """
    stages = parse_pipeline(pipeline) if isinstance(pipeline, str) else tuple(pipeline)
    if stop_after is not None and not any(stop_after in _names(stage) for stage in stages):
        known = ", ".join(dict.fromkeys(stage.name for stage in stages))
        raise PipelineError(f"there is no stage {stop_after!r} to end with; there are {known}")
    if each:
        return _run(program, stages, observer, stop_after, _verify)
    planned = _run(program, stages, observer, stop_after, None)
    try:
        _verify(planned)
    except ValueError:
        _run(program, stages, None, stop_after, _verify)
        raise
    return planned


def _verify(program: Function | Module) -> None:
    from graphmill.ir.verifier import verify

    verify(program)


def _run(
    program: Program,
    stages: Sequence[Stage],
    observer: Observer | None,
    stop_after: str | None,
    check: Callable[[Function | Module], None] | None,
) -> Program:
    shown: Function | Module = program
    before = str(shown) if observer else ""
    whole = _whole if isinstance(program, Function) else _as_it_is
    now: Function | Module = program
    for number, stage in enumerate(stages):
        try:
            start = time.perf_counter()
            with recording() as statistics:
                changed = _apply(stage, now)
            seconds = time.perf_counter() - start
            if check is not None and changed is not now:
                check(changed)
        except Exception as error:
            error.add_note(f"in pass {stage}, stage {number} of {','.join(map(str, stages))}")
            raise
        if observer and changed is not now and (text := str(whole(changed))) != before:
            statistics |= {"ops_before": _count(shown), "ops_after": _count(whole(changed))}
            shown, before = whole(changed), text
            observer(str(stage), shown, seconds, statistics)
        now = changed
        if stop_after in _names(stage):
            break
    return whole(now)  # type: ignore[return-value]


def _whole(program: Function | Module) -> Function:
    """The function that was given, when stages have cut it into several."""
    if isinstance(program, Function):
        return program
    return _load("inline").run(program).entry  # type: ignore[no-any-return]


def _as_it_is(program: Function | Module) -> Function | Module:
    return program


def _names(stage: Stage) -> tuple[str, str]:
    return stage.name, str(stage)


def _apply(stage: Stage, program: Function | Module) -> Function | Module:
    """The program after a stage: a module when a function was cut into several."""
    if isinstance(program, Function):
        if not _is_for(stage, program):
            return program
        if not stage.of.on_modules:
            return stage.of.run(program, **stage.options)  # type: ignore[no-any-return]
        changed: Module = stage.of.run(Module({program.name: program}), **stage.options)
        return changed if len(changed.functions) > 1 else changed.entry
    if stage.of.on_modules:
        return stage.of.run(program, **stage.options)  # type: ignore[no-any-return]
    functions = {
        n: stage.of.run(f, **stage.options) if _is_for(stage, f) else f
        for n, f in program.functions.items()
    }
    return Module(functions, dict(program.variables))


def _is_for(stage: Stage, function: Function) -> bool:
    needed = NEEDS.get(stage.name)
    if needed is not None and not any(op.name in needed for op in function.walk()):
        return False
    return len(function.ops) >= LEAST_OPS.get(stage.name, 0)


def _count(program: Function | Module) -> int:
    functions = [program] if isinstance(program, Function) else program.functions.values()
    return sum(1 for function in functions for _ in function.walk())
