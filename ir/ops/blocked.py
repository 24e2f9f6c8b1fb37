"""Convolution on arrays whose channels are cut into blocks, the innermost axis.

A blocked array `[n, ceil(c / b), *spatial, b]` holds channel `i` at block `i // b`, lane `i % b`;
lanes beyond the last channel hold anything. The layout is that
of Zhang et al., "High Performance Zero-Memory Overhead Direct Convolutions" (2018), and oneDNN's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.ir.dims import product
from graphmill.ir.graph import Region
from graphmill.ir.ops.base import (
    Cost,
    OpDef,
    TypeRuleError,
    check_count,
    is_known,
    register,
    tensors,
)
from graphmill.ir.ops.contract import CONV
from graphmill.ir.ops.reduce import window_sizes
from graphmill.ir.types import TensorType, Type

if TYPE_CHECKING:
    from graphmill.ir.graph import Op

Attrs = Mapping[str, Any]
Array = np.ndarray[Any, Any]


def blocks(channels: int, block: int) -> int:
    """How many blocks hold `channels`."""
    return -(-channels // block)


def lanewise(channels: int, filters: int, groups: int, block: int) -> int:
    """Channels of one group where whole groups lie in a block, so that lanes work on their own:
    1 for a depthwise convolution; 0 where a group is larger, or makes more than it takes."""
    each = channels // groups
    small = groups > 1 and channels == filters and 0 < each < block
    return each if small and not block % each else 0


def _infer(types: Sequence[Type], attrs: Attrs, regions: Sequence[Region]) -> list[Type]:
    check_count(BLOCKED_CONV, types)
    x, w = tensors("blocked_conv", types)
    rank = w.rank - 4
    if x.dtype is not w.dtype:
        raise TypeRuleError(f"blocked_conv: dtypes {x.dtype} and {w.dtype} differ")
    if rank not in (1, 2, 3) or x.rank not in (rank + 2, rank + 3):
        raise TypeRuleError(
            f"blocked_conv: x {x} must be [n, channels / b, *spatial, b] or plain and w {w} "
            "[filters / k, channels / groups / b, *window, b, k], with one to three spatial axes"
        )
    gathered = is_plain(x, w) and w.shape[-2] != 1
    lanes = attrs["groups"] > 1 and w.shape[-2] == 1
    if rank == 3 and (gathered or lanes or not is_known(*x.shape[2:5])):
        raise TypeRuleError(
            f"blocked_conv: with three spatial axes x must be in blocks of one group and of known "
            f"sizes, not {x}"
        )
    if not is_known(x.shape[1], *x.shape[rank + 2 :], *w.shape):
        raise TypeRuleError("blocked_conv: channels and weights must have known sizes")
    _check_channels(x, w, attrs)
    sizes = window_sizes(x.shape[2 : rank + 2], w.shape[2:-2], attrs, "blocked_conv")  # type: ignore[arg-type]
    filters, block = attrs["filters"], attrs["block"]
    if block == 1:
        return [TensorType(x.dtype, (x.shape[0], filters, *sizes))]
    return [TensorType(x.dtype, (x.shape[0], blocks(filters, block), *sizes, block))]


def _check_channels(x: TensorType, w: TensorType, attrs: Attrs) -> None:
    channels, filters, groups = attrs["channels"], attrs["filters"], attrs["groups"]
    block, given = w.shape[-1], block_of(x, w, attrs)
    assert isinstance(block, int)
    lanes = lanewise(channels, filters, groups, block)
    held = channels if is_plain(x, w) else blocks(channels, given)
    inner = lanes or blocks(channels // groups, given)
    wanted = (blocks(filters, block), inner, 1 if lanes else given)
    if x.shape[1] != held or (w.shape[0], w.shape[1], w.shape[-2]) != wanted:
        raise TypeRuleError(
            f"blocked_conv: x {x} and w {w} do not hold {channels} channels and {filters} filters "
            f"in {groups} groups"
        )
    whole = not channels // groups % given and not filters // groups % block
    if channels % groups or filters % groups or not (lanes or groups == 1 or whole):
        raise TypeRuleError(f"blocked_conv: {groups} groups are no whole blocks")
    if lanes and given != block:
        raise TypeRuleError("blocked_conv: a w of groups inside blocks has the block of x")
    if attrs["block"] not in (1, block):
        raise TypeRuleError(f"blocked_conv: the result's block is 1 or that of w, {block}")


def is_plain(x: TensorType, w: TensorType) -> bool:
    """Whether x is `[n, channels, *spatial]`."""
    return x.rank == w.rank - 2


def block_of(x: TensorType, w: TensorType, attrs: Attrs) -> int:
    """The block in which channels of x are read: its own, or where it is plain that of w."""
    lanes = lanewise(attrs["channels"], attrs["filters"], attrs["groups"], w.shape[-1])  # type: ignore[arg-type]
    block = (w.shape[-1] if lanes else w.shape[-2]) if is_plain(x, w) else x.shape[-1]
    assert isinstance(block, int)
    return block


def unblocked(x: Array, channels: int) -> Array:
    """`[n, c / b, *spatial, b]` as `[n, channels, *spatial]`."""
    n, count, *spatial, block = x.shape
    return np.moveaxis(x, -1, 2).reshape(n, count * block, *spatial)[:, :channels]


def blocked(x: Array, block: int) -> Array:
    """`[n, c, *spatial]` as `[n, c / b, *spatial, b]`, zeros in the lanes without a channel."""
    n, c, *spatial = x.shape
    padded = np.zeros((n, blocks(c, block) * block, *spatial), x.dtype)
    padded[:, :c] = x
    parts = padded.reshape(n, blocks(c, block), block, *spatial)
    return np.ascontiguousarray(np.moveaxis(parts, 2, -1))


def blocked_weights(w: Array, given: int, block: int) -> Array:
    """`[filters, c, *window]` as `[filters / k, c / b, *window, b, k]`, zeros where there is none;
    `given` is b, 1 for groups inside blocks."""
    inner = np.moveaxis(blocked(w, given), 0, 1)
    return np.ascontiguousarray(blocked(inner, block).swapaxes(0, 1))


def _reference(
    x: Array, w: Array, strides: Any, low: Any, high: Any, dilation: Any, groups: int,
    channels: int, filters: int, block: int,
) -> Array:  # fmt: skip
    assert CONV.reference is not None
    lanes = lanewise(channels, filters, groups, w.shape[-1])
    given = w.shape[0] * w.shape[-1] if lanes else channels
    taken = lanes or channels // groups
    if x.ndim == w.ndim - 2:
        x = blocked(x, w.shape[-1])
    count, inner, *window, bc, bk = w.shape
    plain = np.moveaxis(w, (-1, -2), (1, 3)).reshape(count * bk, inner * bc, *window)
    result = CONV.reference(
        unblocked(x, given), plain[:, :taken],
        strides=strides, low=low, high=high, dilation=dilation,
        input_dilation=(1,) * len(strides), groups=given // lanes if lanes else groups,
    )  # fmt: skip
    return result[:, :filters] if block == 1 else blocked(result, block)


def _cost(op: Op) -> Cost:
    x, w, result = op.operands[0].tensor, op.operands[1].tensor, op.result.tensor
    window, filters = product(w.shape[2:-2]), op.attrs["filters"]
    places = product((result.shape[0], *result.shape[2 : w.rank - 2]))
    taps = window * (op.attrs["channels"] // op.attrs["groups"])
    return Cost(places * filters * taps * 2, x.nbytes + w.nbytes + result.nbytes)


BLOCKED_CONV = register(
    OpDef(
        "blocked_conv", "contract", ("x", "w"),
        "`conv` on channels in blocks: x [n, c/b, *spatial, b] or plain, with w [o/k, c/groups/b, "
        "*window, b, k] into [n, o/block, *places, block], plain if block is 1; where groups lie "
        "inside blocks, w is [c/b, channels / groups, *window, 1, b]",
        _infer, _reference,
        attrs={"strides": "ints", "low": "ints", "high": "ints", "dilation": "ints",
               "groups": "int", "channels": "int", "filters": "int", "block": "int"},
        kinds="f", fusion="contract", cost=_cost,
    )
)  # fmt: skip
