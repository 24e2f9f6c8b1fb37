"""Symbolic dims: the algebra agrees with integers, and text round-trips."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmill.ir.dims import (
    Dim,
    DimSyntaxError,
    at_most,
    evaluate,
    floordiv,
    maximum,
    minimum,
    mod,
    parse_dim,
    substitute,
    total,
)

NAMES = ("n", "m", "batch")
BINARY = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "sub": (lambda a, b: a - b, lambda a, b: a - b),
    "mul": (lambda a, b: a * b, lambda a, b: a * b),
    "floordiv": (floordiv, lambda a, b: a // b),
    "mod": (mod, lambda a, b: a % b),
    "max": (maximum, max),
    "min": (minimum, min),
}

sizes = st.fixed_dictionaries(dict.fromkeys(NAMES, st.integers(1, 12)))


def expressions(depth=3):
    """(dim, its value as a function of sizes)."""
    leaves = st.one_of(
        st.integers(-6, 9).map(lambda k: (k, lambda s: k)),
        st.sampled_from(NAMES).map(lambda n: (Dim.of(n), lambda s: s[n])),
    )

    def combine(children):
        def build(op, left, right):
            symbolic, concrete = BINARY[op]
            if op in ("floordiv", "mod"):
                # divisors that are never zero: the absolute value of a size plus one
                right = (maximum(right[0], 1), lambda s, f=right[1]: max(f(s), 1))
            made = symbolic(left[0], right[0])
            return made, lambda s: concrete(left[1](s), right[1](s))

        return st.builds(build, st.sampled_from(list(BINARY)), children, children)

    return st.recursive(leaves, combine, max_leaves=2**depth)


@given(expressions(), sizes)
@settings(max_examples=400)
def test_algebra_agrees_with_integers(expression, given_sizes):
    dim, value = expression
    assert evaluate(dim, given_sizes) == value(given_sizes)


@given(expressions())
@settings(max_examples=300)
def test_text_round_trips(expression):
    dim, _ = expression
    again = parse_dim(str(dim))
    assert again == dim and hash(again) == hash(dim) and str(again) == str(dim)


@given(expressions(), sizes)
@settings(max_examples=200)
def test_substitution_is_evaluation(expression, given_sizes):
    dim, value = expression
    assert substitute(dim, given_sizes) == value(given_sizes)


@given(expressions(), sizes)
def test_the_greatest_value_is_no_less(expression, given_sizes):
    """Over the turns of a loop, where every size in a product is 0 or more."""
    dim, value = expression
    limits = {"n": given_sizes["n"], "m": given_sizes["m"]}
    most = at_most(dim, limits)
    assert not isinstance(most, Dim) or most.names <= {"batch"}
    if _falls_nowhere(dim):
        for n in range(limits["n"] + 1):
            for m in range(limits["m"] + 1):
                assert value({**given_sizes, "n": n, "m": m}) <= evaluate(most, given_sizes)


def _falls_nowhere(dim):
    """Whether no product has a factor that may be negative."""
    text = str(dim)
    return "floordiv" not in text and "mod" not in text and "min" not in text and "max" not in text


@pytest.mark.parametrize(
    ("dim", "most"),
    [
        ("8*n - 8*i - 8", "8*n - 8"),
        ("floordiv(i + 15, 16)*64", "64*floordiv(54, 16)"),
        ("max(n - i, 0)", "max(0, n)"),
        ("floordiv(294, max(256, i))", "1"),
        ("mod(i, 8)", "7"),
    ],
)
def test_the_greatest_value(dim, most):
    found = at_most(parse_dim(dim), {"i": 39})
    assert found == parse_dim(most)


@given(expressions(), expressions())
@settings(max_examples=200)
def test_equal_forms_are_equal(a, b):
    (x, _), (y, _) = a, b
    assert x + y == y + x and x * y == y * x
    assert (x + y) - y == x and 2 * x == x + x


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("n*8 + 4", "8*n + 4"),
        ("n + n", "2*n"),
        ("n - n", "0"),
        ("floordiv(4*n + 6, 2)", "2*n + 3"),
        ("floordiv(n + 1, 2)", "floordiv(n + 1, 2)"),
        ("floordiv(m*n, n)", "m"),
        ("mod(6*n, 3)", "0"),
        ("max(m, n)", "max(m, n)"),
        ("max(n, m)", "max(m, n)"),
        ("(n + 1)*(n - 1)", "n*n - 1"),
        ("-n", "-n"),
    ],
)
def test_canonical_text(text, canonical):
    assert str(parse_dim(text)) == canonical


@given(st.lists(expressions(), max_size=4), sizes)
@settings(max_examples=200)
def test_a_total_is_the_sum(expressions, given_sizes):
    assert evaluate(total(dim for dim, _ in expressions), given_sizes) == sum(
        value(given_sizes) for _, value in expressions
    )


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (["max(0, n - 1)", "min(1, n)"], "n"),
        (["min(n, 3)", "max(n - 3, 0)"], "n"),
        (["min(n - 3, 0)", "max(n, 3)"], "n"),
        (["4*m*max(0, n - 1)", "2*m*min(1, n)"], "2*m*max(0, n - 1) + 2*m*n"),
        (["min(1, n)", "max(0, n - 1)", "7", "min(2, m)", "max(m - 2, 0)"], "m + n + 7"),
        (["max(0, n - 1)", "min(2, n)"], "max(0, n - 1) + min(2, n)"),
        (["max(0, n - 1)", "max(1, n)"], "max(0, n - 1) + max(1, n)"),
        (["max(0, n - 1)", "-1*min(1, n)"], "max(0, n - 1) - min(1, n)"),
        (["3", "4"], "7"),
    ],
)
def test_parts_make_up_the_whole(parts, whole):
    for order in (parts, parts[::-1]):
        assert total(map(parse_dim, order)) == parse_dim(whole)


@pytest.mark.parametrize("text", ["", "n +", "2n", "n n", "floordiv(n)", "(n", "n)", "n $ 2", "*"])
def test_bad_text(text):
    with pytest.raises(DimSyntaxError):
        parse_dim(text)


def test_a_symbolic_dim_is_no_number():
    with pytest.raises(TypeError, match="symbolic dim 2\\*n has no value"):
        range(2 * Dim.of("n"))
