"""Reading and writing by index: fixed cases, and random ones against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmill.frontend.trace import trace
from tests.frontend.comparing import agree, failure, run, same

X = np.arange(120.0).reshape(4, 5, 6)
A = np.array([1, 0, 3])
B = np.array([[0, 2], [1, 3]])
KEYS: list[Any] = [
    0, -1, slice(1, None), slice(None, None, -1), (0, 1), (1, 2, 3), Ellipsis, None, (),
    (slice(None, None, -2), slice(1, 4, 2)), (Ellipsis, 1), (None, slice(None), 2), (-1, 2),
    (slice(3, 1),), (slice(-3, -1), slice(None, None, 3)), (0, Ellipsis, None, -1),
    A, B, (slice(None), A), (slice(None), slice(None), A), (0, slice(None), A), (A, None, A),
    (A, A), (A, slice(None), A), (slice(None), A, None, A), (slice(None), A, A, None),
    (None, slice(None), A, A), ([1, 2],), [], (slice(1, 3), B), (A[:, None], B[0]),
    (None, A, slice(None), None, A, None), (slice(None), None, A, slice(2, 5)), (B, 1),
    (1, B), (1, slice(None), B), (A, Ellipsis), np.array(2), np.int64(-2), A.astype("u1"),
    A.astype("i2") - 2, (slice(None), [True, False, True, True, False]), X > 50,
    (X[:, :, 0] > 50,), (X[:, 0, 0] > 20, 1), (slice(None, None, -1), A), (slice(5, None, -2), 0),
    (slice(None), slice(4, 1, -1), slice(-1, -9, -2)), (slice(0, 0), A[:0]),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_reading(key: Any) -> None:
    agree(lambda x: x[key], X)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_writing(key: Any) -> None:
    def f(x: Any) -> Any:
        x = x * 1
        x[key] = 5
        x[key] += 2
        y = x[key] * 2
        x[key] = y
        return x

    agree(f, X)


@pytest.mark.parametrize("key", KEYS[:12], ids=str)
def test_traced_numbers_index_as_known_ones(key: Any) -> None:
    def f(x: Any, i: Any) -> Any:
        x = x + 0
        at = (i, *(key if isinstance(key, tuple) else (key,)))
        if Ellipsis in at[1:] or len(at) > 3:
            at = (i, 1)
        y = x[at] + 0
        x[at] = 7
        return x, y

    agree(f, X, 2)
    agree(f, X, -1)


def test_traced_arrays_index() -> None:
    agree(lambda x, i, j: (x[i], x[i, i], x[:, i, :], x[0, j], x[i[0]], x[i[0], :, j]), X, A, B)


MASKED: list[Any] = [
    (Ellipsis, X[0] > 20), (slice(None), X[0, :, 0] > 8), (Ellipsis, X[0, 0] > 3),
    (slice(None), X[0] > 9, Ellipsis), (X[:, 0, 0] > 9, slice(None), slice(None)),
    (X > 60, Ellipsis), (Ellipsis, X[0, 0] > 99), (slice(None), slice(None), X[0, 0] > 2),
]  # fmt: skip


@pytest.mark.parametrize("key", MASKED, ids=str)
def test_masks_among_full_slices(key: Any) -> None:
    """A mask that is an argument, and the same one known while tracing."""
    at = next(i for i, item in enumerate(key) if isinstance(item, np.ndarray))

    def f(x: Any, mask: Any, value: Any) -> Any:
        x, y, z = x * 1, x * 1, x * 1
        x[(*key[:at], mask, *key[at + 1 :])] = 7
        y[(*key[:at], mask, *key[at + 1 :])] = value
        z[key] = value[None]
        return x, y, z

    agree(f, X, key[at], np.float32(3))


def test_known_indices_write_one_value_as_a_mask() -> None:
    def f(x: Any) -> Any:
        x = x * 1
        x[..., *np.triu_indices(5, 1, 6)] = -np.inf
        x[:, np.array([1, -1])] = 4
        return x

    agree(f, X)
    assert "scatter" not in str(trace(f, (X,)).function)


def test_traced_mask_writes() -> None:
    def f(x: Any) -> Any:
        x = x + 0
        x[x > 50] = -1
        x[x[:, :, 0] > 20] = np.arange(6)
        x[x[:, 0, 0] < 0] = 3.5
        return x

    agree(f, X)


def test_elements_under_a_traced_mask() -> None:
    def f(x: Any) -> Any:
        x = x + 0
        x[x > 50] += 1
        low = x < 20
        x[low] = np.sqrt(abs(x[low])) * 2 - 1
        rows = x[:, 0, 0] > 30
        x[rows] *= np.arange(6)
        chosen = x[x > 3]
        sums = (
            chosen.sum(),
            chosen.mean(),
            np.max(chosen),
            chosen.min(),
            chosen.size,
            (chosen > 9).any(),
        )
        return x, sums, np.sum(x[rows], axis=0), x[rows].std()

    agree(f, X, rtol=1e-12)


def test_values_broadcast_and_cast() -> None:
    def f(x: Any) -> Any:
        x = (x + 0).astype(int)
        x[0] = np.arange(6) + 0.9
        x[1:, 0] = np.ones((1, 1, 6))
        x[..., 0] = True
        x[:, 1] = x[:, 2]
        return x

    agree(f, X)


def views(x: Any) -> Any:
    x = x * 1
    y = x[1:]
    y[0] = 1
    z = y.T
    z[0] += 3
    every = x[::2]
    every *= 2
    x[1:-1] += x[:-2]
    x.T[2, 1] = 50
    row = x[0]
    np.negative(row, out=row)
    np.squeeze(x[None])[3] = 9
    x.swapaxes(0, 1)[1] = -3
    np.moveaxis(x, 0, -1)[0, 0] = 8
    np.expand_dims(x, 0)[0, 2, 2] = 77
    np.flip(x, 1)[0, 0] = 66
    parts = np.split(x, 2)
    parts[1][0] = 4
    x[0][1][2] = 123
    x[1, 2][3] += 1
    return x + 0, y + 0, z + 1, every, row, parts


def test_views_read_and_write_through() -> None:
    agree(views, X)


def test_a_view_follows_its_base() -> None:
    def f(x: Any) -> Any:
        x = x + 0
        late, mirrored = x[1:], x.T
        x[2] = 0
        first = late * 1
        x += 1
        return late, mirrored * 2, first

    agree(f, X)


def test_a_view_stored_into_its_base_is_read_first() -> None:
    def f(x: Any) -> Any:
        x = x + 0
        turned = x[::-1]
        x[0] = 1
        x[...] = turned
        np.copyto(x, turned)
        x[1:] = x[:-1]
        return x, turned

    agree(f, X)


def test_copies_do_not_follow() -> None:
    def f(x: Any) -> Any:
        x = x + 0
        a, b, c, d = x[1:].copy(), x[[0, 1]], x.flatten(), x[x > 0] if False else x + 0
        x[...] = 0
        a[0] = 1
        return x, a, b, c, d

    agree(f, X)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (lambda y: (y.__setitem__(0, 1), x + 1))(x.reshape(-1)),
        lambda x: (lambda y: (x.__setitem__(0, 1), y + 1))(x.reshape(-1)),
        lambda x: (lambda y: (x.__setitem__(0, 1), y + 1))(x[1:].ravel()),
        lambda x: np.broadcast_to(x, (2, *x.shape)).__setitem__(0, 1),
        lambda x: np.diagonal(x).__setitem__(0, 1),
    ],
)
def test_unclear_sharing_is_an_error(f: Any) -> None:
    assert failure(f, X).code == "GM023"


def test_writing_a_reshaped_array_alone_is_fine() -> None:
    def f(x: Any) -> Any:
        x = (x + 0).reshape(20, 6)
        x[0] = 1
        x += 2
        return x

    agree(f, X)


@pytest.mark.parametrize(
    ("f", "code"),
    [
        (lambda x: x[9], "GM020"), (lambda x: x[1.5], "GM020"), (lambda x: x[0, 0, 0, 0], "GM020"),
        (lambda x: x[A * 9], "GM020"), (lambda x: x["a"], "GM020"),
        (lambda x: x[..., ...], "GM020"),
        (lambda x: x[x > 3], "GM021"), (lambda x: len(x[x > 3]), "GM021"),
        (lambda x: np.sort(x[x > 3]), "GM021"), (lambda x: x[x > 3] + x[x > 4], "GM021"),
        (lambda x: x[x > 3][0], "GM021"), (lambda x: x[x > 3] + np.ones(9), "GM021"),
        (lambda x: x.__setitem__(x > 4, x[x > 3]), "GM021"), (lambda x: x[x[0] > 3], "GM014"),
        (lambda x: x[x > 3].reshape(2, -1), "GM021"), (lambda x: list(x[x > 3]), "GM021"),
        (lambda x: x[True], "GM021"),
        (lambda x: x[: x[0, 0, 0].astype(int)], "GM022"), (lambda x: x[::0], "GM020"),
        (lambda x: x.__setitem__(0, np.ones(7)), "GM014"),
        (lambda x: x.__setitem__(x > 0, np.ones(3)), "GM021"),
        (lambda x: x.__setitem__(0, 1j), "GM018"), (lambda x: x[np.ones(3, bool)], "GM020"),
        (lambda x: x[np.ones(2)], "GM020"), (lambda x: x[x], "GM020"),
    ],
)  # fmt: skip
def test_wrong_indices(f: Any, code: str) -> None:
    assert failure(f, X).code == code


# ---- random keys


def slices(size: int) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-size - 2, size + 2)
    return st.builds(slice, bound, bound, st.none() | st.sampled_from([1, 2, 3, -1, -2, -3]))


def index_arrays(size: int) -> st.SearchStrategy[Any]:
    return st.lists(st.integers(-size, size - 1), min_size=2, max_size=2).map(np.array)


@st.composite
def keys(draw: st.DrawFn) -> tuple[Any, ...]:
    shape = X.shape
    count = draw(st.integers(0, 3))
    key: list[Any] = []
    for size in shape[:count]:
        kind = draw(st.sampled_from(["slice", "slice", "number", "array"]))
        if kind == "slice":
            key.append(draw(slices(size)))
        else:
            number = kind == "number"
            key.append(draw(st.integers(-size, size - 1) if number else index_arrays(size)))
        if draw(st.integers(0, 5)) == 0:
            key.append(None)
    if count < 3 and draw(st.booleans()):
        key.append(Ellipsis)
    return tuple(key)


@settings(max_examples=150, deadline=None)
@given(keys())
def test_random_reads(key: tuple[Any, ...]) -> None:
    agree(lambda x: x[key], X)


@settings(max_examples=100, deadline=None)
@given(keys(), keys(), st.booleans())
def test_random_writes(first: tuple[Any, ...], second: tuple[Any, ...], through: bool) -> None:
    """Two writes, one of them through a view, and views taken before them read after them."""

    def f(x: Any) -> Any:
        x = x * 1
        early = x[second]
        target = x[1:] if through else x
        target[first if not through else (slice(None, 2), *first[1:])] = 3
        x[first] += 1
        x[second] *= 2
        return x, early * 1

    agree(f, X)


@settings(max_examples=100, deadline=None)
@given(slices(7), slices(7), st.integers(0, 3))
def test_random_slices_of_a_symbolic_axis(a: slice, b: slice, low: int) -> None:
    """One trace gives Python's slices at every size."""
    from graphmill.frontend.spec import spec

    def f(x: Any) -> Any:
        y = x * 1
        y[a] = -1
        return x[a], x[a][b], y, x[b] * 2

    traced = trace(f, (spec("f64[n]", n=low),))
    for n in (0, 1, 2, 3, 7, 12):
        if n >= low:
            x = np.arange(float(n))
            same(run(traced, x), f(x))
