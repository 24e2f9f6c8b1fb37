"""Positions, windows and bins, and arrays put side by side by np.r_ and np.c_."""

import numpy as np
import pytest

from graphmill.frontend.trace import trace
from tests.frontend.comparing import agree, failure, run, same

X = np.array([0.5, -1, 3, 2, 0.25, 7, -2, 1])
M = np.arange(24.0).reshape(4, 6)
windows = np.lib.stride_tricks.sliding_window_view

FUNCTIONS = {
    "unravel": lambda x: np.unravel_index(np.argmax(x), (2, 2, 2)),
    "unravel fortran": lambda x: np.unravel_index(np.argsort(x), (2, 4), order="F"),
    "ravel": lambda x: np.ravel_multi_index((np.argmax(x) % 2, np.argmin(x) % 4), (2, 4)),
    "ravel wrapped": lambda x: np.ravel_multi_index(
        (np.argsort(x), np.argsort(-x)), (3, 5), mode="wrap", order="F"
    ),
    "windows": lambda x: (windows(x, 3), windows(x.reshape(2, 4), (2, 3)), windows(x, 8)),
    "windows of an axis": lambda x: windows(x.reshape(2, 4), 2, axis=1).mean(-1),
    "histogram": lambda x: (np.histogram(x), np.histogram(x, 3), np.histogram(x, 4, (-1, 2))),
    "histogram edges": lambda x: np.histogram(x, np.array([-1.0, 0, 0.5, 3])),
    "histogram weights": lambda x: np.histogram(x, 5, weights=x * 2, density=True),
    "histogram of one value": lambda x: np.histogram(x * 0 + 2, 4),
    "resize": lambda x: (np.resize(x, 11), np.resize(x, (2, 3))),
    "piecewise": lambda x: np.piecewise(x, [x < 0, x > 2], [-1, lambda v: v * 2]),
    "piecewise default": lambda x: np.piecewise(x, [x < 0], [np.abs, lambda v: v + 10]),
    "view": lambda x: (x.view(), x.view(np.int64), x.view("u8") >> np.uint64(60)),
    "side by side": lambda x: (np.c_[x, x * 2], np.r_[x, 0, x], np.c_[x.reshape(2, 4), x[:2]]),
    "with a range": lambda x: (np.r_[0:3, x[0]], np.r_[x[0], x[1]]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_like_numpy(name):
    agree(FUNCTIONS[name], X, rtol=1e-12)


def test_dtypes_as_text_are_numpys():
    agree(lambda x: [x.astype(t) for t in ("i8", "u8", "i4", "u1", "f4", "?", "int16")], abs(X))
    agree(lambda x: np.zeros_like(x, dtype="i8"), X)


def test_a_view_writes_through():
    def written(x):
        y = x.view()
        y[0] = 9
        return x

    agree(written, X)


def test_symbolic_windows():
    traced = trace(lambda x: windows(x, 2).sum(1), ("f8[n]",))
    for n in (2, 5, 1):
        same(run(traced, X[:n]), X[: n - 1] + X[1:n])


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda x: windows(x, 9), "GM025"), (lambda x: windows(x, (2, 2)), "GM025"),
        (lambda x: np.histogram(x, "auto"), "GM011"), (lambda x: np.r_["0,2", x], "GM011"),
        (lambda x: np.piecewise(x, [x > 0], [1, 2, 3]), "GM025"),
        (lambda x: x.view(np.float32), "GM018"), (lambda x: np.float32(x[0]), "GM004"),
        (lambda x: np.ravel_multi_index((x[0], x[1]), (2, 2), mode="clip"), "GM011"),
    ],
)  # fmt: skip
def test_errors(function, code):
    assert failure(function, X).code == code


def test_added_in_place_to_a_host_array():
    def summed(x):
        total = np.zeros(8)
        count = np.zeros(8, int)
        for _ in range(3):
            total += x
            count += x > 0
        np.add(total, 1, out=total)
        return total, count, np.add(x, 1, out=np.zeros(8), where=x > 0)

    agree(summed, X)


def test_libraries_without_frames_get_numpys_arrays():
    def mixed(x):
        noise = np.random.default_rng(0).normal(size=3)
        out = np.zeros(3)
        out[0] = x[0]
        return out + noise, type(noise) is np.ndarray and noise

    agree(mixed, X)
