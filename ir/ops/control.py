"""Control flow with regions, which see only their block arguments: what they use is an operand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphmill.ir.dtypes import bool_, i32
from graphmill.ir.graph import Region, Value
from graphmill.ir.ops.base import OpDef, TypeRuleError, register
from graphmill.ir.types import TensorType, Type

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]


def _args(region: Region) -> list[Type]:
    return [arg.type for arg in region.block.args]


def _yields(region: Region) -> list[Type]:
    return [value.type for value in region.block.yielded]


def _expect(name: str, what: str, got: Sequence[Type], wanted: Sequence[Type]) -> None:
    if list(got) != list(wanted):
        raise TypeRuleError(
            f"{name}: {what} {', '.join(map(str, got)) or 'nothing'}, "
            f"but must be {', '.join(map(str, wanted)) or 'nothing'}"
        )


def _infer_terminator(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    return []


register(
    OpDef("return", "control", ("*values",), "Ends a function", _infer_terminator, None,
          terminator=True)
)  # fmt: skip
register(
    OpDef("yield", "control", ("*values",), "Ends a region", _infer_terminator, None,
          terminator=True)
)  # fmt: skip


def _infer_cond(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    index = types[0] if types else None
    if not isinstance(index, TensorType) or index.shape or index.dtype not in (bool_, i32):
        raise TypeRuleError(f"cond: the predicate is {index}, not bool[] or i32[]")
    if index.dtype is bool_ and len(regions) != 2:
        raise TypeRuleError("cond: a bool predicate takes two regions: true, false")
    if not regions:
        raise TypeRuleError("cond: no branches")
    for i, region in enumerate(regions):
        _expect("cond", f"branch {i} takes", _args(region), types[1:])
        _expect("cond", f"branch {i} gives", _yields(region), _yields(regions[0]))
    return _yields(regions[0])


COND = register(
    OpDef(
        "cond", "control", ("index", "*args"),
        "Runs one region: true or false by a bool, or branch number i32 (clamped)",
        _infer_cond, None, regions=("*branches",),
    )
)  # fmt: skip


def _infer_while(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    if len(regions) != 2:
        raise TypeRuleError("while: takes two regions: the test and the body")
    test, body = regions
    carry = list(types[: attrs["carry"]])
    _expect("while", "the test takes", _args(test), types)
    _expect("while", "the body takes", _args(body), types)
    _expect("while", "the test gives", _yields(test), [TensorType(bool_)])
    _expect("while", "the body gives", _yields(body), carry)
    return carry


WHILE = register(
    OpDef(
        "while", "control", ("*carry_and_captured",),
        "Repeats the body while the test holds; the first `carry` operands change, the rest do not",
        _infer_while, None, attrs={"carry": "int"}, regions=("test", "body"),
    )
)  # fmt: skip


def _infer_scan(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    if len(regions) != 1:
        raise TypeRuleError("scan: takes one region")
    carry, count, length = attrs["carry"], attrs["xs"], attrs["length"]
    slices: list[Type] = []
    for type in types[carry : carry + count]:
        if not isinstance(type, TensorType) or not type.shape or type.shape[0] != length:
            raise TypeRuleError(f"scan: {type} does not start with the length, {length}")
        slices.append(type.with_shape(type.shape[1:]))
    _expect("scan", "the body takes", _args(regions[0]),
            [*types[:carry], *slices, *types[carry + count :]])  # fmt: skip
    given = _yields(regions[0])
    _expect("scan", "the body carries", given[:carry], types[:carry])
    stacked: list[Type] = []
    for type in given[carry:]:
        if not isinstance(type, TensorType):
            raise TypeRuleError("scan: only tensors can be stacked")
        stacked.append(type.with_shape((length, *type.shape)))
    return [*types[:carry], *stacked]


SCAN = register(
    OpDef(
        "scan", "control", ("*carry_xs_captured",),
        "Runs the body `length` times over the slices of xs (from the end when `reverse`), "
        "carrying state and stacking what else it yields; inside, the dim that an attribute `turn` "
        "names is the number of the turn, from 0 on",
        _infer_scan, None,
        attrs={"carry": "int", "xs": "int", "length": "dim", "reverse": "bool"},
        regions=("body",),
    )
)  # fmt: skip


def _infer_call(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    return list(attrs["types"])


CALL = register(
    OpDef(
        "call", "control", ("*args",), "Calls a function of the module", _infer_call, None,
        attrs={"callee": "str", "types": "types"},
    )
)  # fmt: skip


def _infer_fusion(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    return _inside("fusion", types, regions)


def _inside(name: str, types: Types, regions: Regions) -> list[Type]:
    """What the op's one region, which takes the operands, yields."""
    if len(regions) != 1:
        raise TypeRuleError(f"{name}: takes one region")
    _expect(name, "the region takes", _args(regions[0]), types)
    return _yields(regions[0])


FUSION = register(
    OpDef(
        "fusion", "control", ("*args",), "Ops that become one kernel", _infer_fusion, None,
        attrs={"kind": "str", "reason": "str"}, regions=("body",),
    )
)  # fmt: skip


def _infer_prepare(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    return _inside("prepare", types, regions)


PREPARE = register(
    OpDef(
        "prepare", "control", ("*constants",),
        "Constants in another form, computed once, when the code is loaded",
        _infer_prepare, None, regions=("body",),
    )
)  # fmt: skip


def is_constant(value: Value) -> bool:
    """Whether a value is known when the code is loaded: a constant, or a `prepare` of some."""
    return value.op is not None and value.op.name in ("constant", "prepare")


# ops whose regions are no blocks of the program: nothing moves in or out, nothing has a place
SEALED = frozenset({"fusion", "prepare"})
