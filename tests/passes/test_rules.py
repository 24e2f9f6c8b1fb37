"""Every equation, evaluated on both sides on special and random values of every dtype it allows."""

from typing import Any

import numpy as np
import pytest

from graphmill.ir.builder import Builder, function
from graphmill.ir.dtypes import DType, bf16, bool_, c64, f16, f32, f64, i8, i64, u8, u64
from graphmill.ir.graph import Function, Value
from graphmill.ir.ops.base import TypeRuleError
from graphmill.ir.reference import interpret
from graphmill.ir.types import tensor
from graphmill.ir.verifier import verify
from graphmill.passes.manager import run_pipeline
from graphmill.passes.rules import RULES, rules_by_op
from graphmill.passes.terms import CONSTANTS, Rule, Term, build

pytestmark = pytest.mark.sampled(2)

DTYPES = (bool_, i8, i64, u8, u64, f16, bf16, f32, f64, c64)
REALS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    3.0,
    -2.5,
    1e-3,
    7.25,
    np.inf,
    -np.inf,
    np.nan,
    1e-30,
    1e30,
]
INTEGERS = [0, 1, 2, 3, 5, 7, 100, 127, -1, -2, -3, -100, -128]
N = 240


def special(dtype: DType, seed: int) -> Any:
    """Special values first, in an order that depends on the seed, then random ones."""
    rng = np.random.default_rng(seed)
    if dtype is bool_:
        return rng.integers(0, 2, N).astype(bool)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        low, high = max(info.min, -1000), min(info.max, 1000)
        known = [v for v in INTEGERS if info.min <= v <= info.max] + [info.min, info.max]
        chosen = np.array(known, dtype.numpy)[rng.integers(0, len(known), 120)]
        return np.concatenate([chosen, rng.integers(low, high, N - 120).astype(dtype.numpy)])
    values = np.concatenate([rng.choice(REALS, 150), rng.uniform(-8, 8, N - 150)])
    with np.errstate(all="ignore"):
        if dtype.is_complex:
            return (values + 1j * rng.permutation(values)).astype(dtype.numpy)
        return values.astype(dtype.numpy)


def allowed(rule: Rule) -> list[DType]:
    return [d for d in DTYPES if d.kind in rule.kinds]


CASES = [(rule, dtype) for rule in RULES for dtype in allowed(rule)]


def side(rule: Rule, term: Term, dtype: DType) -> Function:
    """A function of the rule's variables (constants among them) that computes one side."""
    free = [name for name in rule.variables if name not in CONSTANTS]
    types = {n: tensor(bool_ if n == "b" else dtype, N) for n in free}
    constants = {"c": 3, "d": 7}

    def body(b: Builder, *args: Value) -> Value:
        bound = dict(zip(free, args, strict=True))
        for name in rule.variables:
            if name in constants:
                bound[name] = b.full((N,), constants[name], dtype)
        result = build(rule.left, bound, args[-1], b)
        return result if term is rule.left else build(rule.right, bound, result, b)

    return function("side", types, body)


def same(a: Any, b: Any, ulps: int) -> bool:
    """Equal bits whatever the NaN, or equal special values and finite ones within `ulps`."""
    assert a.dtype == b.dtype and a.shape == b.shape
    if a.dtype.kind in "biu":
        return bool(np.array_equal(a, b))
    if a.dtype.kind == "c":
        return same(a.real.copy(), b.real.copy(), ulps) and same(a.imag.copy(), b.imag.copy(), ulps)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    nan = np.isnan(wide_a)
    if not np.array_equal(nan, np.isnan(wide_b)):
        return False
    if not ulps:
        return a[~nan].tobytes() == b[~nan].tobytes()
    finite = np.isfinite(wide_a) & np.isfinite(wide_b)
    with np.errstate(all="ignore"):
        scale = np.abs(np.spacing(a[finite])).astype(np.float64)
        close = np.abs(wide_a[finite] - wide_b[finite]) <= ulps * scale
    return bool(close.all()) and np.array_equal(wide_a[~finite & ~nan], wide_b[~finite & ~nan])


@pytest.mark.parametrize(("rule", "dtype"), CASES, ids=lambda v: getattr(v, "name", str(v)))
def test_both_sides_agree(rule: Rule, dtype: DType) -> None:
    try:
        left, right = side(rule, rule.left, dtype), side(rule, rule.right, dtype)
    except TypeRuleError:
        pytest.skip(f"the ops are not defined for {dtype}")
    verify(right)
    count = len(left.params)
    agree = []
    for seed in range(4):
        arrays = [
            special(bool_ if p.tensor.dtype is bool_ else dtype, 10 * seed + i)
            for i, p in enumerate(left.params)
        ]
        agree.append(same(interpret(left, *arrays)[0], interpret(right, *arrays)[0], rule.ulps))
    assert count and (rule.fast or all(agree)), str(rule)


@pytest.mark.parametrize("rule", [r for r in RULES if r.fast], ids=lambda rule: rule.name)
def test_fast_rules_need_their_mark(rule: Rule) -> None:
    left, right = side(rule, rule.left, f32), side(rule, rule.right, f32)
    arrays = [special(f32, 5 + i) for i, _ in enumerate(left.params)]
    assert not same(interpret(left, *arrays)[0], interpret(right, *arrays)[0], 0)


@pytest.mark.parametrize(("rule", "dtype"), CASES, ids=lambda v: getattr(v, "name", str(v)))
def test_simplify_uses_the_rule(rule: Rule, dtype: DType) -> None:
    try:
        left, right = side(rule, rule.left, dtype), side(rule, rule.right, dtype)
    except TypeRuleError:
        pytest.skip(f"the ops are not defined for {dtype}")
    fast = "simplify{fast=true},cse,dce"
    assert str(run_pipeline(left, fast)) == str(run_pipeline(right, fast))


def test_names_are_unique_and_rules_print() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert str(next(r for r in RULES if r.name == "mul_one")) == "mul_one: mul(x, 1) = x"
    assert not any(rule.fast for rules in rules_by_op(False).values() for rule in rules)
