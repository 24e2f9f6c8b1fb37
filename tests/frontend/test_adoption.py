"""Arrays made inside a traced function by plain NumPy, then written with traced values."""

import builtins
import contextlib
import threading

import numpy as np
import pytest

import graphmill as gm
from graphmill.frontend.trace import trace
from tests.frontend.comparing import agree, failure

TABLE = np.arange(10.0)


def written_outside(x):
    TABLE[0] = x[0]
    return TABLE


def filled_in_a_loop(x):
    out = np.zeros(4)
    for i in range(4):
        out[i] = x[i] * 2
    return out


def histogram(x):
    counts = np.zeros(3)
    counts[np.argmax(x) % 3] += x[0]
    return counts


def rows(x):
    table = np.empty((3, 4), dtype=x.dtype)
    for i, row in enumerate(table):
        table[i] = x * i + row.size
    return table


def chosen_by_host_values(x):
    order = np.zeros(4, int)
    order[:] = [3, 1, 0, 2]
    out = np.zeros(4)
    for i in np.arange(4):
        if order[i] > 1:
            out[order[i]] = x[i]
    return out, x[order], [int(i) for i in order]


def masked(x):
    keep = np.array([True, False, True, False])
    out = np.full(4, 7.0)
    out[keep] = x[keep]
    return out, x[~keep]


def recurrence(x):
    a = np.ones(5)
    for i in range(1, 5):
        a[i] = a[i - 1] * x[i - 1] + 1
    return a


def matrix(x):
    c, s = np.cos(x[0]), np.sin(x[0])
    return np.array([[c, -s], [s, c]]), np.array([x[0], 2, True]), np.array([x, x * 2])


def copies(x):
    y, z = np.array(x), np.asarray(x)
    y[0] = 5
    return x, y, z, np.copy(x), np.array(TABLE)[np.argmax(x)]


def ramp(x):
    t = np.linspace(0, 1, 4)
    t[0] = x[1]
    return t, np.eye(2, dtype=np.float32)


def read_back(x):
    sizes = np.zeros(2)
    sizes[0] = 2
    out = np.zeros(int(sizes[0]))
    out[0] = x[0]
    return out, x[: int(sizes[0])], sizes.tolist(), sizes[0].item(), float(sizes.max())


FUNCTIONS = [
    filled_in_a_loop, histogram, rows, chosen_by_host_values, masked, recurrence, matrix, copies,
    ramp, read_back,
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_like_numpy(function, dtype):
    agree(function, np.array([0.5, -1, 3, 2], dtype), rtol=1e-6)


def test_numpy_is_left_as_it_was():
    before, length = {name: getattr(np, name) for name in dir(np)}, builtins.len
    gm.jit(filled_in_a_loop)(np.ones(4))
    assert failure(written_outside, "f8[4]").code == "GM004"
    assert all(getattr(np, name) is value for name, value in before.items())
    assert builtins.len is length


def test_functions_that_need_nothing_are_run_once():
    runs = []

    def plain(x):
        runs.append(type(np.zeros(3)))
        return x + np.zeros(3)

    trace(plain, ("f8[3]",))
    assert runs == [np.ndarray]


def test_other_threads_get_numpys_arrays():
    seen, inside, done = [], threading.Event(), threading.Event()

    def other():
        inside.wait(100)
        seen.append((type(np.zeros(2)), type(np.array([1]))))
        done.set()

    def function(x):
        out = np.zeros(2)
        if type(out) is not np.ndarray:
            inside.set()
            done.wait(100)
        out[0] = x[0]
        return out

    thread = threading.Thread(target=other)
    thread.start()
    trace(function, ("f8[2]",))
    thread.join()
    assert seen == [(np.ndarray, np.ndarray)]


@pytest.mark.parametrize(
    ("function", "code", "hint"),
    [
        (written_outside, "GM004", "np.array(a)"),
        (lambda x: TABLE[np.argmax(x)], "GM004", "np.asarray(array)"),
        (lambda x: np.zeros(int(x[0])) + x, "GM002", ".astype(np.int64)"),
        (lambda x: [0, 1][np.argmax(x)], "GM002", "gm.fori_loop"),
        (lambda x: np.zeros(3)[int(x[0])], "GM002", ".astype(np.int64)"),
    ],
)
def test_what_stays_an_error(function, code, hint):
    problem = failure(function, "f8[4]")
    assert problem.code == code and hint in problem.hint and problem.location is not None


def test_a_value_in_a_host_array_is_unknown_once_a_traced_one_is_written():
    def function(x):
        out = np.zeros(2)
        out[0] = x[0]
        return 1 if out[1] > 0 else out

    assert failure(function, "f8[4]").code == "GM001"


def test_errors_of_the_users_own_pass_through():
    def function(x):
        with contextlib.suppress(TypeError):
            np.zeros(2)[0] = x[0]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        trace(function, ("f8[4]",))


def test_compiled_and_differentiated():
    x = np.array([0.5, -1, 3, 2])
    np.testing.assert_allclose(gm.jit(recurrence)(x), recurrence(x))
    np.testing.assert_allclose(gm.jit(recurrence)(x + 1), recurrence(x + 1))
