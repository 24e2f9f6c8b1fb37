# ruff: noqa: E501
"""Memory planning: text before and after."""

import textwrap

import pytest

from graphmill.ir.parser import parse
from graphmill.passes.manager import run_pipeline
from tests.passes.pairs import check_pair

PAIRS = [
    (
        "results are written directly, temporaries share the arena",
        "memory",
        """
        func @f(%x: f32[16, 4]) -> (f32[4]) {
          %a: f32[16, 4] = exp %x
          %b: f32[4, 16] = transpose %a {perm=[1, 0]}
          %c: f32[4, 16] = reverse %b {axes=[0]}
          %d: f32[4] = reduce %c {axes=[1], monoid="sum"}
          return %d
        }
        """,
        """
        func @f(%x: f32[16, 4]) -> (f32[4]) attrs={arena_bytes=512} {
          %a: f32[16, 4] = exp %x {buffers=["arena:0"]}
          %b: f32[4, 16] = transpose %a {buffers=["arena:256"], perm=[1, 0]}
          %c: f32[4, 16] = reverse %b {axes=[0], buffers=["arena:0"]}
          %d: f32[4] = reduce %c {axes=[1], buffers=["out:0"], monoid="sum"}
          return %d
        }
        """,
    ),
    (
        "an operand that dies is overwritten",
        "memory",
        """
        func @f(%x: f32[4]) -> (f32[]) {
          %a: f32[4] = exp %x
          %b: f32[4] = neg %a
          %c: f32[] = reduce %b {axes=[0], monoid="sum"}
          return %c
        }
        """,
        """
        func @f(%x: f32[4]) -> (f32[]) attrs={arena_bytes=64} {
          %a: f32[4] = exp %x {buffers=["arena:0"]}
          %b: f32[4] = neg %a {buffers=["alias:0"]}
          %c: f32[] = reduce %b {axes=[0], buffers=["out:0"], monoid="sum"}
          return %c
        }
        """,
    ),
    (
        "copies where a result is not ours to give",
        "memory",
        """
        func @f(%x: f32[4]) -> (f32[4], f32[2, 2], f32[4]) {
          %a: f32[4] = exp %x
          %b: f32[2, 2] = reshape %a {shape=[2, 2]}
          return %x, %b, %a
        }
        """,
        """
        func @f(%x: f32[4]) -> (f32[4], f32[2, 2], f32[4]) attrs={arena_bytes=0} {
          %a: f32[4] = exp %x {buffers=["out:1"]}
          %b: f32[2, 2] = reshape %a {buffers=["alias:0"], shape=[2, 2]}
          %x1: f32[4] = copy %x {buffers=["out:0"]}
          %a1: f32[4] = copy %a {buffers=["out:2"]}
          return %x1, %b, %a1
        }
        """,
    ),
    (
        "symbolic sizes have symbolic offsets",
        "memory",
        """
        func @f(%x: f32[n, 4]) -> (f32[4]) dims={n: 0..} {
          %a: f32[n, 4] = exp %x
          %b: f32[n, 4] = reverse %a {axes=[0]}
          %c: f32[n, 4] = reverse %b {axes=[1]}
          %d: f32[4] = reduce %c {axes=[0], monoid="sum"}
          return %d
        }
        """,
        """
        func @f(%x: f32[n, 4]) -> (f32[4]) dims={n: 0..} attrs={arena_bytes=128*floordiv(16*n + 63, 64)} {
          %a: f32[n, 4] = exp %x {buffers=["arena:0"]}
          %b: f32[n, 4] = reverse %a {axes=[0], buffers=["arena:64*floordiv(16*n + 63, 64)"]}
          %c: f32[n, 4] = reverse %b {axes=[1], buffers=["arena:0"]}
          %d: f32[4] = reduce %c {axes=[0], buffers=["out:0"], monoid="sum"}
          return %d
        }
        """,
    ),
    (
        "an update in a loop is made in place",
        "memory",
        """
        func @f(%i: i32[], %x: f32[9]) -> (i32[], f32[9]) {
          %r: i32[], %s: f32[9] = while %i, %x {carry=2} test {
            (%a: i32[], %b: f32[9]):
            %n: i32[] = constant {value=9}
            %t: bool[] = lt %a, %n
            yield %t
          } body {
            (%a1: i32[], %b1: f32[9]):
            %u: f32[1] = constant {value=[1.0]}
            %e: f32[9] = dynamic_update_slice %b1, %u, %a1
            %d: i32[] = add %a1, %a1
            yield %d, %e
          }
          return %r, %s
        }
        """,
        """
        func @f(%i: i32[], %x: f32[9]) -> (i32[], f32[9]) attrs={arena_bytes=128} {
          %r: i32[], %s: f32[9] = while %i, %x {buffers=["out:0", "out:1"], carry=2} test {
            (%a: i32[], %b: f32[9]):
            %n: i32[] = constant {buffers=["const"], value=9}
            %t: bool[] = lt %a, %n {buffers=["arena:64"]}
            yield %t
          } body {
            (%a1: i32[], %b1: f32[9]):
            %u: f32[1] = constant {buffers=["const"], value=[1.0]}
            %e: f32[9] = dynamic_update_slice %b1, %u, %a1 {buffers=["alias:0"]}
            %d: i32[] = add %a1, %a1 {buffers=["arena:0"]}
            yield %d, %e
          }
          return %r, %s
        }
        """,
    ),
]


@pytest.mark.parametrize(
    ("name", "pipeline", "before", "after"), PAIRS, ids=[pair[0] for pair in PAIRS]
)
def test_pair(name: str, pipeline: str, before: str, after: str) -> None:
    check_pair(pipeline, before, after)


def test_updates_one_after_the_other_in_a_loop_are_in_place() -> None:
    text = """
    func @f(%x: f32[9], %u: f32[2]) -> (f32[9]) {
      %r: f32[9] = scan %x, %u {carry=1, length=5, reverse=false, xs=0} {
        (%a: f32[9], %v: f32[2]):
        %i: i64[] = constant {value=1}
        %j: i64[] = constant {value=4}
        %b: f32[9] = dynamic_update_slice %a, %v, %i
        %s: f32[2] = slice %b {start=[2], step=[1], stop=[4]}
        %w: f32[2] = cumulative %s {axis=0, monoid="sum", reverse=false}
        %c: f32[9] = dynamic_update_slice %b, %w, %j
        yield %c
      }
      return %r
    }
    """
    made = run_pipeline(parse(textwrap.dedent(text).strip()), "memory").entry
    updates = [op for op in made.walk() if op.name == "dynamic_update_slice"]
    assert [op.attrs["buffers"] for op in updates] == [("alias:0",), ("alias:0",)]
