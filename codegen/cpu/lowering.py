"""The table of lowerings: which function emits which block-level op; what kernels are called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from hashlib import sha256
from importlib import import_module

import numpy as np

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.schedule import Choices
from graphmill.ir.builder import Builder
from graphmill.ir.cost import cost
from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Block, Op, Region, Value, clone_op
from graphmill.tables import Table

Emitter = Callable[[Host, Op], None]
EMITTERS = Table[str, Emitter]()

# modules with lowerings that are loaded when one of their ops is met: most functions need none
MODULES = {
    "argreduce": ("argreduce",),
    "checks": ("check", "require"),
    "control": ("cond", "scan", "while"),
    "factors": ("cholesky", "lu", "solve"),
    "foreign": ("all_gather", "all_reduce", "custom_call", "reduce_scatter", "transfer"),
    "scans": ("cumulative",),
    "scatters": ("dynamic_update_slice", "scatter"),
    "sorting": ("argpartition", "argsort", "partition", "sort", "top_k"),
    "windows": ("window_reduce",),
}
_MODULE_OF = {op: module for module, ops in MODULES.items() for op in ops}


def lowers(name: str) -> Callable[[Emitter], Emitter]:
    """Register the lowering of a block-level op, once, or anew with a module loaded anew."""

    def add(emitter: Emitter) -> Emitter:
        EMITTERS.enter(name, emitter, emitter.__module__)
        return emitter

    return add


def emitter(name: str) -> Emitter | None:
    """The lowering registered for an op, its module loaded; None where there is none."""
    if name not in EMITTERS and name in _MODULE_OF:
        import_module(f"graphmill.codegen.cpu.{_MODULE_OF[name]}")
    return EMITTERS.find(name)


def body_of(op: Op) -> Block:
    """The block of a fusion, or a bare op wrapped as one."""
    if op.name == "fusion":
        return op.regions[0].block
    region = Region(Block([v.type for v in op.operands], [v.name for v in op.operands]))
    copy = clone_op(op, dict(zip(op.operands, region.block.args, strict=False)))
    copy.set_operands(region.block.args)
    copy.attrs.pop("buffers", None)
    region.block.append(copy)
    Builder(region.block).emit("yield", copy.results)
    return region.block


def label(op: Op) -> str:
    """What a kernel does, as part of its symbol: the ops that matter, in order."""
    if op.name != "fusion":
        return op.name.replace(".", "_")
    if op.attrs["kind"] in ("attention", "iterate"):
        return str(op.attrs["kind"])
    skipped = {"constant", "broadcast", "yield", "reshape", "cast"}
    names = [inner.name for inner in op.regions[0].block.ops if inner.name not in skipped]
    return "_".join(list(dict.fromkeys(names))[:4]) or "copy"


def info_of(op: Op, name: str, parallel: bool) -> KernelInfo:
    """The kernel's row in profiles."""
    work = cost(op)
    return KernelInfo(name, str(op.loc or ""), _plain(work.flops), _plain(work.bytes), parallel)


def _plain(dim: DimLike) -> int | str:
    return dim if isinstance(dim, int) else str(dim)


# ops whose elements lie elsewhere for each element of the result, if all their axes are in it
_WALKED = frozenset(
    {"broadcast", "constant", "reduce", "reshape", "reverse", "slice", "transpose", "yield"}
)


def reads_anew(block: Block, shape: tuple[DimLike, ...], inner: Collection[int]) -> bool:
    """Whether loops along the axes `inner` of `shape` may read one place again and again."""
    read: set[Value] = set(block.args)  # and what is computed from them as they are read
    for op in block.ops:
        if op.name not in _WALKED and op.definition.family != "elementwise":
            return True
        if op.name == "broadcast" and op.operands[0] in read:
            moves = set(inner) <= set(op.attrs["axes"])
            if not moves or tuple(op.attrs["shape"]) != shape:
                return True
        if op.name != "reduce" and not read.isdisjoint(op.operands):
            read.update(op.results)
    return False


def structure(block: Block) -> Hashable:
    """What a block computes, without names and places: equal structures need one kernel."""
    numbers: dict[Value, int] = {arg: n for n, arg in enumerate(block.args)}
    rows: list[Hashable] = [tuple(str(arg.type) for arg in block.args)]
    for op in block.ops:
        attrs = tuple((name, plain_attr(value)) for name, value in sorted(op.attrs.items()))
        operands = tuple(numbers[v] for v in op.operands)
        for result in op.results:
            numbers[result] = len(numbers)
        rows.append((op.name, attrs, operands, tuple(str(r.type) for r in op.results)))
        rows += [structure(region.block) for region in op.regions]
    return tuple(rows)


def choices_of(host: Host, op: Op, block: Block) -> Choices:
    """The choices of a fused kernel, named by what it computes and how its operands lie."""

    def name() -> str:
        strided = [host.buffers[v].strides is not None for v in op.operands]
        content = sha256(repr((structure(block), strided)).encode()).hexdigest()
        return f"{label(op)} {op.results[0].type} {content[:16]}"

    return host.target.choices(name)


def plain_attr(value: object) -> Hashable:
    """An attribute's value as part of a structure."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return str(value)
