"""The frame of a kernel: a function over a range of work items, and what it captures.

A kernel is `void body(captures…, begin, end, worker)` with a small wrapper that loads the
captures from the `data` array that `parallel_for` hands on. Captured pointers are `noalias`
arguments of the body, which tells LLVM that distinct buffers do not overlap.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.schedule import UNMEASURED, Choices
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import DType
from graphmill.records import record

# LLVM would make memcpy of a copying loop; glibc's (2.36) is 10 times slower on AMD's CPUs where
# target and source lie at nearby offsets of their pages (its bug 30994), and a call in any case
TRAITS = ("no-builtin-memcpy",)

BODY = [("begin", "i64"), ("end", "i64"), ("worker", "i64")]


@record
class Storage:
    """A buffer as the host knows it: an identity, so that views of one buffer are one capture."""

    key: Hashable
    written: bool = False


@record
class Source:
    """An array in memory as a kernel sees it: pointer, dtype, dims and strides in elements.

    A stride is an int, a dim expression, or (for a strided parameter) a value. A `final` array is a
    result that nothing in the function reads.
    """

    pointer: Val
    dtype: DType
    shape: tuple[DimLike, ...]
    strides: tuple[DimLike | Val, ...]
    final: bool = False


def contiguous(shape: Sequence[DimLike]) -> tuple[DimLike, ...]:
    """Row-major strides in elements."""
    return tuple(product(shape[i + 1 :]) for i in range(len(shape)))


class Kernel:
    """One kernel being written. `code` is its body; `captures` is what the host must pass."""

    def __init__(
        self,
        unit: Unit,
        target: Target,
        name: str,
        choices: Choices = UNMEASURED,
        turns: Mapping[str, DimLike] | None = None,
    ) -> None:
        self.choices = choices
        # of the loops around, outermost first, the last turn; None where that is not known
        self.turns: Mapping[str, DimLike] | None = turns or {}
        self.unit = unit
        self.target = target
        self.name = name
        self.lanes = target.lanes(32)
        self.code = Code(unit, f"{name}_body", BODY, traits=TRAITS)
        self.begin, self.end, self.worker = self.code.args
        self.captures: list[tuple[str, object]] = []
        self._known: dict[tuple[str, object], Val] = {}

    def pointer(self, storage: Storage) -> Val:
        """The address of a buffer."""
        return self._capture("pointer", storage, "!llvm.ptr", "{llvm.noalias, llvm.noundef}")

    def value(self, key: Hashable) -> Val:
        """An i64 that the host passes under `key` (for example a run-time stride)."""
        return self._capture("value", key, "i64", "")

    def dim(self, dim: DimLike) -> Val:
        """A dim's size: a constant, or passed by the host."""
        if isinstance(dim, int):
            return self.code.i64(dim)
        return self._capture("dim", dim, "i64", "")

    def size(self, dim: DimLike) -> Val | int:
        """A dim's size, staying a Python int when it is known."""
        return dim if isinstance(dim, int) else self.dim(dim)

    def _capture(self, kind: str, key: object, type: str, attrs: str) -> Val:
        if (kind, key) not in self._known:
            self._known[kind, key] = self.code.argument(type, attrs)
            self.captures.append((kind, key))
        return self._known[kind, key]

    def finish(self) -> None:
        """Close the body and write the wrapper `void name(data, begin, end, worker)`."""
        self.code.finish()
        wrapper = Code(self.unit, self.name, [("data", "!llvm.ptr"), *BODY])
        data, *rest = wrapper.args
        loaded = [
            wrapper.load(wrapper.at(data, i, "i64"), arg.type, 8)
            for i, arg in enumerate(self.code.args[len(BODY) :])
        ]
        wrapper.call(self.code.name, [*rest, *loaded])
        wrapper.finish()
