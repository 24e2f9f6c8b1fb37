"""Random programs of NumPy code with loops over parts of arrays, as text.

`unrolled(seed)` writes Python loops, which a trace unrolls and `roll` finds again; `counted(seed)`
writes the same kinds of statements into `gm.fori_loop`, whose counter is a size, with
`gm.while_loop` and `gm.scan` inside. The arrays are two vectors `a`, `b` of n elements, two n × m
matrices `p`, `q` and a square one, `c`. Floats start as eighths, so that most of what they are
compared with is exact; a program whose results NumPy finds large or not finite is written anew.
"""

from __future__ import annotations

import random
import textwrap
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import graphmill as gm
from graphmill.records import record

LARGEST = 1e4
MORE = 9  # elements than those that a program was written for
DTYPES = ("f8", "f8", "f8", "f4", "f2", "i8", "i4", "u1", "?")
ARGUMENTS = ("a", "b", "p", "q", "c")


@record
class Program:
    """A function's text, and what its arguments are like: as it was written for n elements."""

    text: str
    dtype: str
    n: int
    m: int

    def function(self, loops: Any = gm) -> Callable[..., Any]:
        """The function; `loops` has its `fori_loop`, `while_loop` and `scan`."""
        names: dict[str, Any] = {"np": np, "gm": loops}
        exec(compile(self.text, "<random loops>", "exec"), names)
        return names["f"]  # type: ignore[no-any-return]

    def arrays(self, more: int = 0) -> list[np.ndarray[Any, Any]]:
        """New arguments of n elements and so many more; programs write into them."""
        n, m = self.n + more, self.m
        rng = np.random.default_rng(n)
        shapes = (n,), (n,), (n, m), (n, m), (n, n)
        if np.dtype(self.dtype).kind == "f":
            return [(rng.integers(-8, 9, s) / 8).astype(self.dtype) for s in shapes]
        return [rng.integers(0, 5, s).astype(self.dtype) for s in shapes]

    def want(self, more: int = 0) -> list[np.ndarray[Any, Any]]:
        """What NumPy computes."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return list(leaves(self.function(PlainLoops)(*self.arrays(more))))


class PlainLoops:
    """Graphmill's loops as plain Python; each turn gets arrays of its own, as values are."""

    @staticmethod
    def fori_loop(low: int, high: int, body: Any, state: Any) -> Any:
        for i in range(low, high):
            state = PlainLoops.stable(state, body(i, PlainLoops.own(state)))
        return state

    @staticmethod
    def while_loop(test: Any, body: Any, state: Any) -> Any:
        while test(state):
            state = PlainLoops.stable(state, body(PlainLoops.own(state)))
        return state

    @staticmethod
    def scan(body: Any, state: Any, xs: Any) -> Any:
        made = []
        for x in xs:
            old, (state, y) = state, body(PlainLoops.own(state), x.copy())
            PlainLoops.stable(old, state)
            made.append(y)
        return state, np.array(made)

    @staticmethod
    def stable(before: Any, after: Any) -> Any:
        """The state after a turn, which changes no dtype."""
        if [np.asarray(x).dtype for x in before] != [np.asarray(x).dtype for x in after]:
            raise TypeError("the state changes its type")
        return after

    @staticmethod
    def own(state: Any) -> Any:
        return tuple(np.copy(x) if isinstance(x, np.ndarray) else x for x in state)


def unrolled(seed: int) -> Program:
    """Python loops around one to four statements each, one in another at times."""
    return _suitable(seed, lambda writer: writer.unrolled(), [0])


def counted(seed: int) -> Program:
    """`gm.fori_loop`s of one to four statements, or of an inner loop; of any n from its own on."""
    return _suitable(seed, lambda writer: writer.counted(), [0, MORE])


def _suitable(seed: int, write: Callable[[Writer], str], sizes: list[int]) -> Program:
    """The first of the seed's programs that NumPy runs with results of ordinary size."""
    rng = random.Random(seed)
    while True:
        writer = Writer(rng)
        program = Program(write(writer), writer.dtype, writer.n, writer.m)
        try:
            results = [result for more in sizes for result in program.want(more)]
        except (ValueError, TypeError, IndexError, OverflowError):
            continue  # shapes or dtypes that do not go together
        wide = [x.astype("f8") for x in results if x.dtype.kind == "f"]
        if all(np.isfinite(x).all() and np.abs(x).max(initial=0) < LARGEST for x in wide):
            return program


def leaves(results: Any) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays in tuples and lists."""
    for result in results:
        if isinstance(result, tuple | list):
            yield from leaves(result)
        else:
            yield np.asarray(result)


class Writer:
    """Writes programs: `counters` are the loops' variables in sight, each from 0 to n - 1."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.n, self.m = rng.choice((12, 17, 24)), rng.choice((1, 3, 5, 8))
        self.dtype = rng.choice(DTYPES)
        self.counters: list[str] = []
        self.static = True  # whether counters are Python's
        self.statements: list[Callable[[], str]] = [
            self.element, self.element, self.row, self.shifted, self.reversed, self.column,
            self.variable, self.vector_variable, self.fresh, self.exchange, self.flipped,
            self.through_view, self.stencil, self.part, self.triangle, self.triangle,
            self.triangle, self.block,
        ]  # fmt: skip

    # ---- whole programs

    def unrolled(self) -> str:
        loops = [self.loop("i", self.range(8, 20), 1) for _ in range(self.rng.randint(1, 2))]
        start = "s, t, v, out = a[0], b[-1], p[0], []\n"
        return _function(start + "\n".join(loops), "a, b, p, q, c, s, t, v, out[-3:]")

    def loop(self, counter: str, over: str, inner: int) -> str:
        self.counters.append(counter)
        body = [self.statement() for _ in range(self.rng.randint(1, 4))]
        if inner and self.rng.random() < 0.4:
            around = self.counters[-1]
            triangle = (f"range({around} % n)", f"range({around} % n, n)")
            body.append(self.loop("j", self.rng.choice((self.range(1, 6), *triangle)), inner - 1))
        self.counters.pop()
        return f"for {counter} in {over}:\n" + textwrap.indent("\n".join(body), "    ")

    def range(self, least: int, most: int) -> str:
        count = self.rng.randint(least, most)
        if self.rng.random() < 0.25:
            return f"range({min(count, self.n - 1)}, -1, -1)"
        start, step = self.rng.randint(0, 3), self.rng.choice((1, 1, 1, 2))
        return f"range({start}, {start + count * step}, {step})"

    def counted(self) -> str:
        self.static = False
        start = "a, b, p, q, c = a + 0, b + 0, p + 0, q + 0, c + 0\n"
        loops = [self.turns() for _ in range(self.rng.randint(1, 2))]
        return _function(start + "\n".join(loops), "a, b, p, q, c")

    def turns(self) -> str:
        low, high = self.rng.choice((("0", "n"), ("1", "n"), ("0", "n - 1"), ("2", "7")))
        self.counters = ["i"]
        body = [self.statement() for _ in range(self.rng.randint(1, 3))]
        if self.rng.random() < 0.6:
            inner = (self.inner_turns, self.inner_while, self.inner_scan, self.inner_numbers)
            body.append(self.rng.choice((*inner, self.inner_recurrence))())
        self.counters = []
        lines = textwrap.indent("\n".join(["a, b, p, q, c = state", *body]), "    ")
        return (
            f"def turn(i, state):\n{lines}\n    return a, b, p, q, c\n"
            f"a, b, p, q, c = gm.fori_loop({low}, {high}, turn, (a, b, p, q, c))"
        )

    def inner_turns(self) -> str:
        bounds = self.rng.choice(("0, i", "i, n", "i + 1, n", "0, 4"))
        self.counters = ["i", "j"] if bounds != "0, i" or self.rng.random() < 0.7 else ["j"]
        body = [self.statement() for _ in range(self.rng.randint(1, 2))]
        self.counters = ["i"]
        lines = textwrap.indent("\n".join(["a, b, p, q, c = state", *body]), "    ")
        return (
            f"def inner(j, state):\n{lines}\n    return a, b, p, q, c\n"
            f"a, b, p, q, c = gm.fori_loop({bounds}, inner, (a, b, p, q, c))"
        )

    def inner_while(self) -> str:
        """As many turns as the outer loop's counter says, over a part that grows with it."""
        lines = textwrap.indent(f"k, a, b, p, q, c = state\n{self.statement()}", "    ")
        return (
            f"def step(state):\n{lines}\n    return k + 2, a, b, p, q, c\n"
            "_, a, b, p, q, c = gm.while_loop("
            "lambda state: state[0] < i, step, (0, a, b, p, q, c))"
        )

    def inner_scan(self) -> str:
        """Over the first rows, as many as the counter says."""
        rows = self.rng.choice(("q[:i]", "q[i:]", "q[::-1]", "q[:i + 1]"))
        into = self.rng.choice(("q[0] = last[0]", "a[:i] += 1", "p[-1] = last[0]"))
        return (
            f"def step(state, x):\n    total, = state\n    total = total + x - {self.vector()}\n"
            f"    return (total,), x * 1\nlast, ys = gm.scan(step, (p[0] * 1,), {rows})\n"
            f"{into}\nb[0] = ys.max(initial=0)"
        )

    def inner_numbers(self) -> str:
        """Numbers that every turn makes larger or smaller, with what it picks."""
        bounds = self.rng.choice(("0, i", "i, n", "i + 1, n", "0, n"))
        found = self.rng.choice(("c[i, k] * 1", "a[k] * c[k, i]", "b[n - 1 - k]", "a[k] + b[i]"))
        most, least = self.rng.choice((
            (f"np.maximum(most, {found})", "np.minimum(least, b[k])"),
            (f"np.minimum(most, {found})", f"least + {found}"),
            (f"most + {found}", "np.maximum(least, most)"),
        ))  # fmt: skip
        return (
            f"def pick(k, state):\n    most, least = state\n    return {most}, {least}\n"
            f"most, least = gm.fori_loop({bounds}, pick, (a[0] * 1, b[i] * 1))\n"
            f"a[{self.index()}] = most\nb[0] = least"
        )

    def inner_recurrence(self) -> str:
        """A number that becomes the next one's, along a part that grows with the counter."""
        part = self.rng.choice(("a[:i]", "a[i:]", "c[i]", "b[::-1]"))
        new = self.rng.choice(("x - total", "np.maximum(total, x)", "(x + total) // 2", "x * 1"))
        into = self.rng.choice(("a[:i] += last[0]", "b[0] = last[0]", "c[i] += ys.max(initial=0)"))
        return (
            f"def step(state, x):\n    total, = state\n    total = {new}\n"
            f"    return (total,), total + x\nlast, ys = gm.scan(step, (a[0] * 1,), {part})\n"
            f"{into}"
        )

    # ---- places and values

    def index(self) -> str:
        """A place in 0 … n - 1; or before the end, where Python knows the counter."""
        v = self.rng.choice((*(f"{counter} % n" for counter in self.counters), "0"))
        k = self.rng.randint(1, 3)
        forms = [v, f"({v} + {k}) % n", f"({v} * {k}) % n", f"n - 1 - ({v})", f"({v} - 1) % n"]
        return self.rng.choice(forms + [f"-1 - ({v})"] * self.static)

    def narrow(self) -> str:
        v = self.rng.choice((*self.counters, "0"))
        return self.rng.choice((f"{v} % {self.m}", "0", "-1"))

    def vector(self) -> str:
        """m elements."""
        p = self.rng.choice("pq")
        forms = [f"{p}[{self.index()}]", f"{p}[{self.index()}]", f"{p}[{self.index()}][::-1]"]
        forms += [f"p[0] * {self.rng.randint(1, 3)}", f"np.roll({p}[{self.index()}], 1)"]
        return self.rng.choice([*forms, *["v", f"({p}[{self.index()}] + v)"] * self.static])

    def scalar(self, depth: int = 0) -> str:
        a, inner = self.rng.choice("ab"), lambda: self.scalar(depth + 1)
        leaf = [f"{a}[{self.index()}]", f"{a}[{self.index()}]", str(self.rng.randint(0, 3))]
        leaf += [f"p[{self.index()}, {self.narrow()}]", f"c[{self.index()}, {self.index()}]"]
        leaf += ["s", "t"] * self.static
        if depth > 1 or self.rng.random() < 0.5:
            return self.rng.choice(leaf)
        which = self.rng.randrange(5)
        if which == 0:
            return f"({inner()} {self.rng.choice('+-*')} {inner()})"
        if which == 1:
            return f"np.minimum({inner()}, {inner()})"
        if which == 2:
            return f"np.where({inner()} > {inner()}, {inner()}, {inner()})"
        if which == 3:
            return f"{a}[{self.bound(':')}].max(initial=0)"
        return f"c[{self.index()}, {self.bound(':')}].max(initial=0)"

    def bound(self, colon: str) -> str:
        """A slice whose size is the turn's."""
        v = self.counters[-1] if self.counters else "3"
        v = f"({v} % n)" if self.static else v  # a remainder is no size
        return self.rng.choice((f"{colon}{v}", f"{v}{colon}", f"{v} + 1{colon}", f"{colon}{v} + 1"))

    def sign(self) -> str:
        return self.rng.choice(("=", "=", "+=", "-=", "*="))

    # ---- statements

    def statement(self) -> str:
        text = self.rng.choice(self.statements)()
        if self.static and self.counters and self.rng.random() < 0.1:
            test = f"if {self.counters[-1]} % {self.rng.randint(2, 5)} == 0:\n"
            return test + textwrap.indent(text, "    ")
        return text

    def element(self) -> str:
        return f"{self.rng.choice('ab')}[{self.index()}] {self.sign()} {self.scalar()}"

    def row(self) -> str:
        return f"{self.rng.choice('pq')}[{self.index()}] {self.sign()} {self.vector()}"

    def shifted(self) -> str:
        k = self.rng.randint(1, 4)
        return f"{self.rng.choice('ab')}[{k}:] {self.sign()} {self.rng.choice('ab')}[:-{k}]"

    def reversed(self) -> str:
        return f"{self.rng.choice('ab')}[::-1] {self.sign()} {self.rng.choice('ab')}"

    def column(self) -> str:
        p, a = self.rng.choice("pq"), self.rng.choice("ab")
        return f"{p}[:, {self.narrow()}] {self.sign()} {a}"

    def variable(self) -> str:
        if not self.static:
            return self.element()
        name = self.rng.choice("sto")
        return f"out.append({self.scalar()})" if name == "o" else f"{name} = {self.scalar()}"

    def vector_variable(self) -> str:
        if not self.static:
            return self.row()
        made = self.vector()
        return f"v = {self.rng.choice((made, made, f'{made} + 1', f'({made}).copy()'))}"

    def fresh(self) -> str:
        return f"{self.rng.choice('ab')} = {self.rng.choice('ab')} + {self.scalar()}"

    def exchange(self) -> str:
        return self.rng.choice(("a, b = b, a", "p, q = q, p"))

    def flipped(self) -> str:
        a = self.rng.choice("ab")
        return f"{a} = {a}[::-1]"

    def through_view(self) -> str:
        p, place = self.rng.choice("pq"), self.index()
        return f"w = {p}[:, {self.narrow()}]\n{p}[{self.index()}] {self.sign()} w[{place}]"

    def stencil(self) -> str:
        b = self.rng.choice("ab")
        return f"{self.rng.choice('ab')}[1:-1] {self.sign()} {b}[:-2] + {b}[2:]"

    def part(self) -> str:
        where = self.bound(":")
        return f"{self.rng.choice('ab')}[{where}] {self.sign()} {self.rng.choice('ab')}[{where}]"

    def triangle(self) -> str:
        """Rows and columns of the square whose parts grow or shrink with the turn.

        NumPy writes a row that crosses a column wrongly into it, unless there is arithmetic.
        """
        where, i, j = self.bound(":"), self.index(), self.index()
        a, b, sign = self.rng.choice("ab"), self.rng.choice("ab"), self.sign()
        return self.rng.choice((
            f"{a}[{i}] {sign} c[{j}, {where}] @ {b}[{where}]",
            f"c[{i}, {where}] {sign} {a}[{where}]",
            f"c[{where}, {i}] {sign} c[{j}, {where}] * 1",
            f"c[{i}, {where}] += {a}[{j}] * c[{where}, {j}]",
            f"{a}[{where}] {sign} {b}[{where}][::-1]",
            f"{a}[{i}] = c[{where}, {j}].sum()",
            f"{a}[{where}] = np.cumsum({b}[{where}])",
            f"c[{where}, {i}] -= p[{where}] @ q[{j}]",
            f"{a}[{i}] {sign} {b}[{j}] - c[{i}, {where}] @ {a}[{where}]",
            f"c[{i}, {j}] = c[{j}, {i}] - (c[{i}, {where}] * c[{j}, {where}]).sum()",
            f"c[{i}, {j}] {sign} {self.scalar()}",
        ))  # fmt: skip

    def block(self) -> str:
        """Parts of the square that grow along both axes."""
        where = self.bound(":")
        return self.rng.choice((
            f"c[{where}, {where}] {self.sign()} c[{where}, {where}].T",
            f"a[{where}] += c[{where}, {where}].max(axis=0, initial=0)",
            f"c[{where}, {where}] = np.minimum(c[{where}, {where}], a[{where}])",
        ))  # fmt: skip


def _function(body: str, results: str) -> str:
    lines = textwrap.indent("n = a.shape[0]\n" + body, "    ")
    return f"def f({', '.join(ARGUMENTS)}):\n{lines}\n    return {results}\n"
