"""What a contraction is and what its kernels look like to the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.ir.dtypes import DType
from graphmill.records import record

SLOTS = (
    "a", "b", "c", "m", "n", "k", "a_m", "a_k", "b_k", "b_n", "c_m",
    "batch", "a_batch", "b_batch", "c_batch", "shared", "scratch", "scratch_bytes", "grid",
)  # fmt: skip


@record
class GemmSpec:
    """`C[m, n] = sum_k A[m, k] B[k, n]`, batched; a size of None is known at run time only.

    Sums are formed in `acc` (f16 and bf16 in f32; integers wrap) and stored as `out`. An order says
    which stride is 1: `row` (A's k, B's n), `col` (A's m, B's k), `strided` (neither).
    `b_packed` says that B is in panels already (`gemm.packing_of_b`); `exact` that values are
    widened as IEEE arithmetic does, subnormals included; `symmetric` that B is A's transpose (one
    matrix, no batch) and the epilogue the same everywhere. `a_computed` and `b_computed` are the
    dtypes of operands that a `Prologue` computes, from elements in memory that `a` and `b`, and the
    orders, describe; None where these are the operand.
    """

    a: DType
    b: DType
    acc: DType
    out: DType
    m: int | None = None
    n: int | None = None
    k: int | None = None
    a_order: str = "row"
    b_order: str = "row"
    b_packed: bool = False
    batch: int | None = 1
    exact: bool = False
    b_computed: DType | None = None
    symmetric: bool = False
    a_computed: DType | None = None

    @property
    def multiplied(self) -> tuple[DType, DType]:
        """The dtypes of the operands' elements, computed or not."""
        return self.a_computed or self.a, self.b_computed or self.b


@record
class Place:
    """Where in C a vector of finished sums goes; `mask` is None when all lanes are inside.

    Skinny and complex products finish scalars: `lanes` is 0.
    `row` and `col` (of the first lane) and `batch` are i64; `extra` holds the epilogue's slots.
    """

    row: Val
    col: Val
    batch: Val
    lanes: int
    mask: Val | None
    extra: tuple[Val, ...]


@record
class Epilogue:
    """Work on finished sums before the one store of C.

    `apply` gets sums in the register type of `acc` (a `Complex` for complex ones) and returns the
    register or memory type of `out`; a store converts between sizes of one kind.
    `slots` are the MLIR types of the extra data slots, after `SLOTS`; number `beside` points to an
    array that is read as the result is written, element by element of its size.
    """

    apply: Callable[[Code, Any, Place], Elem]
    slots: tuple[str, ...] = ()
    beside: int | None = None


@record
class Spot:
    """Where in an operand some elements are: position of the first, and the axis of the lanes.

    `free` is a row of A or a column of B. Lanes where `mask` is false are beyond the edge.
    """

    k: Val
    free: Val
    batch: Val
    lanes: int
    along_k: bool
    mask: Val | None = None


@record
class Prologue:
    """Work on elements of an operand as they are packed or multiplied.

    `apply` gets them in the register type of `a` or `b` (None where `loads` is false: it finds what
    it needs itself) and the values of its own data slots, of the MLIR types `slots`, which begin
    at number `first`; it returns the register type of a sum.
    """

    apply: Callable[[Code, Any, Spot, tuple[Val, ...]], Val]
    slots: tuple[str, ...] = ()
    first: int = len(SLOTS)
    loads: bool = True


@record
class Prologues:
    """What computes the elements of A and of B; None for those that are multiplied as they lie."""

    a: Prologue | None = None
    b: Prologue | None = None

    def __bool__(self) -> bool:
        return self.a is not None or self.b is not None


AS_THEY_LIE = Prologues()


@record
class Sizes:
    """The run-time sizes of one call, as i64 values of the caller's code.

    `threads` is what may run it, for whoever plans work items.
    """

    m: Val
    n: Val
    k: Val
    batch: Val
    threads: Val | None = None


@record
class Phase:
    """One run of `parallel_for`: `void symbol(ptr data, i64 begin, i64 end, i64 worker)`.

    `items` and `grain` give the number of work items and the fewest worth a thread.
    """

    symbol: str
    items: Callable[[Code, Sizes], Val]
    grain: Callable[[Code, Sizes], Val]


@record
class GemmKernel:
    """The emitted kernels of one contraction, run one after the other on one `data`.

    `data` holds 8-byte slots named `slots` (strides in elements), then the epilogue's. `shared` and
    `scratch` give the bytes of 64-aligned memory for all workers together (slot `shared`) and for
    each worker (slot `scratch`, worker w starting at `w * scratch_bytes`); both may be 0. `grid`
    gives the slot of that name; `how` says for dumps what was chosen.
    """

    phases: tuple[Phase, ...]
    shared: Callable[[Code, Sizes], Val]
    scratch: Callable[[Code, Sizes], Val]
    slots: tuple[str, ...] = SLOTS
    grid: Callable[[Code, Sizes], Val] = lambda code, sizes: code.i64(0)
    how: str = ""
