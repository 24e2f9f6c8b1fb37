"""Control flow on traced values: `cond`, `switch`, `while_loop`, `fori_loop`, `scan`.

Bodies are functions of nested structures; traced values they close over are captured. Outside of
a traced function the same calls run in Python, so that code can be tried without compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend.core import Tracer, as_tracer, astype, emit, emit_op, tracing
from graphmill.frontend.describe import describe, failure, name_of
from graphmill.frontend.errors import Operand
from graphmill.frontend.regions import Body, region_of, share_captures, trace_body
from graphmill.frontend.sizes import Size, interval
from graphmill.frontend.sizes import maximum as dim_maximum
from graphmill.frontend.state import current
from graphmill.frontend.trees import Tree, flatten, same_structure
from graphmill.frontend.turns import dim_of
from graphmill.frontend.ufuncs import truth
from graphmill.ir.dims import Dim, DimLike
from graphmill.ir.dtypes import i32, i64
from graphmill.ir.graph import Bounds
from graphmill.ir.types import TensorType

MAX_RETRACES = 4

Types = list[tuple[TensorType, bool]]


def cond(
    predicate: Any, when_true: Callable[..., Any], when_false: Callable[..., Any], *operands: Any
) -> Any:
    """`when_true(*operands)` if the predicate (one bool) holds, else `when_false(*operands)`.

    Only the chosen branch runs. Both return the same structure of the same shapes; dtypes are
    promoted. Raises GM050 where they differ, GM052 for a predicate that is no single bool.
    """
    if not tracing() or not isinstance(predicate, Tracer):
        return when_true(*operands) if predicate else when_false(*operands)
    return _branches(_predicate(predicate), [when_true, when_false], operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`, the index clamped to the range of branches."""
    if not branches:
        raise failure("GM025", "switch without branches", [index])
    if not tracing() or not isinstance(index, Tracer):
        return branches[min(max(ax.number(index, "index"), 0), len(branches) - 1)](*operands)
    if index.dims or not index.element.is_integer:
        raise failure(
            "GM052",
            f"{name_of(index)} is {index.type}",
            [index],
            why="the index is one integer.",
            hint="reduce it, or cast it.",
        )
    last = as_tracer(len(branches) - 1, i64)
    wide = emit("min", emit("max", astype(index, i64), as_tracer(0, i64)), last)
    return _branches(astype(wide, i32), list(branches), operands)


def _predicate(value: Any) -> Tracer:
    test = as_tracer(value)
    if test.dims:
        raise failure(
            "GM052",
            f"{name_of(value)} is {test.type}",
            [value],
            why="one bool decides for the whole array.",
            hint="np.any(x) or np.all(x) makes one bool; np.where chooses elementwise.",
        )
    return truth(test)


def _branches(index: Tracer, functions: Sequence[Callable[..., Any]], operands: Any) -> Any:
    bodies = [trace_body(function, [], lambda _: operands) for function in functions]
    first = bodies[0]
    for body in bodies[1:]:
        same_structure(first.tree, body.tree, "the branches return")
    types: Types = []
    for results in zip(*(body.results for body in bodies), strict=True):
        types.append(_joined(results))
    for body in bodies:
        body.finish([type for type, _ in types])
    captured = share_captures(bodies, 0)
    op = emit_op(
        "cond", [index], {}, [region_of(body) for body in bodies], [index.value(), *captured]
    )
    return _outputs(op.results, types, first.tree)


def _joined(results: Sequence[Tracer]) -> tuple[TensorType, bool]:
    """The common type of what branches return in one place."""
    from graphmill.frontend.core import result_type

    if len({r.dims for r in results}) > 1:
        raise failure(
            "GM050", " and ".join(str(r.type) for r in results), results,
            why="one array holds the result of whichever branch runs, so all have one shape.",
            hint="broadcast or pad the smaller one.",
        )  # fmt: skip
    weak = all(r.weak for r in results)
    return TensorType(result_type(*results), results[0].dims), weak


def _outputs(values: Sequence[Any], types: Types, tree: Tree) -> Any:
    frame = current()
    made = [Tracer(v, frame, weak) for v, (_, weak) in zip(values, types, strict=True)]
    return tree.unflatten(made)


# ---- loops


def while_loop(test: Callable[[Any], Any], body: Callable[[Any], Any], initial: Any) -> Any:
    """Repeat `state = body(state)` while `test(state)` holds, from `initial`.

    The state is one structure whose shapes and dtypes stay; a Python scalar in `initial` takes
    the dtype that the body gives it. Raises GM051 where the state changes its type, GM052 where
    the test is no single bool.
    """
    if not tracing():
        state = initial
        while test(state):
            state = body(state)
        return state
    leaves, tree = _state(initial)

    def run(start: list[Tracer]) -> Body:
        return trace_body(body, _types(start), lambda args: (tree.unflatten(args),), _names(start))

    start, step = _stable(leaves, tree, run, lambda made: made.results)
    types = _types(start)
    check = trace_body(test, types, lambda args: (tree.unflatten(args),), _names(start))
    with_test = _test_result(check)
    step.finish([type for type, _ in types])
    with_test.finish([TensorType(truth_dtype())])
    captured = share_captures([with_test, step], len(start))
    op = emit_op(
        "while", start, {"carry": len(start)}, [region_of(with_test), region_of(step)],
        [*(s.value() for s in start), *captured],
    )  # fmt: skip
    return _outputs(op.results, types, tree)


def truth_dtype() -> Any:
    from graphmill.ir.dtypes import bool_

    return bool_


def _test_result(check: Body) -> Body:
    result = check.results[0] if len(check.results) == 1 else None
    if result is None or result.dims:
        raise failure(
            "GM052",
            f"the test returns {check.tree}"
            if result is None
            else f"the test returns {result.type}",
            check.results,
            why="a loop goes on while one bool holds.",
            hint="return one bool, for example np.any(mask).",
        )
    return check


def _state(initial: Any) -> tuple[list[Tracer], Tree]:
    leaves, tree = flatten(initial)
    return [_plain(as_tracer(leaf)) for leaf in leaves], tree


def _plain(x: Tracer) -> Tracer:
    """x, or a copy of a strided argument: loops keep their state contiguous."""
    frame = current()
    made = Tracer(frame.contiguous(x.value()), frame, x.weak)
    return x if made._value is x._value else made


def _types(values: Sequence[Tracer]) -> Types:
    return [(TensorType(v.element, v.dims), v.weak) for v in values]


def _names(values: Sequence[Tracer]) -> list[str]:
    return [v._value.name for v in values]


def _stable(
    leaves: list[Tracer], tree: Tree, run: Callable[[list[Tracer]], Body],
    carried: Callable[[Body], Sequence[Tracer]], what: str = "the loop body",
) -> tuple[list[Tracer], Body]:  # fmt: skip
    """Trace a body until the dtypes of weak leaves settle; returns the leaves and the body."""
    for _ in range(MAX_RETRACES):
        made = run(leaves)
        results = list(carried(made))
        settled = True
        for i, (before, after) in enumerate(zip(leaves, results, strict=True)):
            if before.weak and after.dims == before.dims and (
                after.element is not before.element or not after.weak
            ):  # fmt: skip
                leaves = [*leaves]
                leaves[i] = astype(before, _settled(before, after))
                settled = False
        if settled:
            _check_stable(leaves, results, tree, what)
            return leaves, made
    raise failure(
        "GM051",
        "the dtypes do not settle",
        leaves,
        hint="give the initial state the dtype it should keep.",
    )


def _settled(before: Tracer, after: Tracer) -> Any:
    from graphmill.frontend.core import result_type

    return result_type(before, after)


def _check_stable(before: Sequence[Tracer], after: Sequence[Tracer], tree: Tree, what: str) -> None:
    for old, new, path in zip(before, after, tree.paths("state"), strict=True):
        if old.dims == new.dims and old.element is new.element:
            continue
        kind = "shape" if old.dims != new.dims else "dtype"
        hint = (
            f"start with {old.type.with_dtype(new.element)}: .astype(np.{new.dtype.name}) on the "
            f"initial value, or cast what the body returns to np.{old.dtype.name}."
            if kind == "dtype"
            else "a loop's state keeps its shape: write into an array of the final shape, or use "
            "gm.scan, which stacks results."
        )
        given, got = describe(old), describe(new)
        raise _change(path, old, new, kind, hint, what, [given, got])


def _change(
    path: str, old: Tracer, new: Tracer, kind: str, hint: str, what: str, rows: list[Operand]
) -> Exception:
    from graphmill.frontend.describe import here
    from graphmill.frontend.errors import error

    return error(
        "GM051",
        f"{path} goes in as {old.type} and comes back as {new.type}",
        location=here(),
        operands=rows,
        why=f"{what} runs again on what it returns, so the {kind} must stay.",
        hint=hint,
    )


def fori_loop(low: Any, high: Any, body: Callable[[Any, Any], Any], initial: Any) -> Any:
    """`for i in range(low, high): state = body(i, state)`; `i` is like a Python int.

    Known bounds (numbers or symbolic sizes) become a `scan` over the counter, traced ones a
    `while`. Raises GM051 where the state changes its type.
    """
    if not tracing():
        state = initial
        for i in range(low, high):
            state = body(i, state)
        return state
    if any(isinstance(bound, Tracer) and dim_of(bound) is None for bound in (low, high)):
        return _counted_while(low, high, body, initial)
    first, last = ax.dim(low, "the lower bound"), ax.dim(high, "the upper bound")
    length = dim_maximum(last - first, 0)
    leaves, tree = _state(initial)
    counter = (TensorType(i64), True)
    trace = current().trace
    turn = trace.new_turn("i", _turns(length))

    def counted(args: list[Tracer]) -> tuple[Any, ...]:
        trace.turn_of[args[-1]._value] = first + Dim.of(turn)
        return args[-1], tree.unflatten(args[:-1])

    def run(start: list[Tracer]) -> Body:
        return trace_body(body, [*_types(start), counter], counted, [*_names(start), "i"])

    start, made = _stable(leaves, tree, run, lambda b: _carried(b, tree))
    ramp = emit("iota", shape=(length,), axis=0, dtype=i64)
    if first != 0:
        from graphmill.frontend.core import apply, dim_value

        ramp = apply("add", ramp, dim_value(first, i64))
    return _scan_op(made, start, [ramp], length, False, tree, None, turn)


def _turns(length: DimLike) -> Bounds:
    """The numbers that the turns of a loop may have."""
    most = interval(length, current().trace.bounds)[1]
    return Bounds(0, None if most is None else max(most - 1, 0))


def _carried(body: Body, tree: Tree) -> list[Tracer]:
    same_structure(tree, body.tree, "the state and what the body returns")
    return body.results


def _counted_while(low: Any, high: Any, body: Callable[[Any, Any], Any], initial: Any) -> Any:
    for bound in (low, high):
        if isinstance(bound, Tracer) and (bound.dims or not bound.element.is_integer):
            raise failure(
                "GM052",
                f"the bound {name_of(bound)} is {bound.type}",
                [bound],
                why="a loop counts between two integers.",
                hint="cast it to an integer scalar.",
            )
    start, end = (astype(as_tracer(b), i64) for b in (low, high))
    start._weak = True

    def test(state: Any) -> Any:
        return state[0] < end

    def step(state: Any) -> Any:
        return state[0] + 1, body(state[0], state[1])

    return while_loop(test, step, (start, initial))[1]


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]], initial: Any, xs: Any = None,
    length: Any = None, reverse: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """`state, y = body(state, x)` for each x along the first axis; returns the state and all y.

    `xs` is a structure of arrays of one length (None: `length` steps without input); the ys are
    stacked along a new first axis. `reverse` goes from the last x to the first. Raises GM051
    where the state changes its type, GM053 where lengths differ.
    """
    if not tracing():
        return _scan_in_python(body, initial, xs, length, bool(reverse))
    rows, xs_tree = flatten(xs)
    arrays = [_plain(as_tracer(x)) for x in rows]
    size = _length(arrays, length)
    leaves, tree = _state(initial)
    slices: Types = [(x.type.with_shape(x.dims[1:]), False) for x in arrays]

    def run(start: list[Tracer]) -> Body:
        n = len(start)
        return trace_body(
            body, [*_types(start), *slices],
            lambda args: (tree.unflatten(args[:n]), xs_tree.unflatten(args[n:])),
            [*_names(start), *_names(arrays)],
        )  # fmt: skip

    start, made = _stable(leaves, tree, run, lambda b: _scan_state(b, tree))
    ys_tree = made.tree.parts[1]
    return _scan_op(made, start, arrays, size, reverse, tree, ys_tree)  # type: ignore[no-any-return]


def _scan_state(body: Body, tree: Tree) -> list[Tracer]:
    if body.tree.kind != "tuple" or len(body.tree.parts) != 2:
        raise failure(
            "GM046",
            f"the body of scan returns {body.tree}",
            body.results[:4],
            why="it has to return the next state and this step's result.",
            hint="return state, y; return state, None where there is no result.",
        )
    same_structure(tree, body.tree.parts[0], "the state and what the body returns first")
    return body.results[: tree.size]


def _length(arrays: Sequence[Tracer], length: Any) -> DimLike:
    found = None if length is None else ax.dim(length, "length")
    for x in arrays:
        if not x.dims:
            raise failure(
                "GM053",
                f"{name_of(x)} has no axis to go along",
                [x],
                hint="pass arrays, or length= without xs.",
            )
        if found is not None and x.dims[0] != found:
            raise failure(
                "GM053",
                f"{found} and {x.dims[0]} steps",
                arrays,
                why="scan takes one slice of each array per step.",
                hint="give all arrays one first dim.",
            )
        found = x.dims[0]
    if found is None:
        raise failure("GM053", "neither xs nor length", [], hint="pass length=.")
    return found


def _scan_op(
    made: Body, start: Sequence[Tracer], arrays: Sequence[Tracer], length: DimLike,
    reverse: bool, tree: Tree, ys_tree: Tree | None, turn: str = "",
) -> Any:  # fmt: skip
    carry = len(start)
    types = _types(start)
    stacked = made.results[carry:]
    made.finish([*(type for type, _ in types), *(r.type for r in stacked)])
    lead = carry + len(arrays)
    if ys_tree is None and not made.frame.block.args[carry].uses:
        # the counter is not used: no input at all
        del made.frame.block.args[carry]
        arrays, lead = [], carry
    captured = share_captures([made], lead)
    attrs: dict[str, Any] = {
        "carry": carry, "xs": len(arrays), "length": length, "reverse": bool(reverse),
    }  # fmt: skip
    if turn in current().trace.sized:
        attrs["turn"] = turn
    op = emit_op(
        "scan", [*start, *arrays], attrs, [region_of(made)],
        [*(x.value() for x in (*start, *arrays)), *captured],
    )  # fmt: skip
    state = _outputs(op.results[:carry], types, tree)
    if ys_tree is None:
        return state
    frame = current()
    return state, ys_tree.unflatten([Tracer(v, frame) for v in op.results[carry:]])


def _scan_in_python(
    body: Any, initial: Any, xs: Any, length: Any, reverse: bool
) -> tuple[Any, Any]:
    rows, tree = flatten(xs)
    count = len(rows[0]) if rows else ax.number(length, "length")
    state, kept, ys_tree = initial, [], None
    for i in reversed(range(count)) if reverse else range(count):
        state, y = body(state, tree.unflatten([np.asarray(row)[i] for row in rows]))
        leaves, ys_tree = flatten(y)
        kept.append(leaves)
    if ys_tree is None:
        return state, None
    columns = list(zip(*(reversed(kept) if reverse else kept), strict=True))
    return state, ys_tree.unflatten([np.stack(column) for column in columns])


__all__ = ["Size", "cond", "fori_loop", "scan", "switch", "while_loop"]
