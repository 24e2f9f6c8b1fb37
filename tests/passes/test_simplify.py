"""Simplification: text before and after."""

import pytest

from tests.passes.pairs import check_pair

PAIRS = [
    (
        "keepdims leaves no reshape",
        "simplify,dce",
        """
        func @f(%x: f32[4, 8]) -> (f32[4, 8]) {
          %m: f32[4] = reduce %x {axes=[1], monoid="sum"}
          %k: f32[4, 1] = reshape %m {shape=[4, 1]}
          %s: f32[4, 1] = sqrt %k
          %b: f32[4, 8] = broadcast %s {axes=[0, 1], shape=[4, 8]}
          %r: f32[4, 8] = sub %x, %b
          return %r
        }
        """,
        """
        func @f(%x: f32[4, 8]) -> (f32[4, 8]) {
          %m: f32[4] = reduce %x {axes=[1], monoid="sum"}
          %0: f32[4] = sqrt %m
          %b: f32[4, 8] = broadcast %0 {axes=[0], shape=[4, 8]}
          %r: f32[4, 8] = sub %x, %b
          return %r
        }
        """,
    ),
    (
        "compute before repeating",
        "simplify,dce",
        """
        func @f(%x: f32[8]) -> (f32[4, 8]) {
          %b: f32[4, 8] = broadcast %x {axes=[1], shape=[4, 8]}
          %e: f32[4, 8] = exp %b
          %c: f32[] = constant {value=2.0}
          %d: f32[4, 8] = broadcast %c {axes=[], shape=[4, 8]}
          %r: f32[4, 8] = mul %e, %d
          return %r
        }
        """,
        """
        func @f(%x: f32[8]) -> (f32[4, 8]) {
          %0: f32[8] = exp %x
          %c: f32[] = constant {value=2.0}
          %1: f32[8] = broadcast %c {axes=[], shape=[8]}
          %2: f32[8] = mul %0, %1
          %r: f32[4, 8] = broadcast %2 {axes=[1], shape=[4, 8]}
          return %r
        }
        """,
    ),
    (
        "a cube without pow",
        "simplify,dce",
        """
        func @f(%x: f32[4]) -> (f32[4]) {
          %c: f32[4] = constant {value=[3.0, 3.0, 3.0, 3.0]}
          %r: f32[4] = pow %x, %c
          return %r
        }
        """,
        """
        func @f(%x: f32[4]) -> (f32[4]) {
          %0: f32[4] = square %x
          %r: f32[4] = mul %0, %x
          return %r
        }
        """,
    ),
    (
        "x + 0 keeps the sign of zero",
        "simplify,dce",
        """
        func @f(%x: f32[4]) -> (f32[4]) {
          %z: f32[] = constant {value=0.0}
          %b: f32[4] = broadcast %z {axes=[], shape=[4]}
          %r: f32[4] = add %x, %b
          return %r
        }
        """,
        """
        func @f(%x: f32[4]) -> (f32[4]) {
          %z: f32[] = constant {value=0.0}
          %b: f32[4] = broadcast %z {axes=[], shape=[4]}
          %r: f32[4] = add %x, %b
          return %r
        }
        """,
    ),
    (
        "two transposes are one or none",
        "simplify,dce",
        """
        func @f(%x: f32[2, 3, 4]) -> (f32[2, 3, 4], f32[4, 2, 3]) {
          %a: f32[4, 3, 2] = transpose %x {perm=[2, 1, 0]}
          %b: f32[2, 3, 4] = transpose %a {perm=[2, 1, 0]}
          %c: f32[4, 2, 3] = transpose %a {perm=[0, 2, 1]}
          return %b, %c
        }
        """,
        """
        func @f(%x: f32[2, 3, 4]) -> (f32[2, 3, 4], f32[4, 2, 3]) {
          %c: f32[4, 2, 3] = transpose %x {perm=[2, 0, 1]}
          return %x, %c
        }
        """,
    ),
    (
        "a slice of a concatenation is a slice of one part",
        "simplify,dce",
        """
        func @f(%x: f32[4], %y: f32[4]) -> (f32[2]) {
          %c: f32[8] = concat %x, %y {axis=0}
          %s: f32[2] = slice %c {start=[5], step=[1], stop=[7]}
          return %s
        }
        """,
        """
        func @f(%x: f32[4], %y: f32[4]) -> (f32[2]) {
          %s: f32[2] = slice %y {start=[1], step=[1], stop=[3]}
          return %s
        }
        """,
    ),
    (
        "slices of slices",
        "simplify,dce",
        """
        func @f(%x: f32[20]) -> (f32[3]) {
          %a: f32[8] = slice %x {start=[2], step=[2], stop=[18]}
          %b: f32[3] = slice %a {start=[1], step=[2], stop=[6]}
          return %b
        }
        """,
        """
        func @f(%x: f32[20]) -> (f32[3]) {
          %b: f32[3] = slice %x {start=[4], step=[4], stop=[13]}
          return %b
        }
        """,
    ),
    (
        "indexing an axis is a gather, not a copy",
        "simplify,dce",
        """
        func @f(%x: f32[4, 5, 6]) -> (f32[4, 6]) {
          %a: f32[4, 1, 6] = slice %x {start=[0, 3, 0], step=[1, 1, 1], stop=[4, 4, 6]}
          %b: f32[4, 6] = reshape %a {shape=[4, 6]}
          %c: f32[4, 6] = exp %b
          return %c
        }
        """,
        """
        func @f(%x: f32[4, 5, 6]) -> (f32[4, 6]) {
          %0: i64[] = constant {value=3}
          %b: f32[4, 6] = gather %x, %0 {axes=[1]}
          %c: f32[4, 6] = exp %b
          return %c
        }
        """,
    ),
    (
        "casts that lose nothing are skipped",
        "simplify,dce",
        """
        func @f(%x: i16[4]) -> (f64[4], i8[4]) {
          %a: i32[4] = cast %x {dtype=i32}
          %b: f64[4] = cast %a {dtype=f64}
          %c: i8[4] = cast %x {dtype=i8}
          %d: i8[4] = cast %c {dtype=i8}
          return %b, %d
        }
        """,
        """
        func @f(%x: i16[4]) -> (f64[4], i8[4]) {
          %b: f64[4] = cast %x {dtype=f64}
          %c: i8[4] = cast %x {dtype=i8}
          return %b, %c
        }
        """,
    ),
    (
        "reduce of a transpose, and of a reduce",
        "simplify,dce",
        """
        func @f(%x: f32[2, 3, 4]) -> (f32[3]) {
          %t: f32[4, 3, 2] = transpose %x {perm=[2, 1, 0]}
          %a: f32[4, 3] = reduce %t {axes=[2], monoid="max"}
          %b: f32[3] = reduce %a {axes=[0], monoid="max"}
          return %b
        }
        """,
        """
        func @f(%x: f32[2, 3, 4]) -> (f32[3]) {
          %b: f32[3] = reduce %x {axes=[0, 2], monoid="max"}
          return %b
        }
        """,
    ),
    (
        "division by a power of two",
        "simplify,dce",
        """
        func @f(%x: f32[4]) -> (f32[4], f32[4]) {
          %c: f32[4] = constant {value=[8.0, 8.0, 8.0, 8.0]}
          %d: f32[4] = constant {value=[3.0, 3.0, 3.0, 3.0]}
          %r: f32[4] = div %x, %c
          %s: f32[4] = div %x, %d
          return %r, %s
        }
        """,
        """
        func @f(%x: f32[4]) -> (f32[4], f32[4]) {
          %0: f32[] = constant {value=3.0}
          %d: f32[4] = broadcast %0 {axes=[], shape=[4]}
          %1: f32[] = constant {value=0.125}
          %2: f32[4] = broadcast %1 {axes=[], shape=[4]}
          %r: f32[4] = mul %x, %2
          %s: f32[4] = div %x, %d
          return %r, %s
        }
        """,
    ),
    (
        "an unchanged carry is captured",
        "simplify,dce",
        """
        func @f(%i: i32[], %n: i32[]) -> (i32[], i32[]) {
          %r: i32[], %s: i32[] = while %n, %i {carry=2} test {
            (%m: i32[], %a: i32[]):
            %t: bool[] = lt %a, %m
            yield %t
          } body {
            (%m1: i32[], %a1: i32[]):
            %d: i32[] = add %a1, %a1
            yield %m1, %d
          }
          return %r, %s
        }
        """,
        """
        func @f(%i: i32[], %n: i32[]) -> (i32[], i32[]) {
          %s: i32[] = while %i, %n {carry=1} test {
            (%a: i32[], %m: i32[]):
            %t: bool[] = lt %a, %m
            yield %t
          } body {
            (%a1: i32[], %m1: i32[]):
            %d: i32[] = add %a1, %a1
            yield %d
          }
          return %n, %s
        }
        """,
    ),
    (
        "what a loop computes again and again is computed before it",
        "simplify,dce",
        """
        func @f(%x: f32[2], %y: f32[2]) -> (f32[2]) {
          %r: f32[2] = scan %x, %y {carry=1, length=3, reverse=false, xs=0} {
            (%a: f32[2], %b: f32[2]):
            %n: f32[2] = neg %b
            %e: f32[2] = exp %n
            %d: f32[2] = add %a, %e
            yield %d
          }
          return %r
        }
        """,
        """
        func @f(%x: f32[2], %y: f32[2]) -> (f32[2]) {
          %n: f32[2] = neg %y
          %e: f32[2] = exp %n
          %r: f32[2] = scan %x, %e {carry=1, length=3, reverse=false, xs=0} {
            (%a: f32[2], %e1: f32[2]):
            %d: f32[2] = add %a, %e1
            yield %d
          }
          return %r
        }
        """,
    ),
    (
        "constants go into regions",
        "simplify,dce",
        """
        func @f(%p: bool[], %x: f32[]) -> (f32[]) {
          %c: f32[] = constant {value=1.0}
          %r: f32[] = cond %p, %x, %c true {
            (%a: f32[], %b: f32[]):
            %d: f32[] = mul %a, %b
            yield %d
          } false {
            (%a1: f32[], %b1: f32[]):
            yield %b1
          }
          return %r
        }
        """,
        """
        func @f(%p: bool[], %x: f32[]) -> (f32[]) {
          %r: f32[] = cond %p, %x true {
            (%a: f32[]):
            yield %a
          } false {
            (%a1: f32[]):
            %c: f32[] = constant {value=1.0}
            yield %c
          }
          return %r
        }
        """,
    ),
    (
        "rows of a batch of one keep their axis",
        "simplify,dce",
        """
        func @f(%x: f32[1, 4, 64]) -> (f32[1, 4, 64]) {
          %r: f32[1, 4] = reduce %x {axes=[2], monoid="max"}
          %k: f32[1, 4, 1] = reshape %r {shape=[1, 4, 1]}
          %b: f32[1, 4, 64] = broadcast %k {axes=[0, 1, 2], shape=[1, 4, 64]}
          %d: f32[1, 4, 64] = sub %x, %b
          return %d
        }
        """,
        """
        func @f(%x: f32[1, 4, 64]) -> (f32[1, 4, 64]) {
          %r: f32[1, 4] = reduce %x {axes=[2], monoid="max"}
          %b: f32[1, 4, 64] = broadcast %r {axes=[0, 1], shape=[1, 4, 64]}
          %d: f32[1, 4, 64] = sub %x, %b
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
