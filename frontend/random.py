"""Random numbers, `gm.random`: functions of a key; the same key gives the same numbers.

A key is a u64[2] array: the key and the stream of the counter-based generator Philox4x32-10
(Salmon et al., SC 2011). Each element is a function of the key and its own index, so that results
do not depend on the number of threads. Use a key once: `split` makes new ones, `fold_in` one for a
step of a loop. Outside of a traced function the same calls compute the same numbers with NumPy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend.core import (
    Tracer,
    apply,
    as_dtype,
    as_tracer,
    astype,
    broadcast_shapes,
    constant,
    emit,
)
from graphmill.frontend.describe import failure
from graphmill.frontend.eager import Array, layer
from graphmill.frontend.reductions import argmax
from graphmill.frontend.selecting import take
from graphmill.frontend.sizes import Size
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, bf16, f16, f32, f64, i64, u32, u64

__all__ = [
    "bernoulli", "bits", "categorical", "fold_in", "key", "normal", "permutation", "randint",
    "split", "uniform",
]  # fmt: skip

# what tells apart the streams of one key for different purposes
_SPLIT, _FOLD, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# significant bits of a uniform number, and the bits it is drawn from
_DIGITS: dict[DType, tuple[int, DType]] = {
    f16: (11, u32), bf16: (8, u32), f32: (24, u32), f64: (53, u64),
}  # fmt: skip


@layer
def key(seed: Any) -> Array:
    """A key, u64[2], from an integer (known or traced)."""
    if isinstance(seed, int):
        return constant(np.array([seed & (2**64 - 1), 0], np.uint64))
    x = as_tracer(seed)
    if x.dims or not x.element.is_integer:
        raise failure("GM025", f"seed {x.type}", [seed], hint="a seed is one integer.")
    return emit("pad", emit("reshape", astype(x, u64), shape=(1,)), as_tracer(0, u64),
                low=(0,), high=(1,), interior=(0,))  # fmt: skip


@layer
def split(key: Array, num: Any = 2) -> Array:
    """`num` new keys, u64[num, 2], independent of the old one's numbers."""
    return _bits(_stream(key, _SPLIT), (ax.dim(num, "num"), 2), u64)


@layer
def fold_in(key: Array, data: Any) -> Array:
    """A new key for an integer (known or traced), such as the step of a loop."""
    x = as_tracer(data)
    if x.dims or not x.element.is_integer:
        raise failure("GM025", f"fold_in of {x.type}", [data], hint="fold in one integer.")
    place: Any = np.multiply(constant(np.array([0, 1], np.uint64)), astype(x, u64))
    return _bits(_stream(key, _FOLD) + place, (2,), u64)


@layer
def bits(key: Array, shape: Any = (), dtype: Any = np.uint32) -> Array:
    """Uniform random bits as uint32 or uint64; sizes may be symbolic."""
    of = as_dtype(dtype)
    if of not in (u32, u64):
        raise failure("GM015", f"random bits as {of}", hint="use uint32 or uint64.")
    return _bits(_key(key), ax.shape(shape), of)


@layer
def uniform(
    key: Array, shape: Any = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = np.float32
) -> Array:
    """Floats in [low, high), evenly spaced 2**-24 (f32) or 2**-53 (f64) of the range apart."""
    of = _float("uniform", dtype)
    unit: Any = _unit(_key(key), ax.shape(shape), of)
    if isinstance(low, int | float) and isinstance(high, int | float) and (low, high) == (0, 1):
        return unit
    first, last = (astype(as_tracer(v, of), of) for v in (low, high))
    spread: Any = np.subtract(last, first)
    below = emit("nextafter", last, first) if of.bits > 16 else last
    return np.minimum(unit * spread + first, below)


@layer
def normal(key: Array, shape: Any = (), dtype: Any = np.float32) -> Array:
    """Floats of the standard normal distribution (Box and Muller 1958)."""
    of = _float("normal", dtype)
    inner, source = (f64, u64) if of is f64 else (f32, u32)
    wanted = ax.shape(shape)
    # from (0, 1], so that the logarithm is finite and reaches far into the tail
    raw: Any = astype(_bits(_key(key), wanted, source), inner)
    first = (raw + 0.5) * 2.0**-source.bits
    second: Any = _unit(_stream(key, _SECOND), wanted, inner)
    radius = np.sqrt(np.log(first) * -2.0)
    return astype(radius * np.cos(second * (2 * math.pi)), of)


@layer
def randint(key: Array, shape: Any, low: Any, high: Any, dtype: Any = np.int64) -> Array:
    """Integers in [low, high); their chances differ by less than (high - low) / 2**64."""
    of = as_dtype(dtype)
    if not of.is_integer:
        raise failure("GM015", f"randint as {of}", hint="use an integer dtype.")
    if isinstance(low, int) and isinstance(high, int) and low >= high:
        raise failure("GM025", f"no integers in [{low}, {high})", hint="high is above low.")
    first, last = (astype(as_tracer(v, i64), i64) for v in (low, high))
    count = astype(apply("sub", last, first), u64)
    drawn = apply("mod", _bits(_key(key), ax.shape(shape), u64), count)
    return astype(apply("add", astype(drawn, i64), first), of)


@layer
def bernoulli(key: Array, p: Any = 0.5, shape: Any = None) -> Array:
    """Bools, True with probability p (a number or an array, whose shape is the default)."""
    chance = as_tracer(p, f32)
    if not chance.element.is_float:
        raise failure("GM015", f"probabilities as {chance.element}", [p], hint="pass floats.")
    of = f64 if chance.element is f64 else f32
    wanted = chance.dims if shape is None else ax.shape(shape)
    broadcast_shapes(wanted, chance.dims, args=[p])
    return apply("lt", _unit(_key(key), wanted, of), astype(chance, of))


@layer
def permutation(key: Array, x: Any, axis: int = 0) -> Array:
    """0 … x - 1 in random order for a number x; an array with its slices in random order."""
    if isinstance(x, int | Size):
        return _order(key, ax.dim(x, "the number of elements"))
    a = as_tracer(x)
    along = ax.axis(axis, a.ndim, a)
    return take(a, _order(key, a.dims[along]), along)


def _order(key: Array, count: DimLike) -> Tracer:
    """The order that sorts 64 random bits per element (equal ones are as good as impossible)."""
    return emit("argsort", _bits(_key(key), (count,), u64), axis=0, descending=False)


@layer
def categorical(key: Array, logits: Array, axis: int = -1) -> Array:
    """Indices (int64) along an axis, with the probabilities softmax(logits).

    The index of the largest logit plus Gumbel noise (Gumbel 1954; Maddison et al. 2014).
    """
    x = as_tracer(logits)
    if not x.element.is_float:
        raise failure("GM015", f"logits as {x.element}", [logits], hint="pass floats.")
    of = f64 if x.element is f64 else f32
    raw: Any = astype(_bits(_key(key), x.dims, u64 if of is f64 else u32), of)
    unit = (raw + 0.5) * 2.0 ** -(64 if of is f64 else 32)
    # -log(u) of u = 1 rounds to 0: the smallest normal number keeps the noise finite
    rate = np.maximum(np.negative(np.log(unit)), float(np.finfo(of.numpy).tiny))
    return argmax(astype(x, of) - np.log(rate), axis)


# ---- what these share


def _key(key: Array) -> Any:
    state = as_tracer(key)
    if state.element is not u64 or state.dims != (2,):
        raise failure(
            "GM025", f"a key of {state.type}", [key], why="a key is u64[2].",
            hint="make one with gm.random.key(seed); take one row of what split gives.",
        )  # fmt: skip
    return state


def _stream(key: Array, which: int) -> Any:
    """The key with another stream."""
    return emit("xor", _key(key), constant(np.array([0, which], np.uint64)))


def _bits(state: Tracer, shape: tuple[DimLike, ...], of: DType) -> Tracer:
    return emit("rng_bits", state, shape=shape, dtype=of)


def _float(name: str, dtype: Any) -> DType:
    of = as_dtype(dtype)
    if not of.is_float:
        raise failure("GM015", f"{name} as {of}", hint="use a float dtype.")
    return of


def _unit(state: Tracer, shape: tuple[DimLike, ...], of: DType) -> Tracer:
    """Floats in [0, 1): the leading bits of random ones, as many as the dtype holds."""
    digits, source = _DIGITS[of]
    drawn = apply("shr", _bits(state, shape, source), as_tracer(source.bits - digits, source))
    return apply("mul", astype(drawn, of), as_tracer(2.0**-digits, of))
