"""Loops over whole arrays whose elements do not meet: each element goes through all turns at once.

`for _ in range(n): z = z * z + c` reads and writes whole arrays n times. Where element i of what a
turn carries needs only element i of what it was given, a kernel takes a few elements, keeps them
in registers for all n turns and stores them once. A loop that carries numbers alone may also give
one number a turn, such as a recurrence along an axis.

So may a loop along the last axis of arrays: a turn reads elements of each line and writes one. The
lines of a few vectors stay in the caches for all turns, where whole arrays would be read anew in
each of them.
"""

from __future__ import annotations

from collections.abc import Collection

from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Block, Op, Region, Value, clone_op
from graphmill.ir.lines import lines_of, reads_a_line
from graphmill.ir.ops.base import lookup
from graphmill.ir.types import TensorType
from graphmill.passes.fusion_graph import immediate
from graphmill.passes.statistics import count

MOST_OPS = 64  # in the body: all of it is in registers, several times side by side

Shape = tuple[DimLike, ...]


def iterate_elements(block: Block) -> None:
    """Make one `iterate` fusion of each `scan` of a block whose elements do not meet."""
    for scan in [op for op in block.ops if op.name == "scan"]:
        if not _stay_apart(scan):
            continue
        makers = _makers(scan, block)
        operands = list(dict.fromkeys(
            v for op in (*makers, scan) for v in op.operands if v.op not in makers
        ))  # fmt: skip
        inner = Block([v.type for v in operands], [v.name for v in operands])
        mapping = dict(zip(operands, inner.args, strict=True))
        for op in (*makers, scan):
            inner.append(clone_op(op, mapping))
        used = [r for r in scan.results if r.uses]
        inner.append(Op(lookup("yield"), [mapping[r] for r in used], []))
        attrs = {"kind": "iterate", "reason": f"{scan.attrs['length']} turns in registers"}
        fusion = Op(
            lookup("fusion"), operands, [r.type for r in used], attrs, [Region(inner)], scan.loc,
            scan.scope,
        )  # fmt: skip
        block.insert_before(scan, fusion)
        for old, new in zip(used, fusion.results, strict=True):
            new.name = old.name
            old.replace_uses(new)
        for op in (scan, *reversed(makers)):
            op.erase()
        count("iterate kernels")


def _stay_apart(scan: Op) -> bool:
    """Whether no element of what a turn carries needs another element of the turn before.

    Carried numbers may be read by all elements. 16-bit floats are wider in registers than where
    they are kept, so that their turns would round differently.
    """
    carry, xs, body = scan.attrs["carry"], scan.attrs["xs"], scan.regions[0].block
    carried = [v.type for v in scan.operands[:carry]]
    if len(body.ops) > MOST_OPS or not carried or "turn" in scan.attrs:
        return False
    if not all(isinstance(t, TensorType) and not _is_half(t) for t in carried):
        return False
    lines = lines_of(scan)
    results = scan.results[:carry]
    all_shapes = [tuple(v.shape) for v in results]
    shapes = {shape[:-1] if n in lines else shape for n, shape in enumerate(all_shapes)}
    numbers, shape = shapes == {()}, max(shapes, key=len)
    used = {all_shapes[n] for n, v in enumerate(results) if v.uses and n not in lines}
    if not shapes <= {(), shape} or not (numbers or used <= {shape}):
        return False
    if any(not results[n].uses or scan.operands[n].tensor.layout for n in lines):
        return False
    if any(v.shape for v in body.yielded[carry:]) or (len(scan.results) > carry and not numbers):
        return False
    if any(v.shape[1:] for v in scan.operands[carry : carry + xs]):
        return False
    moving: set[Value] = set(body.args[: carry + xs])
    written = {v for n, line in lines.items() for v in (body.yielded[n], line.update)}
    arrays = {body.args[n] for n in lines}
    for op in body.ops[:-1]:
        if not written.isdisjoint(op.results):
            continue
        if op.definition.fusion not in ("elementwise", "index") or op.regions:
            return False
        if any(v in moving for v in op.operands):
            if not _is_apart(op, shape, moving, arrays):
                return False
            moving.add(op.result)
    return any(v.uses for v in scan.results)


def _is_half(type: TensorType) -> bool:
    return type.dtype.is_float and type.dtype.bits < 32


def _is_apart(op: Op, shape: Shape, moving: Collection[Value], lines: Collection[Value]) -> bool:
    """Whether element i of an op's result needs element i of its operands, line i, or numbers."""
    if tuple(op.result.shape) not in ((), shape):
        return False
    if op.definition.fusion == "elementwise":
        return True
    if op.name == "gather":  # at a place that is a number
        array, *places = op.operands
        if array in moving:
            return array in lines and reads_a_line(op, array)
        return not any(place.shape for place in places)
    return op.name == "broadcast" and not op.operands[0].shape


def _makers(scan: Op, block: Block) -> list[Op]:
    """What computes, element by element and for this loop alone, what the loop starts from."""
    first = scan.attrs["carry"]
    captured = set(scan.operands[first + scan.attrs["xs"] :])
    captured |= {scan.operands[n] for n in lines_of(scan)}  # in memory
    slices = set(scan.operands[first : first + scan.attrs["xs"]])
    found: set[Op] = {scan}
    for op in reversed(block.ops[: block.ops.index(scan)]):
        simple = op.definition.fusion == "elementwise" or op.name in ("broadcast", "iota")
        if not (simple or immediate(op)) or not op.result.uses or op.result in captured:
            continue
        if op.result in slices and op.definition.flops > 1:
            continue  # that would be computed for every element
        if all(user in found for user in op.result.users):
            found.add(op)
    return [op for op in block.ops if op in found and op is not scan]
