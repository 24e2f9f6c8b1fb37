"""What a convolution is, and its kernels' view of their data."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphmill.codegen.cpu.contract.slots import Slots
from graphmill.codegen.cpu.contract.spec import GemmSpec, Sizes
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.ir.dtypes import DType
from graphmill.records import record


@record
class ConvSpec:
    """`x [n, c, *sizes]` correlated with `w [o, c / groups, *window]` into `[n, o, *out]`.

    One entry per spatial axis: `sizes` of x and `out` of the result (None when known at run time
    only), the window, strides, `low` padding (what lies beyond the upper end is padding too),
    dilation of the window, and dilation of the input (zeros between elements, as a transposed
    convolution needs). w and the result are contiguous; x may have any strides. `unit_step` says
    that its innermost is 1, `contiguous` that each channel's positions lie in order without gaps;
    `in_tiles` that w was packed so (`tap_plan.packing_of_filters`).
    """

    x: DType
    w: DType
    acc: DType
    out: DType
    channels: int
    filters: int
    groups: int
    sizes: tuple[int | None, ...]
    out_sizes: tuple[int | None, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    low: tuple[int, ...]
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    batch: int | None = None
    unit_step: bool = True
    contiguous: bool = True
    in_tiles: bool = False

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.window)

    @property
    def taps(self) -> int:
        """Products in one result."""
        return self.channels // self.groups * math.prod(self.window)

    @property
    def pixels(self) -> int | None:
        """Results of one channel, if static."""
        total = 1
        for size in self.out_sizes:
            if size is None:
                return None
            total *= size
        return total

    @property
    def matrices(self) -> int | None:
        """Images times groups, if static."""
        return None if self.batch is None else self.batch * self.groups

    def product(self) -> GemmSpec:
        """The product of one group's filters with the patches of one image."""
        return GemmSpec(
            self.w, self.x, self.acc, self.out, self.filters // self.groups, self.pixels,
            self.taps, batch=self.matrices,
        )  # fmt: skip


def slot_names(rank: int) -> tuple[str, ...]:
    """The data slots of a convolution; strides in elements.

    `size`, `out` and `step` (x's spatial strides) have one slot per spatial axis.
    """
    axes = [f"{name}{i}" for name in ("size", "out", "step") for i in range(rank)]
    return ("x", "w", "y", "batch", "x_image", "x_channel", *axes, "shared", "scratch",
            "scratch_bytes")  # fmt: skip


def conv_sizes(code: Code, spec: ConvSpec, batch: Val, out: Sequence[Val]) -> Sizes:
    """The sizes by which a convolution's kernel is planned."""
    pixels = code.i64(1)
    for size in out:
        pixels = code.mul(pixels, size)
    filters = code.i64(spec.filters // spec.groups)
    return Sizes(filters, pixels, code.i64(spec.taps), code.mul(batch, spec.groups))


class ConvSlots(Slots):
    """A convolution's slots, also under the names of the product it is: w is A, patches are B."""

    def __init__(self, code: Code, spec: ConvSpec) -> None:
        self.conv = spec
        self.code, self.spec = code, spec.product()
        self.data, self.begin, self.end, worker = code.args[:4]
        self._values = {name: self._load(name) for name in slot_names(spec.rank)}
        own = self._values
        self.out = [own[f"out{i}"] for i in range(spec.rank)]
        self.size = [own[f"size{i}"] for i in range(spec.rank)]
        self.step = [own[f"step{i}"] for i in range(spec.rank)]
        sizes = conv_sizes(code, spec, own["batch"], self.out)
        own |= {
            "a": own["w"], "b": own["x"], "c": own["y"], "m": sizes.m, "n": sizes.n,
            "k": sizes.k, "a_m": sizes.k, "a_k": code.i64(1), "b_k": own["x_channel"],
            "b_n": code.i64(1), "c_m": sizes.n, "batch": sizes.batch,
            "a_batch": code.i64(0), "b_batch": own["x_image"],
            "c_batch": code.mul(sizes.m, sizes.n),
        }  # fmt: skip
        self._finish_loading(worker)

    @property
    def first_extra(self) -> int:
        return len(slot_names(self.conv.rank))

    def grid(self, tiles: Val, panels: Val) -> tuple[Val, Val]:
        """Rows of tiles, or columns of panels where there are more of them."""
        code, one = self.code, self.code.i64(1)
        high = code.compare("arith.cmpi", "sge", tiles, panels)
        return code.select(high, tiles, one), code.select(high, one, panels)

    def place(self, row: Val, batch: Val) -> tuple[Val, Val]:
        """The channel in the whole result, and the image."""
        image, group = self.image_and_group(batch)
        return self.code.add(row, self.code.mul(group, self.sizes.m)), image

    def image_and_group(self, batch: Val) -> tuple[Val, Val]:
        """Which image and group matrix `batch` is."""
        code, groups = self.code, self.conv.groups
        if groups == 1:
            return batch, code.i64(0)
        count = code.i64(groups)
        return code.binary("arith.divui", batch, count), code.binary("arith.remui", batch, count)

    def x_base(self, batch: Val) -> Val:
        """The first channel that matrix `batch` reads."""
        code, conv = self.code, self.conv
        image, group = self.image_and_group(batch)
        channel = code.mul(group, conv.channels // conv.groups)
        index = code.add(code.mul(image, self["x_image"]), code.mul(channel, self["x_channel"]))
        return code.at(self["x"], index, memory_type(conv.x))

    def _load(self, name: str) -> Val:
        code, conv = self.code, self.conv
        known: dict[str, int | None] = {"batch": conv.batch}
        for i in range(conv.rank):
            known |= {f"size{i}": conv.sizes[i], f"out{i}": conv.out_sizes[i]}
        if conv.unit_step:
            known[f"step{conv.rank - 1}"] = 1
        value = known.get(name)
        if value is not None:
            return code.i64(value)
        kind = "!llvm.ptr" if name in ("x", "w", "y", "shared", "scratch") else "i64"
        return code.load(code.at(self.data, slot_names(conv.rank).index(name), "i64"), kind, 8)
