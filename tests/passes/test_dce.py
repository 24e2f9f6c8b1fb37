"""Dead code: text before and after."""

import pytest

from tests.passes.pairs import check_pair

PAIRS = [
    (
        "what nobody reads goes",
        "dce",
        """
        func @f(%x: f32[2]) -> (f32[2]) {
          %a: f32[2] = exp %x
          %b: f32[2] = log %a
          %c: f32[2] = neg %x
          return %c
        }
        """,
        """
        func @f(%x: f32[2]) -> (f32[2]) {
          %c: f32[2] = neg %x
          return %c
        }
        """,
    ),
    (
        "a write stays, an unread read goes",
        "dce",
        """
        variable @v: f32[2] = [1.0, 2.0]

        func @f(%x: f32[2]) -> () {
          %t: token = token
          %a: f32[2], %u: token = variable.read %t {name="v", type=f32[2]}
          %t2: token = token
          %w: token = variable.assign %x, %t2 {name="v"}
          return
        }
        """,
        """
        variable @v: f32[2] = [1.0, 2.0]

        func @f(%x: f32[2]) -> () {
          %t2: token = token
          %w: token = variable.assign %x, %t2 {name="v"}
          return
        }
        """,
    ),
    (
        "checks stay",
        "dce",
        """
        func @f(%x: f32[2]) -> (f32[2]) {
          %a: f32[2] = check %x {axis=0, kind="nan", size=0}
          return %x
        }
        """,
        """
        func @f(%x: f32[2]) -> (f32[2]) {
          %a: f32[2] = check %x {axis=0, kind="nan", size=0}
          return %x
        }
        """,
    ),
    (
        "unread carries and captures of a loop go",
        "dce",
        """
        func @f(%i: i32[], %x: f32[2], %y: f32[2]) -> (i32[]) {
          %r: i32[], %s: f32[2] = while %i, %x, %y {carry=2} test {
            (%a: i32[], %b: f32[2], %c: f32[2]):
            %n: i32[] = constant {value=9}
            %t: bool[] = lt %a, %n
            yield %t
          } body {
            (%a1: i32[], %b1: f32[2], %c1: f32[2]):
            %o: i32[] = constant {value=1}
            %d: i32[] = add %a1, %o
            %e: f32[2] = mul %b1, %c1
            yield %d, %e
          }
          return %r
        }
        """,
        """
        func @f(%i: i32[], %x: f32[2], %y: f32[2]) -> (i32[]) {
          %r: i32[] = while %i {carry=1} test {
            (%a: i32[]):
            %n: i32[] = constant {value=9}
            %t: bool[] = lt %a, %n
            yield %t
          } body {
            (%a1: i32[]):
            %o: i32[] = constant {value=1}
            %d: i32[] = add %a1, %o
            yield %d
          }
          return %r
        }
        """,
    ),
    (
        "unread results of a cond go",
        "dce",
        """
        func @f(%p: bool[], %x: f32[2]) -> (f32[2]) {
          %r: f32[2], %s: f32[2] = cond %p, %x true {
            (%a: f32[2]):
            %n: f32[2] = neg %a
            %e: f32[2] = exp %a
            yield %n, %e
          } false {
            (%b: f32[2]):
            yield %b, %b
          }
          return %r
        }
        """,
        """
        func @f(%p: bool[], %x: f32[2]) -> (f32[2]) {
          %r: f32[2] = cond %p, %x true {
            (%a: f32[2]):
            %n: f32[2] = neg %a
            yield %n
          } false {
            (%b: f32[2]):
            yield %b
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
