"""Counter-based random bits: Philox4x32-10 (Salmon et al., SC 2011)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, u32, u64
from graphmill.ir.graph import Region
from graphmill.ir.ops.base import OpDef, TypeRuleError, check_count, register, tensors
from graphmill.ir.types import TensorType, Type

Array = np.ndarray[Any, Any]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def philox(counter: Sequence[Array], key: Sequence[Array]) -> list[Array]:
    """Ten rounds over arrays: four 32-bit counter words and two key words, all as u64."""
    x, k, mask = list(counter), list(key), np.uint64(0xFFFFFFFF)
    for _ in range(ROUNDS):
        a, b = x[0] * np.uint64(MULTIPLIERS[0]), x[2] * np.uint64(MULTIPLIERS[1])
        high_a, high_b = a >> np.uint64(32), b >> np.uint64(32)
        x = [high_b ^ x[1] ^ k[0], b & mask, high_a ^ x[3] ^ k[1], a & mask]
        k = [(k[0] + np.uint64(WEYL[0])) & mask, (k[1] + np.uint64(WEYL[1])) & mask]
    return x


def _infer_bits(
    types: Sequence[Type], attrs: Mapping[str, Any], regions: Sequence[Region]
) -> list[Type]:
    check_count(RNG_BITS, types)
    (state,) = tensors("rng_bits", types)
    if state.dtype is not u64 or state.shape != (2,):
        raise TypeRuleError(f"rng_bits: the state is u64[2] (key, counter), not {state}")
    if attrs["dtype"] not in (u32, u64):
        raise TypeRuleError(f"rng_bits: gives u32 or u64, not {attrs['dtype']}")
    shape: tuple[DimLike, ...] = tuple(attrs["shape"])
    return [TensorType(attrs["dtype"], shape)]


def _bits(state: Array, shape: Sequence[int], dtype: DType) -> Array:
    """Element e takes word e % 4 (u32) or words 2(e % 2), 2(e % 2) + 1 (u64) of its block."""
    count = int(np.prod(shape, dtype=int))
    per_block = 4 if dtype is u32 else 2
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    blocks = np.arange((count + per_block - 1) // per_block, dtype=np.uint64)
    zero = np.zeros_like(blocks)
    with np.errstate(over="ignore"):
        base = np.uint64(state[1])
        words = philox(
            [blocks & mask, blocks >> half, zero + (base & mask), zero + (base >> half)],
            [zero + (np.uint64(state[0]) & mask), zero + (np.uint64(state[0]) >> half)],
        )
    stacked = np.stack(words, -1)
    if dtype is u64:
        stacked = stacked[:, 0::2] | (stacked[:, 1::2] << half)
    return stacked.reshape(-1)[:count].astype(dtype.numpy).reshape(shape)


RNG_BITS = register(
    OpDef(
        "rng_bits", "random", ("state",),
        "Uniform random bits from a state (key, counter); the same state gives the same bits",
        _infer_bits, _bits, attrs={"shape": "dims", "dtype": "dtype"}, fusion="index", flops=60.0,
    )
)  # fmt: skip
