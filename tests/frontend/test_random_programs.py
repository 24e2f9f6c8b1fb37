"""Random straight-line programs, with in-place writes and views, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmill.frontend.errors import GraphmillError
from graphmill.frontend.trace import trace
from tests.frontend.comparing import run, same

SHAPE = (3, 4)
DTYPES = ["f8", "f4", "i8", "i4", "u1", "?"]


def _put(x: Any, key: Any, value: Any) -> None:
    x[key] = value


def _add_into(x: Any, key: Any, value: Any) -> None:
    x[key] += value


# Makes a new array or a view from two arrays of any shapes that occur.
MAKERS: list[Any] = [
    lambda a, b: a + b, lambda a, b: a * 2, lambda a, b: np.maximum(a, b), lambda a, b: a / 3,
    lambda a, b: np.where(a > b, a, b), lambda a, b: a[::-1], lambda a, b: a[1:],
    lambda a, b: a.T.T,
    lambda a, b: a[:, 1:] if a.ndim > 1 else a[1:], lambda a, b: a.swapaxes(0, -1),
    lambda a, b: a.astype("f4"), lambda a, b: a.astype("i2"), lambda a, b: a.copy(),
    lambda a, b: np.cumsum(a, axis=0), lambda a, b: a.sum(0, keepdims=True) - a,
    lambda a, b: np.concatenate([a, a])[::2], lambda a, b: np.roll(a, 1, 0), lambda a, b: -(a * 1),
    lambda a, b: np.sort(a, axis=0), lambda a, b: a[[0, -1]], lambda a, b: np.expand_dims(a, 0)[0],
    lambda a, b: a == b, lambda a, b: np.zeros_like(a), lambda a, b: a.max() - a,
    lambda a, b: np.clip(a, 0, 2), lambda a, b: a**2, lambda a, b: abs(a * 1.0),
    lambda a, b: a // 2,
    lambda a, b: np.moveaxis(a, 0, -1), lambda a, b: np.flip(a, -1), lambda a, b: a.mean() + b,
    lambda a, b: np.squeeze(a[None]), lambda a, b: np.take(a, [1, 0], axis=0),
]  # fmt: skip
# Writes into the first array.
WRITERS: list[Any] = [
    lambda a, b: _put(a, 0, 1), lambda a, b: _put(a, slice(1, None), 3),
    lambda a, b: _add_into(a, slice(None, None, 2), 2), lambda a, b: _put(a, Ellipsis, b),
    lambda a, b: _put(a, [0, 1], 7), lambda a, b: _put(a, a > 1, 0),
    lambda a, b: _add_into(a, a > 2, 1), lambda a, b: np.add(a, b, out=a),
    lambda a, b: np.multiply(a, 2, out=a), lambda a, b: a.__iadd__(1), lambda a, b: a.sort(axis=0),
    lambda a, b: a.fill(2), lambda a, b: np.add.at(a, ([0, 0],), 1), lambda a, b: _put(a[0], 0, 5),
    lambda a, b: _put(a, slice(None, None, -1), a * 1), lambda a, b: np.copyto(a, b),
]  # fmt: skip

STEP = st.tuples(
    st.booleans(), st.integers(0, len(MAKERS) - 1), st.integers(0, len(WRITERS) - 1),
    st.integers(0, 9), st.integers(0, 9),
)  # fmt: skip


def execute(steps: Any, x: Any, y: Any) -> Any:
    """Run a program; a step that does not fit its arrays does nothing."""
    held = [x * 1, y * 1]
    for writes, maker, writer, i, j in steps:
        a, b = held[i % len(held)], held[j % len(held)]
        try:
            if writes:
                WRITERS[writer](a, b)
            else:
                held.append(MAKERS[maker](a, b))
        except GraphmillError as problem:
            if problem.code in ("GM023", "GM031"):
                raise
        except (TypeError, ValueError, IndexError, OverflowError):
            pass
    return [h * 1 if h.dtype != bool else ~h for h in held]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(STEP, min_size=1, max_size=8), st.sampled_from(DTYPES), st.sampled_from(DTYPES),
    st.integers(0, 99),
)  # fmt: skip
def test_random_programs(steps: Any, first: str, second: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 5, SHAPE).astype(first)
    y = rng.integers(0, 5, SHAPE).astype(second)
    with np.errstate(all="ignore"):
        wanted = execute(steps, x, y)
    traced = trace(lambda x, y: execute(steps, x, y), (x, y))
    same(run(traced, x, y), wanted, rtol=1e-6)
