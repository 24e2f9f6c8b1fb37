"""Inserted checks: text before and after."""

import pytest

from tests.passes.pairs import check_pair

PAIRS = [
    (
        "indices are checked against their axis",
        "check{kinds=bounds}",
        """
        func @f(%x: f32[9, 4], %i: i64[3]) -> (f32[3, 4]) {
          %r: f32[3, 4] = gather %x, %i {axes=[0]}
          return %r
        }
        """,
        """
        func @f(%x: f32[9, 4], %i: i64[3]) -> (f32[3, 4]) {
          %i1: i64[3] = check %i {axis=0, kind="bounds", size=9}
          %r: f32[3, 4] = gather %x, %i1 {axes=[0]}
          return %r
        }
        """,
    ),
    (
        "constant indices inside need no check",
        "check",
        """
        func @f(%x: i32[9]) -> (i32[2]) {
          %i: i64[2] = constant {value=[-9, 8]}
          %r: i32[2] = gather %x, %i {axes=[0]}
          return %r
        }
        """,
        """
        func @f(%x: i32[9]) -> (i32[2]) {
          %i: i64[2] = constant {value=[-9, 8]}
          %r: i32[2] = gather %x, %i {axes=[0]}
          return %r
        }
        """,
    ),
    (
        "what may make a NaN is checked, moves are not",
        "check{kinds=nan}",
        """
        func @f(%x: f32[4]) -> (f32[4]) {
          %a: f32[4] = exp %x
          %b: f32[4] = neg %a
          %c: f32[4] = reverse %b {axes=[0]}
          return %c
        }
        """,
        """
        func @f(%x: f32[4]) -> (f32[4]) {
          %a: f32[4] = exp %x
          %a1: f32[4] = check %a {axis=0, kind="nan", size=0}
          %b: f32[4] = neg %a1
          %c: f32[4] = reverse %b {axes=[0]}
          return %c
        }
        """,
    ),
    (
        "a mask of infinities is no error until something is made of it",
        "check{kinds=nan}",
        """
        func @f(%x: f32[4], %p: bool[4]) -> (f32[4]) {
          %c: f32[] = constant {value=-inf}
          %m: f32[4] = broadcast %c {axes=[], shape=[4]}
          %s: f32[4] = select %p, %x, %m
          %a: f32[4] = add %s, %x
          %e: f32[4] = exp %a
          return %e
        }
        """,
        """
        func @f(%x: f32[4], %p: bool[4]) -> (f32[4]) {
          %c: f32[] = constant {value=-inf}
          %m: f32[4] = broadcast %c {axes=[], shape=[4]}
          %s: f32[4] = select %p, %x, %m
          %a: f32[4] = add %s, %x
          %e: f32[4] = exp %a
          %e1: f32[4] = check %e {axis=0, kind="nan", size=0}
          return %e1
        }
        """,
    ),
]


@pytest.mark.parametrize(
    ("name", "pipeline", "before", "after"), PAIRS, ids=[pair[0] for pair in PAIRS]
)
def test_pair(name: str, pipeline: str, before: str, after: str) -> None:
    check_pair(pipeline, before, after)
