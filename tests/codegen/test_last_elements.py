"""A row's last elements are stored without touching what comes after them."""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime import native
from graphmill.runtime.executable import Executable


def narrowed(x):
    kinds = (np.uint8, np.int16, np.float16, ml_dtypes.bfloat16)
    joined = np.concatenate([x, x]).astype(np.uint8)
    return *[x.astype(kind) for kind in kinds], x > 0, joined, x.sum(0).astype(np.int16)


@pytest.mark.parametrize("columns", [1, 2, 3, 16, 17, 18, 33])
def test_nothing_beyond_the_end_is_written(columns):
    """The entry function is called on outputs with guards behind them."""
    x = np.arange(3 * columns, dtype=np.float32).reshape(3, columns)
    traced = gm.jit(narrowed).trace(x).function
    made = Executable(driver.emit(driver.optimise(traced, Options()), Options()), threads=1)
    wanted = narrowed(x)
    buffers = [np.full(want.nbytes + 64, 0xA5, np.uint8) for want in wanted]
    scratch, record = np.zeros(1 << 16, np.uint8), np.zeros(8, np.int64)
    pointers = np.array([a.ctypes.data for a in (x, *buffers)], np.uint64)
    pool = native.pool()
    start = scratch.ctypes.data + -scratch.ctypes.data % 64
    context = np.array([pool.parallel_for, 1, start, record.ctypes.data, 0, pool.now], np.uint64)
    entry = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)(made.code)
    assert entry(context.ctypes.data, pointers.ctypes.data, None) == 0
    for want, buffer in zip(wanted, buffers, strict=True):
        np.testing.assert_array_equal(buffer[: want.nbytes], want.reshape(-1).view(np.uint8))
        assert (buffer[want.nbytes :] == 0xA5).all(), want.dtype
