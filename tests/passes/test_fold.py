"""Constant folding: text before and after."""

import pytest

from tests.passes.pairs import check_pair

PAIRS = [
    (
        "constants are computed",
        "fold,dce",
        """
        func @f(%x: f32[2]) -> (f32[2]) {
          %a: f32[2] = constant {value=[1.0, 2.0]}
          %b: f32[2] = exp2 %a
          %c: f32[2] = add %x, %b
          return %c
        }
        """,
        """
        func @f(%x: f32[2]) -> (f32[2]) {
          %b: f32[2] = constant {value=[2.0, 4.0]}
          %c: f32[2] = add %x, %b
          return %c
        }
        """,
    ),
    (
        "a broadcast stays an op",
        "fold,dce",
        """
        func @f() -> (f32[3]) {
          %a: f32[] = constant {value=2.0}
          %b: f32[] = square %a
          %c: f32[3] = broadcast %b {axes=[], shape=[3]}
          return %c
        }
        """,
        """
        func @f() -> (f32[3]) {
          %b: f32[] = constant {value=4.0}
          %c: f32[3] = broadcast %b {axes=[], shape=[3]}
          return %c
        }
        """,
    ),
    (
        "a constant predicate chooses its branch",
        "fold,dce",
        """
        func @f(%x: f32[2]) -> (f32[2]) {
          %p: bool[] = constant {value=false}
          %r: f32[2] = cond %p, %x true {
            (%a: f32[2]):
            yield %a
          } false {
            (%b: f32[2]):
            %n: f32[2] = neg %b
            yield %n
          }
          return %r
        }
        """,
        """
        func @f(%x: f32[2]) -> (f32[2]) {
          %n: f32[2] = neg %x
          return %n
        }
        """,
    ),
    (
        "nothing large is made",
        "fold{max_elements=16},dce",
        """
        func @f() -> (f32[100]) {
          %i: f32[100] = iota {axis=0, dtype=f32, shape=[100]}
          %n: f32[100] = neg %i
          return %n
        }
        """,
        """
        func @f() -> (f32[100]) {
          %i: f32[100] = iota {axis=0, dtype=f32, shape=[100]}
          %n: f32[100] = neg %i
          return %n
        }
        """,
    ),
]


@pytest.mark.parametrize(
    ("name", "pipeline", "before", "after"), PAIRS, ids=[pair[0] for pair in PAIRS]
)
def test_pair(name: str, pipeline: str, before: str, after: str) -> None:
    check_pair(pipeline, before, after)
