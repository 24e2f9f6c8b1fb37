# ruff: noqa: E501
"""Layout: text before and after."""

import pytest

from tests.passes.pairs import check_pair

PAIRS = [
    (
        "a product reads a transposed operand",
        "layout,dce",
        """
        func @f(%x: f32[4, 8], %y: f32[16, 8]) -> (f32[4, 16]) {
          %t: f32[8, 16] = transpose %y {perm=[1, 0]}
          %d: f32[4, 16] = dot_general %x, %t {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          return %d
        }
        """,
        """
        func @f(%x: f32[4, 8], %y: f32[16, 8]) -> (f32[4, 16]) {
          %d: f32[4, 16] = dot_general %x, %y {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[1]}
          return %d
        }
        """,
    ),
    (
        "heads are read where they lie",
        "layout,dce",
        """
        func @f(%q: f32[5, 2, 3], %k: f32[7, 2, 3]) -> (f32[2, 5, 7]) {
          %a: f32[2, 5, 3] = transpose %q {perm=[1, 0, 2]}
          %b: f32[2, 3, 7] = transpose %k {perm=[1, 2, 0]}
          %d: f32[2, 5, 7] = dot_general %a, %b {dtype=f32, x_batch=[0], x_contract=[2], y_batch=[0], y_contract=[1]}
          return %d
        }
        """,
        """
        func @f(%q: f32[5, 2, 3], %k: f32[7, 2, 3]) -> (f32[2, 5, 7]) {
          %d: f32[2, 5, 7] = dot_general %q, %k {dtype=f32, x_batch=[1], x_contract=[2], y_batch=[1], y_contract=[2]}
          return %d
        }
        """,
    ),
    (
        "a transposed product exchanges its operands",
        "layout,dce",
        """
        func @f(%x: f32[4, 8], %y: f32[8, 16]) -> (f32[16, 4]) {
          %d: f32[4, 16] = dot_general %x, %y {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %t: f32[16, 4] = transpose %d {perm=[1, 0]}
          return %t
        }
        """,
        """
        func @f(%x: f32[4, 8], %y: f32[8, 16]) -> (f32[16, 4]) {
          %t: f32[16, 4] = dot_general %y, %x {dtype=f32, x_batch=[], x_contract=[0], y_batch=[], y_contract=[1]}
          return %t
        }
        """,
    ),
    (
        "a transpose moves past elementwise ops to the product",
        "layout,dce",
        """
        func @f(%x: f32[8, 4], %y: f32[8, 16]) -> (f32[4, 16]) {
          %t: f32[4, 8] = transpose %x {perm=[1, 0]}
          %e: f32[4, 8] = exp %t
          %d: f32[4, 16] = dot_general %e, %y {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          return %d
        }
        """,
        """
        func @f(%x: f32[8, 4], %y: f32[8, 16]) -> (f32[4, 16]) {
          %0: f32[8, 4] = exp %x
          %d: f32[4, 16] = dot_general %0, %y {dtype=f32, x_batch=[], x_contract=[0], y_batch=[], y_contract=[0]}
          return %d
        }
        """,
    ),
    (
        "free axes that would change order keep their transpose",
        "layout,dce",
        """
        func @f(%x: f32[2, 3, 8], %y: f32[8, 4]) -> (f32[3, 2, 4]) {
          %t: f32[3, 2, 8] = transpose %x {perm=[1, 0, 2]}
          %d: f32[3, 2, 4] = dot_general %t, %y {dtype=f32, x_batch=[], x_contract=[2], y_batch=[], y_contract=[0]}
          return %d
        }
        """,
        """
        func @f(%x: f32[2, 3, 8], %y: f32[8, 4]) -> (f32[3, 2, 4]) {
          %t: f32[3, 2, 8] = transpose %x {perm=[1, 0, 2]}
          %d: f32[3, 2, 4] = dot_general %t, %y {dtype=f32, x_batch=[], x_contract=[2], y_batch=[], y_contract=[0]}
          return %d
        }
        """,
    ),
]


@pytest.mark.parametrize(
    ("name", "pipeline", "before", "after"), PAIRS, ids=[pair[0] for pair in PAIRS]
)
def test_pair(name: str, pipeline: str, before: str, after: str) -> None:
    check_pair(pipeline, before, after)
