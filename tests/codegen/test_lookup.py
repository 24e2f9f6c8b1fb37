"""Logarithms and tanh from tables in registers: the tables, and all floats of small results."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from graphmill.codegen.cpu import math_lookup
from graphmill.codegen.cpu.piecewise import TANH
from tests.codegen.harness import Kernels

BASES = {"e": (math_lookup._E, 1.0), "2": (math_lookup._TWO, math.log(2)),
         "10": (math_lookup._TEN, math.log(10))}  # fmt: skip
FUNCTIONS = {"log": (np.log, 0.9), "log2": (np.log2, 0.9), "log10": (np.log10, 0.9),
             "log1p": (np.log1p, 0.9), "asinh": (np.arcsinh, 1.1), "atanh": (np.arctanh, 1.1),
             "tanh": (np.tanh, 1.4)}  # fmt: skip


@pytest.mark.parametrize("bits", (32, 64))
@pytest.mark.parametrize("name", BASES)
def test_logarithms_of_the_tables_are_short(name: str, bits: int) -> None:
    bases, log_base = BASES[name]
    base = bases[bits]
    assert len(base.near) == {32: 32, 64: 16}[bits]
    short = math_lookup._logarithms(base.near, base.places, log_base)
    for r, table in zip(base.near, short, strict=True):
        exact = -np.log(np.longdouble(r)) / (np.log(np.longdouble(int(name))) if name != "e" else 1)
        assert abs(float(exact - table)) < 2.0 ** (-29.5 if bits == 32 else -61)
    if bits == 32:
        assert all(np.float32(r) == r for r in base.near)


def test_pieces_of_tanh_hold_what_is_theirs() -> None:
    first = 0x3D800000 >> 21
    edges = (np.arange(first, first + 29, dtype=np.uint32) << 21).view(np.float32).tolist()
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        b, *coefficients = (row[(first + number) % 32] for row in TANH)
        x = np.linspace(low if number else 0, min(high, 9.02), 1000)
        assert number == 0 or low < b < high
        got = np.polynomial.polynomial.polyval(x - b, coefficients)
        assert np.abs(got - np.tanh(x)).max() < 2.0**-24


@pytest.mark.parametrize("op", FUNCTIONS)
def test_every_float_where_results_are_small(op: str) -> None:
    function, bound = FUNCTIONS[op]
    kernels = Kernels()
    kernels.add_op(op, ["f32"], "f32", op)
    low, high = (0.93, 1.08) if op in ("log", "log2", "log10") else (0.0075, 0.07)
    first, last = np.array([low, high], np.float32).view(np.uint32)
    x = np.arange(first, last, dtype=np.uint32).view(np.float32)
    want = function(x.astype(np.float64))
    ulp = np.ldexp(1.0, np.frexp(want)[1] - 24)
    error = np.abs(kernels(op, x) - want) / ulp
    worst = error.argmax()
    assert error[worst] <= bound, f"{error[worst]} ulp at {x[worst]}"
