"""`ufunc.reduce`, `accumulate`, `outer` and `at` on traced arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.frontend import indexing, reductions, ufuncs
from graphmill.frontend.core import Tracer, as_tracer
from graphmill.frontend.describe import failure
from graphmill.frontend.shaping import reshaped

REDUCE: dict[Any, Any] = {
    np.add: reductions.sum, np.multiply: reductions.prod, np.maximum: reductions.max,
    np.minimum: reductions.min, np.logical_and: reductions.all, np.logical_or: reductions.any,
}  # fmt: skip
ACCUMULATE: dict[Any, str] = {
    np.add: "sum",
    np.multiply: "prod",
    np.maximum: "max",
    np.minimum: "min",
}
AT: dict[Any, str] = {np.add: "add", np.multiply: "mul", np.maximum: "max", np.minimum: "min"}

# A sum of bools is or, a product is and.
ON_BOOLS: dict[Any, np.ufunc] = {np.add: np.maximum, np.multiply: np.minimum}


def call(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A ufunc's method; GM012 for one that has no translation."""
    options = dict(kwargs)
    out = options.pop("out", None)
    if method == "outer":
        result = _outer(ufunc, inputs[0], inputs[1], options)
    elif method == "at":
        return _at(ufunc, *inputs)
    elif method == "reduce" and (ufunc in REDUCE or ufunc is np.logaddexp):
        result = _reduce(ufunc, inputs[0], options, *inputs[1:])
    elif method == "accumulate" and ufunc in ACCUMULATE:
        axis, dtype = options.pop("axis", 0), options.pop("dtype", None)
        result = reductions.cumulative(inputs[0], ACCUMULATE[ufunc], axis, dtype)
    else:
        raise _unsupported(ufunc, method, inputs)
    if out is None:
        return result
    target = out[0] if isinstance(out, tuple) else out
    if not isinstance(target, Tracer):
        raise failure("GM011", f"np.{ufunc.__name__}.{method}(out=…) with a NumPy array", [target])
    ufuncs.store(target, result, ufunc)
    return target


def _reduce(ufunc: np.ufunc, x: Any, options: dict[str, Any], axis: Any = 0) -> Tracer:
    axis = options.pop("axis", axis)
    if ufunc is np.logaddexp:
        return _logsumexp(as_tracer(x), axis, options.get("keepdims", False))
    dtype = options.pop("dtype", None)
    if ufunc in (np.add, np.multiply):
        options["dtype"] = dtype
    return REDUCE[ufunc](x, axis, **options)  # type: ignore[no-any-return]


def _logsumexp(x: Tracer, axis: Any, keepdims: bool) -> Tracer:
    """log(sum(exp(x))) with the maximum taken out first."""
    largest = reductions.max(x, axis, keepdims=True)
    finite = ufuncs.evaluate(np.isfinite, largest)
    shift = np.where(finite, largest, 0)
    total = reductions.sum(np.exp(x - shift), axis, keepdims=True)
    result: Any = np.log(total) + shift
    return result if keepdims else reductions.sum(result, axis)


def _outer(ufunc: np.ufunc, a: Any, b: Any, options: Mapping[str, Any]) -> Any:
    x, y = as_tracer(a), as_tracer(b)
    x = reshaped(x, (*x.dims, *(1 for _ in y.dims)))
    return ufuncs.call(ufunc, "__call__", (x, y), options)


def _at(ufunc: np.ufunc, target: Any, key: Any, value: Any = None) -> None:
    """`target[key] op= value`, equal indices counted each."""
    if not isinstance(target, Tracer):
        raise failure(
            "GM011",
            f"np.{ufunc.__name__}.at into a NumPy array",
            [target],
            hint="make it traced first: gm.numpy.asarray(a).",
        )
    if ufunc is np.subtract:
        ufunc, value = np.add, -as_tracer(value)
    if ufunc not in AT:
        raise _unsupported(ufunc, "at", [target])
    if target.element.kind == "b":
        ufunc = ON_BOOLS.get(ufunc, ufunc)
    indexing.put(target, key, value, AT[ufunc])


def _unsupported(ufunc: np.ufunc, method: str, inputs: Sequence[Any]) -> Exception:
    tables: dict[str, Mapping[np.ufunc, Any]] = {
        "reduce": {**REDUCE, np.logaddexp: None}, "accumulate": ACCUMULATE, "at": AT,
    }  # fmt: skip
    known = ", ".join(f"np.{f.__name__}" for f in tables.get(method, {}))
    return failure(
        "GM012",
        f"np.{ufunc.__name__}.{method}",
        inputs,
        why=f"Graphmill has no translation of it; {method} works for {known}."
        if known
        else f"no ufunc's {method} has a translation.",
        hint="gm.scan or gm.fori_loop combines elements by any function.",
    )
