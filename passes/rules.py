"""The equations that `simplify` applies from left to right.

A rule without `ulps` gives the same bits for every input, signed zeros, infinities and NaN
included (which NaN aside); `fast` rules do not and are used on request only. The test evaluates
both sides of every rule on special and random values of every dtype it allows.
"""

from __future__ import annotations

from graphmill.passes.terms import Rule, Term, apply, make_rule

INTEGER, BITS, REAL, NUMERIC = "iu", "biu", "f", "iufc"


def exp(x: Term) -> Term:
    return apply("exp", x)


def log(x: Term) -> Term:
    return apply("log", x)


def sqrt(x: Term) -> Term:
    return apply("sqrt", x)


def square(x: Term) -> Term:
    return apply("square", x)


def absolute(x: Term) -> Term:
    return apply("abs", x)


def select(c: Term, x: Term, y: Term) -> Term:
    return apply("select", c, x, y)


# fmt: off
RULES: tuple[Rule, ...] = (
    # identities
    make_rule("add_zero", lambda x: x + 0, lambda x: x, INTEGER),
    make_rule("add_negative_zero", lambda x: x + -0.0, lambda x: x, REAL),
    make_rule("sub_zero", lambda x: x - 0, lambda x: x, "iuf"),
    make_rule("mul_one", lambda x: x * 1, lambda x: x, "iuf"),
    make_rule("mul_zero", lambda x: x * 0, lambda x: 0, INTEGER),
    make_rule("div_one", lambda x: x / 1, lambda x: x, REAL),
    make_rule("sub_self", lambda x: x - x, lambda x: 0, INTEGER),
    make_rule("floordiv_one", lambda x: apply("floordiv", x, 1), lambda x: x, INTEGER),
    make_rule("mod_one", lambda x: apply("mod", x, 1), lambda x: 0, INTEGER),
    make_rule("shl_zero", lambda x: apply("shl", x, 0), lambda x: x, INTEGER),
    make_rule("shr_zero", lambda x: apply("shr", x, 0), lambda x: x, INTEGER),
    make_rule("max_self", lambda x: apply("max", x, x), lambda x: x, "biuf"),
    make_rule("min_self", lambda x: apply("min", x, x), lambda x: x, "biuf"),
    make_rule("and_self", lambda x: apply("and", x, x), lambda x: x, BITS),
    make_rule("or_self", lambda x: apply("or", x, x), lambda x: x, BITS),
    make_rule("xor_self", lambda x: apply("xor", x, x), lambda x: 0, BITS),
    make_rule("and_zero", lambda x: apply("and", x, 0), lambda x: 0, BITS),
    make_rule("or_zero", lambda x: apply("or", x, 0), lambda x: x, BITS),
    make_rule("xor_zero", lambda x: apply("xor", x, 0), lambda x: x, BITS),
    make_rule("and_true", lambda x: apply("and", x, True), lambda x: x, "b"),
    make_rule("or_true", lambda x: apply("or", x, True), lambda x: True, "b"),
    make_rule("eq_self", lambda x: apply("eq", x, x), lambda x: True, BITS),
    make_rule("ne_self", lambda x: apply("ne", x, x), lambda x: False, BITS),
    make_rule("lt_self", lambda x: apply("lt", x, x), lambda x: False, "biuf"),
    make_rule("le_self", lambda x: apply("le", x, x), lambda x: True, BITS),
    # signs
    make_rule("neg_neg", lambda x: apply("neg", -x), lambda x: x, NUMERIC),
    make_rule("add_neg", lambda x, y: x + -y, lambda x, y: x - y, NUMERIC),
    make_rule("sub_neg", lambda x, y: x - -y, lambda x, y: x + y, NUMERIC),
    make_rule("mul_neg_neg", lambda x, y: -x * -y, lambda x, y: x * y, "iuf"),
    make_rule("mul_minus_one", lambda x: x * -1, lambda x: -x, "if"),
    make_rule("abs_neg", lambda x: absolute(-x), absolute, "if"),
    make_rule("abs_abs", lambda x: absolute(absolute(x)), absolute, "iuf"),
    make_rule("square_neg", lambda x: square(-x), square, "iuf"),
    make_rule("square_abs", lambda x: square(absolute(x)), square, "if"),
    make_rule("cos_neg", lambda x: apply("cos", -x), lambda x: apply("cos", x), REAL, ulps=1),
    # powers
    make_rule("pow_one", lambda x: x ** 1, lambda x: x, "iuf"),
    make_rule("pow_zero", lambda x: x ** 0, lambda x: 1, "iuf"),
    make_rule("pow_two", lambda x: x ** 2, square, "iuf", ulps=1),
    make_rule("pow_three", lambda x: x ** 3, lambda x: square(x) * x, "iuf", ulps=2),
    make_rule("pow_four", lambda x: x ** 4, lambda x: square(square(x)), "iuf", ulps=3),
    make_rule("pow_minus_one", lambda x: x ** -1, lambda x: apply("reciprocal", x), REAL, ulps=1),
    make_rule("one_over_sqrt", lambda x: 1 / sqrt(x), lambda x: apply("rsqrt", x), REAL,
              ulps=1),
    make_rule("reciprocal_sqrt", lambda x: apply("reciprocal", sqrt(x)),
              lambda x: apply("rsqrt", x), REAL, ulps=1),
    make_rule("over_sqrt", lambda x, y: x / sqrt(y), lambda x, y: x * apply("rsqrt", y), REAL,
              fast=True),
    # logic and selection
    make_rule("not_not", lambda x: ~~x, lambda x: x, BITS),
    make_rule("not_eq", lambda x, y: ~apply("eq", x, y), lambda x, y: apply("ne", x, y)),
    make_rule("not_ne", lambda x, y: ~apply("ne", x, y), lambda x, y: apply("eq", x, y)),
    make_rule("not_lt", lambda x, y: ~apply("lt", x, y), lambda x, y: apply("ge", x, y), BITS),
    make_rule("not_le", lambda x, y: ~apply("le", x, y), lambda x, y: apply("gt", x, y), BITS),
    make_rule("not_gt", lambda x, y: ~apply("gt", x, y), lambda x, y: apply("le", x, y), BITS),
    make_rule("not_ge", lambda x, y: ~apply("ge", x, y), lambda x, y: apply("lt", x, y), BITS),
    make_rule("select_same", lambda b, x: select(b, x, x), lambda b, x: x),
    make_rule("select_not", lambda b, x, y: select(~b, x, y), lambda b, x, y: select(b, y, x)),
    make_rule("select_inner_x", lambda b, x, y, z: select(b, select(b, x, y), z),
              lambda b, x, y, z: select(b, x, z)),
    make_rule("select_inner_y", lambda b, x, y, z: select(b, x, select(b, y, z)),
              lambda b, x, y, z: select(b, x, z)),
    # constants together
    make_rule("add_constants", lambda x, c, d: (x + c) + d, lambda x, c, d: x + (c + d), INTEGER),
    make_rule("mul_constants", lambda x, c, d: (x * c) * d, lambda x, c, d: x * (c * d), INTEGER),
    make_rule("add_sub_constants", lambda x, c, d: (x - c) + d, lambda x, c, d: x + (d - c),
              INTEGER),
    # complex parts
    make_rule("real_of_complex", lambda x, y: apply("real", apply("complex", x, y)),
              lambda x, y: x, REAL),
    make_rule("imag_of_complex", lambda x, y: apply("imag", apply("complex", x, y)),
              lambda x, y: y, REAL),
    make_rule("conj_conj", lambda x: apply("conj", apply("conj", x)), lambda x: x, "c"),
    make_rule("real_conj", lambda x: apply("real", apply("conj", x)), lambda x: apply("real", x),
              "c"),
    # right but for rounding, overflow or the sign of zero: on request
    make_rule("add_zero_real", lambda x: x + 0, lambda x: x, "fc", fast=True),
    make_rule("mul_zero_real", lambda x: x * 0, lambda x: 0, REAL, fast=True),
    make_rule("sub_self_real", lambda x: x - x, lambda x: 0, REAL, fast=True),
    make_rule("log_exp", lambda x: log(exp(x)), lambda x: x, REAL, fast=True),
    make_rule("exp_log", lambda x: exp(log(x)), lambda x: x, REAL, fast=True),
    make_rule("sqrt_square", lambda x: sqrt(square(x)), absolute, REAL, fast=True),
    make_rule("square_sqrt", lambda x: square(sqrt(x)), lambda x: x, REAL, fast=True),
    make_rule("mul_exp_exp", lambda x, y: exp(x) * exp(y), lambda x, y: exp(x + y), REAL,
              fast=True),
    make_rule("add_constants_real", lambda x, c, d: (x + c) + d, lambda x, c, d: x + (c + d),
              REAL, fast=True),
    make_rule("mul_constants_real", lambda x, c, d: (x * c) * d, lambda x, c, d: x * (c * d),
              REAL, fast=True),
    make_rule("div_constant", lambda x, c: x / c, lambda x, c: x * (1 / c), REAL, fast=True),
)
# fmt: on


def rules_by_op(fast: bool) -> dict[str, list[Rule]]:
    """The rules to use, by the op at their root."""
    found: dict[str, list[Rule]] = {}
    for rule in RULES:
        if fast or not rule.fast:
            found.setdefault(rule.left.op, []).append(rule)
    return found
