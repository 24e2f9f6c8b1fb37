# ruff: noqa: E501
"""Fusion: text before and after."""

import pytest

from tests.passes.pairs import check_pair

PAIRS = [
    (
        "softmax is one kernel",
        "fuse",
        """
        func @f(%x: f32[4, 8]) -> (f32[4, 8]) {
          %m: f32[4] = reduce %x {axes=[1], monoid="max"}
          %b: f32[4, 8] = broadcast %m {axes=[0], shape=[4, 8]}
          %d: f32[4, 8] = sub %x, %b
          %e: f32[4, 8] = exp %d
          %s: f32[4] = reduce %e {axes=[1], monoid="sum"}
          %t: f32[4, 8] = broadcast %s {axes=[0], shape=[4, 8]}
          %r: f32[4, 8] = div %e, %t
          return %r
        }
        """,
        """
        func @f(%x: f32[4, 8]) -> (f32[4, 8]) {
          %r: f32[4, 8] = fusion %x {kind="reduce", reason="5 ops, 1 in, 1 out, saves 576 B"} {
            (%x1: f32[4, 8]):
            %m: f32[4] = reduce %x1 {axes=[1], monoid="max"}
            %b: f32[4, 8] = broadcast %m {axes=[0], shape=[4, 8]}
            %d: f32[4, 8] = sub %x1, %b
            %e: f32[4, 8] = exp %d
            %s: f32[4] = reduce %e {axes=[1], monoid="sum"}
            %t: f32[4, 8] = broadcast %s {axes=[0], shape=[4, 8]}
            %r1: f32[4, 8] = div %e, %t
            yield %r1
          }
          return %r
        }
        """,
    ),
    (
        "several results, one kernel",
        "fuse",
        """
        func @f(%x: f32[4], %y: f32[4]) -> (f32[4], f32[4]) {
          %a: f32[4] = add %x, %y
          %b: f32[4] = exp %a
          %c: f32[4] = tanh %a
          return %b, %c
        }
        """,
        """
        func @f(%x: f32[4], %y: f32[4]) -> (f32[4], f32[4]) {
          %b: f32[4], %c: f32[4] = fusion %x, %y {kind="loop", reason="3 ops, 2 in, 2 out, saves 32 B"} {
            (%x1: f32[4], %y1: f32[4]):
            %a: f32[4] = add %x1, %y1
            %b1: f32[4] = exp %a
            %c1: f32[4] = tanh %a
            yield %b1, %c1
          }
          return %b, %c
        }
        """,
    ),
    (
        "full values that are only reduced along another axis",
        "fuse",
        """
        func @f(%x: f32[4, 8]) -> (f32[8]) {
          %m: f32[4] = reduce %x {axes=[1], monoid="max"}
          %n: f32[4, 8] = broadcast %m {axes=[0], shape=[4, 8]}
          %d: f32[4, 8] = sub %x, %n
          %e: f32[4, 8] = exp %d
          %s: f32[8] = reduce %e {axes=[0], monoid="sum"}
          return %s
        }
        """,
        """
        func @f(%x: f32[4, 8]) -> (f32[8]) {
          %m: f32[4] = reduce %x {axes=[1], monoid="max"}
          %s: f32[8] = fusion %m, %x {kind="reduce", reason="3 ops, 2 in, 1 out, saves 512 B; apart: only reductions along other axes read it"} {
            (%m1: f32[4], %x1: f32[4, 8]):
            %n: f32[4, 8] = broadcast %m1 {axes=[0], shape=[4, 8]}
            %d: f32[4, 8] = sub %x1, %n
            %e: f32[4, 8] = exp %d
            %s1: f32[8] = reduce %e {axes=[0], monoid="sum"}
            yield %s1
          }
          return %s
        }
        """,
    ),
    (
        "a product with bias, residual and activation",
        "fuse",
        """
        func @f(%x: f32[4, 8], %w: f32[8, 8], %b: f32[8]) -> (f32[4, 8]) {
          %d: f32[4, 8] = dot_general %x, %w {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %c: f32[4, 8] = broadcast %b {axes=[1], shape=[4, 8]}
          %e: f32[4, 8] = add %d, %c
          %g: f32[4, 8] = tanh %e
          %r: f32[4, 8] = add %g, %x
          return %r
        }
        """,
        """
        func @f(%x: f32[4, 8], %w: f32[8, 8], %b: f32[8]) -> (f32[4, 8]) {
          %r: f32[4, 8] = fusion %x, %w, %b {kind="contract", reason="4 ops, 3 in, 1 out, saves 768 B"} {
            (%x1: f32[4, 8], %w1: f32[8, 8], %b1: f32[8]):
            %d: f32[4, 8] = dot_general %x1, %w1 {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
            %c: f32[4, 8] = broadcast %b1 {axes=[1], shape=[4, 8]}
            %e: f32[4, 8] = add %d, %c
            %g: f32[4, 8] = tanh %e
            %r1: f32[4, 8] = add %g, %x1
            yield %r1
          }
          return %r
        }
        """,
    ),
    (
        "operands that are only widened",
        "fuse",
        """
        func @f(%x: i8[4, 8], %w: i8[8, 8]) -> (i32[4, 8], i32[4, 8]) {
          %a: i32[4, 8] = cast %x {dtype=i32}
          %b: i32[8, 8] = cast %w {dtype=i32}
          %d: i32[4, 8] = dot_general %a, %b {dtype=i32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %e: i32[4, 8] = dot_general %a, %b {dtype=i32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[1]}
          return %d, %e
        }
        """,
        """
        func @f(%x: i8[4, 8], %w: i8[8, 8]) -> (i32[4, 8], i32[4, 8]) {
          %d: i32[4, 8] = fusion %x, %w {kind="contract", reason="3 ops, 2 in, 1 out, saves 768 B"} {
            (%x1: i8[4, 8], %w1: i8[8, 8]):
            %a: i32[4, 8] = cast %x1 {dtype=i32}
            %b: i32[8, 8] = cast %w1 {dtype=i32}
            %d1: i32[4, 8] = dot_general %a, %b {dtype=i32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
            yield %d1
          }
          %e: i32[4, 8] = fusion %x, %w {kind="contract", reason="3 ops, 2 in, 1 out, saves 768 B"} {
            (%x2: i8[4, 8], %w2: i8[8, 8]):
            %a1: i32[4, 8] = cast %x2 {dtype=i32}
            %b1: i32[8, 8] = cast %w2 {dtype=i32}
            %e1: i32[4, 8] = dot_general %a1, %b1 {dtype=i32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[1]}
            yield %e1
          }
          return %d, %e
        }
        """,
    ),
    (
        "no cycle: a value needed before and after a product",
        "fuse",
        """
        func @f(%x: f32[4, 4]) -> (f32[4, 4]) {
          %a: f32[4, 4] = exp %x
          %d: f32[4, 4] = dot_general %a, %x {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %s: f32[4, 4] = sort %d {axis=0, descending=false}
          %r: f32[4, 4] = add %a, %s
          return %r
        }
        """,
        """
        func @f(%x: f32[4, 4]) -> (f32[4, 4]) {
          %a: f32[4, 4] = exp %x
          %d: f32[4, 4] = dot_general %a, %x {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %s: f32[4, 4] = sort %d {axis=0, descending=false}
          %r: f32[4, 4] = add %a, %s
          return %r
        }
        """,
    ),
    (
        "slices of a parameter are read in place",
        "fuse",
        """
        func @f(%x: f32[6]) -> (f32[4]) {
          %a: f32[4] = slice %x {start=[0], step=[1], stop=[4]}
          %b: f32[4] = slice %x {start=[2], step=[1], stop=[6]}
          %r: f32[4] = add %a, %b
          return %r
        }
        """,
        """
        func @f(%x: f32[6]) -> (f32[4]) {
          %r: f32[4] = fusion %x {kind="loop", reason="3 ops, 1 in, 1 out, saves 0 B"} {
            (%x1: f32[6]):
            %a: f32[4] = slice %x1 {start=[0], step=[1], stop=[4]}
            %b: f32[4] = slice %x1 {start=[2], step=[1], stop=[6]}
            %r1: f32[4] = add %a, %b
            yield %r1
          }
          return %r
        }
        """,
    ),
    (
        "costly values are not computed twice",
        "fuse",
        """
        func @f(%x: f32[8]) -> (f32[4, 8]) {
          %e: f32[8] = exp %x
          %b: f32[4, 8] = broadcast %e {axes=[1], shape=[4, 8]}
          %r: f32[4, 8] = tanh %b
          return %r
        }
        """,
        """
        func @f(%x: f32[8]) -> (f32[4, 8]) {
          %e: f32[8] = exp %x
          %r: f32[4, 8] = fusion %e {kind="loop", reason="1 ops, 1 in, 1 out, saves 0 B"} {
            (%e1: f32[8]):
            %b: f32[4, 8] = broadcast %e1 {axes=[1], shape=[4, 8]}
            %r1: f32[4, 8] = tanh %b
            yield %r1
          }
          return %r
        }
        """,
    ),
    (
        "cheap ones are computed in each kernel",
        "fuse",
        """
        func @f(%x: bf16[8, 4]) -> (f32[4], f32[8]) {
          %a: f32[8, 4] = cast %x {dtype=f32}
          %s: f32[4] = reduce %a {axes=[0], monoid="sum"}
          %t: f32[8] = reduce %a {axes=[1], monoid="sum"}
          return %s, %t
        }
        """,
        """
        func @f(%x: bf16[8, 4]) -> (f32[4], f32[8]) {
          %s: f32[4] = fusion %x {kind="reduce", reason="2 ops, 1 in, 1 out, saves 0 B"} {
            (%x1: bf16[8, 4]):
            %a: f32[8, 4] = cast %x1 {dtype=f32}
            %s1: f32[4] = reduce %a {axes=[0], monoid="sum"}
            yield %s1
          }
          %t: f32[8] = fusion %x {kind="reduce", reason="2 ops, 1 in, 1 out, saves 0 B"} {
            (%x2: bf16[8, 4]):
            %a1: f32[8, 4] = cast %x2 {dtype=f32}
            %t1: f32[8] = reduce %a1 {axes=[1], monoid="sum"}
            yield %t1
          }
          return %s, %t
        }
        """,
    ),
    (
        "small independent loops share a kernel",
        "fuse",
        """
        func @f(%x: f32[8], %y: f32[8]) -> (f32[8], f32[8]) {
          %a: f32[8] = exp %x
          %b: f32[8] = sin %y
          return %a, %b
        }
        """,
        """
        func @f(%x: f32[8], %y: f32[8]) -> (f32[8], f32[8]) {
          %a: f32[8], %b: f32[8] = fusion %x, %y {kind="loop", reason="2 ops, 2 in, 2 out, saves 0 B"} {
            (%x1: f32[8], %y1: f32[8]):
            %a1: f32[8] = exp %x1
            %b1: f32[8] = sin %y1
            yield %a1, %b1
          }
          return %a, %b
        }
        """,
    ),
    (
        "a long sum and what needs it are two kernels",
        "fuse",
        """
        func @f(%x: f32[99999]) -> (f32[99999]) {
          %s: f32[] = reduce %x {axes=[0], monoid="sum"}
          %b: f32[99999] = broadcast %s {axes=[], shape=[99999]}
          %r: f32[99999] = div %x, %b
          return %r
        }
        """,
        """
        func @f(%x: f32[99999]) -> (f32[99999]) {
          %s: f32[] = reduce %x {axes=[0], monoid="sum"}
          %r: f32[99999] = fusion %s, %x {kind="loop", reason="1 ops, 2 in, 1 out, saves 0 B; apart: few long rows: one kernel would be serial"} {
            (%s1: f32[], %x1: f32[99999]):
            %b: f32[99999] = broadcast %s1 {axes=[], shape=[99999]}
            %r1: f32[99999] = div %x1, %b
            yield %r1
          }
          return %r
        }
        """,
    ),
    (
        "inside loops too",
        "fuse",
        """
        func @f(%x: f32[8]) -> (f32[8]) {
          %r: f32[8] = scan %x {carry=1, length=3, reverse=false, xs=0} {
            (%a: f32[8]):
            %r1: f32[8] = reverse %a {axes=[0]}
            %b: f32[8] = exp %r1
            %c: f32[8] = neg %b
            yield %c
          }
          return %r
        }
        """,
        """
        func @f(%x: f32[8]) -> (f32[8]) {
          %r: f32[8] = scan %x {carry=1, length=3, reverse=false, xs=0} {
            (%a: f32[8]):
            %c: f32[8] = fusion %a {kind="loop", reason="3 ops, 1 in, 1 out, saves 64 B"} {
              (%a1: f32[8]):
              %r1: f32[8] = reverse %a1 {axes=[0]}
              %b: f32[8] = exp %r1
              %c1: f32[8] = neg %b
              yield %c1
            }
            yield %c
          }
          return %r
        }
        """,
    ),
    (
        "a loop whose elements do not meet",
        "fuse,memory",
        """
        func @f(%x: f32[8]) -> (f32[8]) {
          %s: f32[8] = neg %x
          %r: f32[8] = scan %s, %x {carry=1, length=3, reverse=false, xs=0} {
            (%a: f32[8], %c: f32[8]):
            %b: f32[8] = add %a, %c
            yield %b
          }
          return %r
        }
        """,
        """
        func @f(%x: f32[8]) -> (f32[8]) attrs={arena_bytes=0} {
          %r: f32[8] = fusion %x {buffers=["out:0"], kind="iterate", reason="3 turns in registers"} {
            (%x1: f32[8]):
            %s: f32[8] = neg %x1
            %r1: f32[8] = scan %s, %x1 {carry=1, length=3, reverse=false, xs=0} {
              (%a: f32[8], %c: f32[8]):
              %b: f32[8] = add %a, %c
              yield %b
            }
            yield %r1
          }
          return %r
        }
        """,
    ),
]


@pytest.mark.parametrize(
    ("name", "pipeline", "before", "after"), PAIRS, ids=[pair[0] for pair in PAIRS]
)
def test_pair(name: str, pipeline: str, before: str, after: str) -> None:
    check_pair(pipeline, before, after)
