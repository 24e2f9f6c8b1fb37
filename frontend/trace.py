"""Tracing: a Python function and the specs of its arguments become an IR function."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.frontend import locations
from graphmill.frontend.core import Tracer, as_tracer
from graphmill.frontend.errors import GraphmillError, error
from graphmill.frontend.sizes import Size
from graphmill.frontend.spec import Spec, merge_bounds, spec
from graphmill.frontend.state import FRAME, Frame, Trace, entered, tracing
from graphmill.frontend.trees import Tree, argument_paths, flatten
from graphmill.ir.graph import Function, Location, Value
from graphmill.records import record
from graphmill.signals import is_of_a_handler

if TYPE_CHECKING:
    from graphmill.frontend.multiples import Multiple
    from graphmill.frontend.variable import Variable

MAX_ROUNDS = 8  # runs that find one more size that must divide

__all__ = ["Traced", "trace", "tracing"]


@record
class Traced:
    """A traced function.

    `in_tree` is the structure of `(args, kwargs)` and `out_tree` of the result; `paths` and
    `out_paths` name each parameter and result (`params['w']`); `specs` are the parameters';
    `captured` holds the arrays that became constants: a write to one of them makes this stale.
    `variables` are those that it reads and assigns, by their names in the IR.
    `multiples` tells which dims must be multiples of a number: `n` is `4*n_div4` in `specs`.
    """

    function: Function
    in_tree: Tree
    out_tree: Tree
    specs: tuple[Spec, ...]
    paths: tuple[str, ...]
    out_paths: tuple[str, ...]
    captured: tuple[np.ndarray[Any, Any], ...]
    multiples: Mapping[str, Multiple]
    variables: Mapping[str, Variable]


def trace(
    function: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    static: Mapping[str, Any] | None = None,
    paths: Sequence[str] | None = None,
    stays: Callable[[np.ndarray[Any, Any]], bool] | None = None,
) -> Traced:
    """Run `function` on traced arguments and return what it computed as IR.

    `args` and `kwargs` are nested structures whose leaves are specs, spec text, arrays or Python
    scalars; `static` holds keyword arguments that are passed as they are. `name` is the IR
    function's name. `paths` names the leaves where the parameters' own names do not. Large arrays
    of which `stays` is true are read in place, not copied: the caller drops the result should
    somebody write to them.

    Raises `GraphmillError` for what cannot be traced; exceptions of the user's own pass through.
    """
    leaves, in_tree = flatten((tuple(args), dict(kwargs or {})))
    specs = tuple(spec(leaf) for leaf in leaves)
    if paths is None:
        paths = argument_paths(function, in_tree)
    name = _identifier(name or _name_of(function))
    static, paths, adopts = dict(static or {}), tuple(paths), False
    needed: dict[str, Multiple] = {}
    rounds = 0
    while True:
        fitted = _fitted(specs, needed)
        entry = Trace(name, merge_bounds(fitted), stays, adopts)
        around = FRAME.get()
        try:
            with _adopted() if adopts else nullcontext():
                return _traced(function, fitted, in_tree, static, paths, entry, needed)
        except Exception as problem:
            # once more if the function can be traced in another way
            if (entry.multiples or entry.refused is not None) and is_of_a_handler(problem):
                raise
            if entry.multiples and rounds < MAX_ROUNDS:
                rounds += 1
                from graphmill.frontend.multiples import merged

                needed = merged(needed, entry.multiples)
            elif entry.refused is not None and not adopts:
                adopts = True
            elif entry.refused is not None and _raised_by(problem, entry.refused):
                raise entry.refused from None
            else:
                raise
        finally:
            # in one step: a signal's handler may raise as the frame's own block begins or ends
            FRAME.set(around)


def _fitted(specs: tuple[Spec, ...], needed: Mapping[str, Multiple]) -> tuple[Spec, ...]:
    """The specs with the sizes that must divide."""
    if not needed:
        return specs
    from graphmill.frontend.multiples import applied

    return applied(specs, needed)


def _adopted() -> AbstractContextManager[None]:
    from graphmill.frontend.adoption import adopted

    return adopted()


def _raised_by(problem: Exception, refused: GraphmillError) -> bool:
    """Whether NumPy raised the exception where it was refused a traced value's elements."""
    place, frame = refused.location, problem.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if place is None or frame is None:
        return False
    return (frame.tb_frame.f_code.co_filename, frame.tb_lineno) == (place.file, place.line)


def _traced(
    function: Callable[..., Any],
    specs: tuple[Spec, ...],
    in_tree: Tree,
    static: dict[str, Any],
    paths: tuple[str, ...],
    entry: Trace,
    needed: Mapping[str, Multiple],
) -> Traced:
    """One run of the function."""
    names = [_identifier(path) for path in paths]
    made = Function(entry.name, [s.type for s in specs], names, entry.dims)
    made.loc = locations.definition(function)
    frame = Frame(entry, made.block)
    for param, path in zip(made.params, paths, strict=True):
        frame.trace.params[param] = _param_origin(path, entry.name, made.loc)
    with entered(frame):
        tracers = [
            Tracer(param, frame, one.weak) for param, one in zip(made.params, specs, strict=True)
        ]
        given, keywords = in_tree.unflatten(tracers)
        result = _run(function, given, keywords | static)
        results, out_tree = flatten(result)
        out_paths = out_tree.paths("result")
        values = _values(results, out_paths, made.loc)
        frame.builder.loc = None
        frame.builder.end(*values)
    captured = tuple(frame.trace.captured)
    return Traced(
        made, in_tree, out_tree, specs, paths, out_paths, captured, dict(needed), entry.variables
    )


def _name_of(function: Any) -> str:
    """The function's name; that of the inner one for `functools.partial`, else its class'."""
    while hasattr(function, "func"):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _run(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call the user's function; locations do not look past this frame."""
    return function(*args, **kwargs)


locations.boundary(_run.__code__)


def _values(results: Sequence[Any], paths: Sequence[str], loc: Location | None) -> list[Value]:
    """The results as values; an error about one points at the function."""
    try:
        return [_result(r, path).value() for r, path in zip(results, paths, strict=True)]
    except GraphmillError as problem:
        problem.location = loc
        raise


def _result(leaf: Any, path: str) -> Tracer:
    ok = isinstance(leaf, Tracer | Size | np.ndarray | bool | int | float | complex | np.generic)
    if ok or hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__") or hasattr(leaf, "refused"):
        return as_tracer(leaf)
    raise error(
        "GM041",
        f"{path} is a {type(leaf).__name__}",
        why="a compiled function returns arrays (and nested tuples, lists, dicts, named tuples, "
        "dataclasses of them, and None).",
        hint="return only arrays; compute the rest outside of the function.",
    )


def _identifier(path: str) -> str:
    """A path as a name in the IR: `params['w'][0]` becomes `params_w_0`."""
    text = re.sub(r"\W+", "_", path).strip("_")
    return text if text and not text[0].isdigit() else f"_{text}"


def _param_origin(path: str, name: str, loc: Location | None) -> str:
    return f"argument {path} of {name}" + (f", {loc}" if loc else "")
