"""Random programs over arrays of an open length n, as text, and awkward arguments for them.

`program(seed)` computes from vectors `x`, `y` [n], a matrix `z` [n, 4], weights `w` [4] and `M`
[4, 4], all of one dtype. Elements are eighths or small integers. `awkward` lays an argument out
as few callers do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from graphmill.records import record
from tests.differential.ranked import shifted, stepped

Array = np.ndarray[Any, Any]

OPEN = {"x": ("n",), "y": ("n",), "z": ("n", None)}
DTYPES = ("f4", "f4", "f8", "f2", "i4", "i8", "u1", "i1", "?", "u4")
LONG = 1000  # elements, of which short floats can no longer be added up

# what makes a vector [n] of vectors a, b and a matrix Z [n, 4]
VECTORS = (
    "{a} + {b}", "{a} * {b}", "np.maximum({a}, {b})", "np.where({a} > {b}, {a}, {b})",
    "{a}[::-1]", "np.cumsum({a})", "{a} - {a}.mean()", "np.sort({a})", "{Z}.sum(axis=1)",
    "{Z}.max(axis=1, initial=0)", "{Z}[:, 0]", "{Z} @ w", "np.roll({a}, 3)",
    "np.concatenate([{a}, {b}])[:{a}.shape[0]]", "np.concatenate([{a}[1:], {a}[:1]])",
    "{a} / ({b} * {b} + 1)", "abs({a})", "np.tanh({a})", "{a}.astype('f8')", "{a} + {Z}.sum()",
    "({a} @ {Z})[0] + {a}", "np.argmax({Z}, axis=1)", "({a} > 1).sum() + {b}",
    "np.any({Z} > 2, axis=1)", "{a}.astype('f4')", "{a}.astype('i4')", "abs({a}).astype('u1')",
    "{a}.astype('f2')", "{a}.astype('i8')",
)  # fmt: skip
MATRICES = (
    "{Z} * 2", "{Z} + {a}[:, None]", "{Z} @ M", "np.exp({Z} - {Z}.max(axis=1, keepdims=True))",
    "{Z}[::-1]", "{Z} / (1 + {Z}.sum(axis=1, keepdims=True) ** 2)", "{Z} @ M + {Z} * {a}[:, None]",
    "np.cumsum({Z}, axis=0)", "{Z}.T.copy().T", "np.sort({Z}, axis=0)",
)  # fmt: skip
RESULTS = (
    "{a}", "{Z}", "{a}.sum()", "{Z}.sum(axis=0)", "{Z}.T @ {Z}", "{a}[1:] - {a}[:-1]",
    "{Z}.reshape(-1)", "np.outer({a}[:5], {a}[:5])",
)  # fmt: skip


@record
class Program:
    """A function's text, and the dtype of its arguments."""

    text: str
    dtype: str

    def function(self) -> Callable[..., Any]:
        names: dict[str, Any] = {"np": np}
        exec(compile(self.text, "<random arrays>", "exec"), names)
        return names["f"]  # type: ignore[no-any-return]

    def arrays(self, n: int) -> list[Array]:
        """Arguments of length n."""
        rng = np.random.default_rng(n)
        shapes = (n,), (n,), (n, 4), (4,), (4, 4)
        if np.dtype(self.dtype).kind == "f":
            return [(rng.integers(-8, 9, s) / 8).astype(self.dtype) for s in shapes]
        return [rng.integers(0, 5, s).astype(self.dtype) for s in shapes]

    def want(self, n: int) -> Any:
        """What NumPy computes of the arguments of length n."""
        with np.errstate(all="ignore"):
            return self.function()(*self.arrays(n))


def program(seed: int) -> Program:
    """The first of the seed's programs that NumPy runs."""
    rng = random.Random(seed)
    while True:
        made = Program(_text(rng), rng.choice(DTYPES))
        try:
            made.want(7)
        except TypeError:
            continue  # a dtype that an operation does not take
        return made


def _text(rng: random.Random) -> str:
    vectors, matrices, lines = ["x", "y"], ["z"], ["def f(x, y, z, w, M):"]

    def filled(template: str, last: int = 99) -> str:
        a, b = rng.choice(vectors[-last:]), rng.choice(vectors[-last:])
        return template.format(a=a, b=b, Z=rng.choice(matrices[-last:]))

    for i in range(rng.randint(2, 7)):
        names, templates = rng.choice(
            ((vectors, VECTORS), (vectors, VECTORS), (matrices, MATRICES))
        )
        lines.append(f"    t{i} = {filled(rng.choice(templates))}")
        names.append(f"t{i}")
    results = [filled(rng.choice(RESULTS), 2) for _ in range(rng.randint(1, 3))]
    return "\n".join([*lines, f"    return {', '.join(results)},\n"])


def read_only(x: Array) -> Array:
    made = x.copy()
    made.flags.writeable = False
    return made


def unaligned(x: Array) -> Array:
    """One byte after an aligned address."""
    made = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    made[...] = x
    return made


def swapped(x: Array) -> Array:
    """The other order of bytes."""
    return x.astype(x.dtype.newbyteorder())


def backwards(x: Array) -> Array:
    step = (slice(None, None, -1),) * x.ndim
    return x[step].copy()[step]


LAYOUTS = (np.copy, stepped, shifted, np.asfortranarray, read_only, unaligned, swapped, backwards)


def awkward(arrays: list[Array], seed: int) -> list[Array]:
    """The same values, laid out in memory by the seed's choice."""
    rng = random.Random(seed)
    return [rng.choice(LAYOUTS)(array) for array in arrays]
