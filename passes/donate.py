"""Donated parameters: which result takes over the memory of which."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.ir.graph import Function, Value

NONE = -1  # in `attrs["donated"]`: a result with memory of its own
UPDATES = frozenset({"dynamic_update_slice", "scatter", "reshape", "while", "scan"})


def donate(function: Function, params: Sequence[int]) -> tuple[Function, list[int]]:
    """The function with `attrs["donated"]`, and those parameters that fit no result.

    For each result the attribute has the number of the parameter whose memory it takes over. A
    parameter goes to a result of its dtype and shape, first to one that it is updated to.
    """
    function = function.clone()
    results = [value.type for value in function.results]
    taken = [NONE] * len(results)
    updated = [_origin(value) for value in function.results]
    waiting = []
    for number in params:
        param = function.params[number]
        own = [i for i, value in enumerate(updated) if value is param]
        _take(taken, [i for i in own if results[i] == param.type], number)
        if number not in taken:
            waiting.append(number)
    for number in waiting:
        kind = function.params[number].type
        _take(taken, [i for i, type in enumerate(results) if type == kind], number)
    if any(number != NONE for number in taken):
        function.attrs["donated"] = tuple(taken)
    return function, [number for number in params if number not in taken]


def _take(taken: list[int], fitting: Sequence[int], number: int) -> None:
    free = [i for i in fitting if taken[i] == NONE]
    if free:
        taken[free[0]] = number


def _origin(value: Value) -> Value:
    """The parameter that a value is an update of, or is computed from element by element."""
    while (op := value.op) is not None:
        at = value.index if op.name in ("while", "scan") else 0
        carried = op.name not in ("while", "scan") or at < op.attrs["carry"]
        if op.name in UPDATES and carried:
            value = op.operands[at]
        elif op.definition.family == "elementwise":
            same = [v for v in op.operands if v.type == value.type]
            if not same:
                return value
            value = same[0]
        else:
            return value
    return value
