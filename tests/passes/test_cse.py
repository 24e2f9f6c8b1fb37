"""Common subexpressions: text before and after."""

import pytest

from tests.passes.pairs import check_pair

PAIRS = [
    (
        "equal ops are one, in either order",
        "cse",
        """
        func @f(%x: f32[2], %y: f32[2]) -> (f32[2]) {
          %a: f32[2] = add %x, %y
          %b: f32[2] = add %y, %x
          %c: f32[2] = sub %x, %y
          %d: f32[2] = sub %y, %x
          %e: f32[2] = mul %a, %b
          %g: f32[2] = mul %c, %d
          %h: f32[2] = add %e, %g
          return %h
        }
        """,
        """
        func @f(%x: f32[2], %y: f32[2]) -> (f32[2]) {
          %a: f32[2] = add %x, %y
          %c: f32[2] = sub %x, %y
          %d: f32[2] = sub %y, %x
          %e: f32[2] = mul %a, %a
          %g: f32[2] = mul %c, %d
          %h: f32[2] = add %e, %g
          return %h
        }
        """,
    ),
    (
        "zeros of different sign are two constants",
        "cse",
        """
        func @f() -> (f32[], f32[], f32[]) {
          %a: f32[] = constant {value=0.0}
          %b: f32[] = constant {value=-0.0}
          %c: f32[] = constant {value=0.0}
          return %a, %b, %c
        }
        """,
        """
        func @f() -> (f32[], f32[], f32[]) {
          %a: f32[] = constant {value=0.0}
          %b: f32[] = constant {value=-0.0}
          return %a, %b, %a
        }
        """,
    ),
    (
        "reads of variables are never merged",
        "cse",
        """
        variable @v: f32[2] = [1.0, 2.0]

        func @f() -> (f32[2], f32[2]) {
          %t: token = token
          %a: f32[2], %u: token = variable.read %t {name="v", type=f32[2]}
          %n: f32[2] = neg %a
          %w: token = variable.assign %n, %u {name="v"}
          %b: f32[2], %z: token = variable.read %w {name="v", type=f32[2]}
          return %a, %b
        }
        """,
        """
        variable @v: f32[2] = [1.0, 2.0]

        func @f() -> (f32[2], f32[2]) {
          %t: token = token
          %a: f32[2], %u: token = variable.read %t {name="v", type=f32[2]}
          %n: f32[2] = neg %a
          %w: token = variable.assign %n, %u {name="v"}
          %b: f32[2], %z: token = variable.read %w {name="v", type=f32[2]}
          return %a, %b
        }
        """,
    ),
]


@pytest.mark.parametrize(
    ("name", "pipeline", "before", "after"), PAIRS, ids=[pair[0] for pair in PAIRS]
)
def test_pair(name: str, pipeline: str, before: str, after: str) -> None:
    check_pair(pipeline, before, after)
