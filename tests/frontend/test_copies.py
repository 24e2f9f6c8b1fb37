"""Which functions give new arrays and which give views, told by writing to one of the two."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphmill.frontend.trace import trace
from tests.frontend.comparing import run

# also where there is nothing to do: one array, no shift, no width, an axis of one element
FUNCTIONS = """
np.roll(x, 0); np.roll(x, 1); np.roll(x, -1, axis=0); np.roll(x, x.shape[0]); np.tile(x, 1); np.tile(x, (1, 1));
np.repeat(x, 1, axis=0); np.concatenate([x]); np.concatenate([x, x[:0]]); np.hstack([x]); np.vstack([x]);
np.dstack([x]); np.column_stack([x]); np.stack([x])[0]; np.block([x]); np.r_[x]; np.append(x, []); np.pad(x, 0);
np.clip(x, None, 1e9); np.sort(x); np.cumsum(x, axis=0); np.take(x, [0]); x[[0]]; x[np.arange(x.shape[0])];
np.copy(x); np.array(x); np.asarray(x); +x; x**1; x * 1; abs(x); x.real; np.round(x, 2); np.nan_to_num(x);
np.nan_to_num(x, copy=False); np.triu(x); np.diag(x); np.broadcast_to(x, x.shape); x.flatten();
x.sum(axis=()); np.max(x, axis=()); x.T; np.split(x, 1)[0]; np.swapaxes(x, 0, -1); np.expand_dims(x, 0);
np.squeeze(x); np.where(x == x, x, 0); np.maximum(x, x); np.select([x == x], [x]); np.flip(x); x[::-1];
np.rot90(np.atleast_2d(x), 4); np.moveaxis(x, 0, 0); np.conj(x); x.astype(x.dtype); x.view();
x[...]; x[None][0]; np.meshgrid(x)[0]; np.resize(x, x.shape); np.delete(x, []); np.insert(x, 0, []);
np.choose(np.zeros(x.shape, int), [x]); np.full_like(x, x); np.full(x.shape, x); np.full((2, *x.shape), x);
np.add.accumulate(x); np.minimum.reduce(np.stack([x])); np.diff(x, 0); x.sum(0, keepdims=True); x.max(0, keepdims=True)
""".replace("\n", " ")  # noqa: E501


@pytest.mark.parametrize("text", [text.strip() for text in FUNCTIONS.split(";")])
def test_what_is_written_is_seen_where_numpy_shows_it(text: str) -> None:
    made: Callable[[Any], Any] = eval(f"lambda x: {text}", {"np": np})

    def source_written(x: Any) -> Any:
        y = made(x)
        x[...] = x * 0
        return y * 1

    def result_written(x: Any) -> Any:
        y = made(x)
        y[...] = y * 0
        return x * 1

    for shape in ((1,), (3,), (1, 1), (2, 2), (1, 3)):
        x = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
        for function in (source_written, result_written):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    wanted = function(x.copy())
            except (ValueError, TypeError, IndexError, DeprecationWarning):
                continue  # a number, or a view that is not to be written to
            np.testing.assert_array_equal(run(trace(function, (x,)), x), wanted)
