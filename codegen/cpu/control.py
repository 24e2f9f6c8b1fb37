"""Control flow: `cond`, `while` and `scan` around blocks; carried arrays swap places."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu.blocks import emit_block
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.kernel import Storage
from graphmill.codegen.cpu.lowering import lowers
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.types import TensorType


@lowers("cond")
def _cond(host: Host, op: Op) -> None:
    results = host.place(op)
    index = op.operands[0]
    kind = index.tensor.dtype.name
    raw = host.code.load(host.buffers[index].pointer, "i8" if kind == "bool" else "i32", 1)
    zero = host.code.const(0, raw.type)
    if kind == "bool":
        chosen = [host.code.compare("arith.cmpi", "ne", raw, zero)]
        chosen.append(host.code.compare("arith.cmpi", "eq", raw, zero))
    else:
        last = host.code.const(len(op.regions) - 1, raw.type)
        raw = host.code.binary("arith.maxsi", raw, zero)
        raw = host.code.binary("arith.minsi", raw, last)
        numbers = [host.code.const(i, raw.type) for i in range(len(op.regions))]
        chosen = [host.code.compare("arith.cmpi", "eq", raw, n) for n in numbers]
    for region, condition in zip(op.regions, chosen, strict=True):
        with host.code.when(condition):
            _bind(host, region.block, [host.buffers[v] for v in op.operands[1:]])
            _redirect(host, region.block.yielded, results)
            emit_block(host, region.block)


def _bind(host: Host, block: Block, buffers: Sequence[Buffer]) -> None:
    for arg, buffer in zip(block.args, buffers, strict=True):
        host.buffers[arg] = buffer


def _redirect(host: Host, yields: Sequence[Value], buffers: Sequence[Buffer]) -> None:
    """Let the ops that make `yields` write straight into `buffers`."""
    for value, buffer in zip(yields, buffers, strict=True):
        host.redirected[_root(value)] = buffer


def _root(value: Value) -> Value:
    """The value whose memory `value` shares, through views and in-place ops."""
    while (op := value.op) is not None:
        where: str = op.attrs["buffers"][value.index] if "buffers" in op.attrs else ""
        if not where.startswith("alias:"):
            break
        value = op.operands[int(where.partition(":")[2])]
    return value


def _swapped(block: Block, carry: int) -> list[bool]:
    """Whether each carried value is made in fresh memory (else in place, in its argument's)."""
    return [_root(v) is not block.args[i] for i, v in enumerate(block.yielded[:carry])]


class _Carry:
    """Loop-carried arrays: each lives in turn in its result's buffer and its yield's."""

    def __init__(self, host: Host, op: Op, body: Block, count: int) -> None:
        self.host, self.body, self.count = host, body, count
        self.results = host.place(op)[:count]
        self.swapped = _swapped(body, count)
        for operand, result in zip(op.operands[:count], self.results, strict=True):
            copy_array(host, host.buffers[operand], result, operand)
        self.types = [v.tensor for v in op.results[:count]]
        self.spare = [
            self._spare(i) if swapped else self.results[i].pointer
            for i, swapped in enumerate(self.swapped)
        ]

    def _spare(self, i: int) -> Val:
        root = _root(self.body.yielded[i])
        assert root.op is not None, "the memory pass copies yielded block arguments"
        return self.host._buffer(root.op, root.op.attrs["buffers"][root.index]).pointer

    def start(self) -> list[Val]:
        """The pointers before the first turn: current, then spare."""
        return [*(r.pointer for r in self.results), *self.spare]

    def current(self, carried: Sequence[Val], tag: object) -> list[Buffer]:
        """The buffers that hold the carried values in this turn."""
        return [
            Buffer(p, Storage(("carry", id(self), tag, i), True))
            for i, p in enumerate(carried[: self.count])
        ]

    def fresh(self, carried: Sequence[Val], tag: object) -> list[Buffer]:
        """The buffers the body writes."""
        return [
            Buffer(p, Storage(("fresh", id(self), tag, i), True))
            for i, p in enumerate(carried[self.count :])
        ]

    def redirect(self, carried: Sequence[Val], tag: object) -> None:
        """Let the body write its carried yields into the spare buffers."""
        for value, swapped, buffer in zip(
            self.body.yielded, self.swapped, self.fresh(carried, tag), strict=False
        ):
            if swapped:
                self.host.redirected[_root(value)] = buffer

    def turned(self, carried: Sequence[Val]) -> list[Val]:
        """The pointers for the next turn."""
        now, spare = carried[: self.count], carried[self.count :]
        pairs = list(zip(now, spare, self.swapped, strict=True))
        return [*(s if w else n for n, s, w in pairs), *(n if w else s for n, s, w in pairs)]

    def end(self, carried: Sequence[Val]) -> None:
        """Bring values that ended in the spare buffers home."""
        for i, (type, swapped) in enumerate(zip(self.types, self.swapped, strict=True)):
            if swapped:
                home = self.results[i]
                _copy_bytes(self.host, carried[i], home.pointer, type)


def copy_array(host: Host, source: Buffer, target: Buffer, value: Value) -> None:
    """Copy a value's array unless both buffers are one."""
    if source.storage != target.storage:
        _copy_bytes(host, source.pointer, target.pointer, value.tensor)


def _copy_bytes(host: Host, source: Val, target: Val, type: TensorType) -> None:
    """Copy an array unless source and target are the same address."""
    code = host.code
    a, b = (code.op(f"llvm.ptrtoint {p} : !llvm.ptr to i64", "i64") for p in (source, target))
    with code.when(code.compare("arith.cmpi", "ne", a, b)):
        size = host.dim(type.nbytes)
        code.line(
            f'"llvm.intr.memcpy"({target}, {source}, {size}) <{{isVolatile = false}}> : '
            "(!llvm.ptr, !llvm.ptr, i64) -> ()"
        )


@lowers("while")
def _while(host: Host, op: Op) -> None:
    code, count = host.code, op.attrs["carry"]
    test, body = (region.block for region in op.regions)
    captured = [host.buffers[v] for v in op.operands[count:]]
    carry = _Carry(host, op, body, count)
    with code.while_loop(carry.start()) as loop:
        _bind(host, test, [*carry.current(loop.carried, "test"), *captured])
        emit_block(host, test)
        flag = code.load(host.buffers[test.yielded[0]].pointer, "i8", 1)
        wanted = code.compare("arith.cmpi", "ne", flag, code.const(0, "i8"))
        code.test(loop, code.binary("arith.andi", wanted, host.turn()))
        _bind(host, body, [*carry.current(loop.carried, "body"), *captured])
        carry.redirect(loop.carried, "body")
        emit_block(host, body)
        loop.next = carry.turned(loop.carried)
    carry.end(loop.results)


@lowers("scan")
def _scan(host: Host, op: Op) -> None:
    code, attrs = host.code, op.attrs
    count, slices = attrs["carry"], attrs["xs"]
    body = op.regions[0].block
    captured = [host.buffers[v] for v in op.operands[count + slices :]]
    carry = _Carry(host, op, body, count)
    stacked = [host.buffers[v] for v in op.results[count:]]
    length = host.dim(attrs["length"])
    with code.loop(0, length, 1, carry.start()) as loop:
        at = loop.i
        if attrs["reverse"]:
            at = code.binary("arith.subi", code.add(length, -1), loop.i)
        xs = op.operands[count : count + slices]
        views = [_slice(host, host.buffers[x], x, at) for x in xs]
        _bind(host, body, [*carry.current(loop.carried, "body"), *views, *captured])
        carry.redirect(loop.carried, "body")
        ys = [
            _slice(host, buffer, value, at)
            for buffer, value in zip(stacked, op.results[count:], strict=True)
        ]
        _redirect(host, body.yielded[count:], ys)
        numbered = host.numbered(attrs.get("turn"), at, attrs["length"])
        with numbered, code.when(host.turn()):
            emit_block(host, body)
        loop.next = carry.turned(loop.carried)
    carry.end(loop.results)


def _slice(host: Host, buffer: Buffer, value: Value, at: Val) -> Buffer:
    """The `at`-th slice of a stacked array along its first axis."""
    type = value.tensor
    row = host.dim(type.with_shape(type.shape[1:]).nbytes)
    offset = host.code.mul(at, row)
    pointer = host.code.at(buffer.pointer, offset, "i8")
    return Buffer(pointer, Storage(("slice", buffer.storage, id(value)), buffer.storage.written))
