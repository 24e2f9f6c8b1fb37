"""Elements that are known while tracing: those of arrays made from constants alone.

`np.zeros(3)` inside a traced function is traced, so that traced values can be written into it; as
long as none has been, Python code may ask for its elements as it may for a NumPy array's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend.tracer import Tracer
from graphmill.ir.graph import Op, Value
from graphmill.ir.types import TensorType

# arrays of more elements stay unknown: what Python code asks for one by one is small
LARGEST = 1 << 16

Array = np.ndarray[Any, Any]


def known(x: Tracer) -> Array | None:
    """The array's elements (read-only), or None where they depend on an argument."""
    value = x.value()
    found = x._frame.trace.known
    pending = [value]
    while pending:
        at = pending[-1]
        if at in found:
            pending.pop()
            continue
        op = at.op
        if op is None or not _computable(op):
            found[at] = None
        elif (first := next((v for v in op.operands if v not in found), None)) is not None:
            pending.append(first)
        else:
            arrays = [found[v] for v in op.operands]
            _record(op, None if any(a is None for a in arrays) else arrays, found)
    return found[value]


def _computable(op: Op) -> bool:
    """Whether NumPy can compute the op's results once its operands are known."""
    if op.definition.reference is None or not op.definition.pure or op.regions or op.name == "dim":
        return False
    return all(
        isinstance(v.type, TensorType) and v.type.is_static and int(v.type.size) <= LARGEST
        for v in (*op.operands, *op.results)
    )


def _record(op: Op, arrays: Any, found: dict[Value, Array | None]) -> None:
    if arrays is None:
        found.update(dict.fromkeys(op.results))
        return
    reference = op.definition.reference
    assert reference is not None
    with np.errstate(all="ignore"):
        made = reference(*arrays, **{name: op.attrs[name] for name in op.definition.attrs})
    for result, array in zip(op.results, made if isinstance(made, tuple) else (made,), strict=True):
        elements = np.array(array, dtype=result.tensor.dtype.numpy)
        elements.flags.writeable = False
        found[result] = elements


def known_scalar(x: Tracer) -> Any:
    """The Python number or bool that a known array of one element holds, else None."""
    if x.type.size != 1:
        return None
    elements = known(x)
    return None if elements is None else elements.item()
