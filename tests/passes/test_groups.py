# ruff: noqa: E501
"""Groups: text before and after, and what stays."""

import pytest

from tests.passes.pairs import check_pair

SCALED = """
        func @f(%x: f32[3, 8], %q: i8[8, 5], %s: f32[2, 5]) -> (f32[3, 5]) {
          %0: f32[8, 5] = cast %q {dtype=f32}
          %1: f32[2, 4, 5] = broadcast %s {axes=[0, 2], shape=[2, 4, 5]}
          %2: f32[8, 5] = reshape %1 {shape=[8, 5]}
          %3: f32[8, 5] = mul %0, %2
          %4: f32[3, 5] = dot_general %x, %3 {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          return %4
        }
        """
PAIRS = [
    (
        "scales by group become an axis",
        SCALED,
        """
        func @f(%x: f32[3, 8], %q: i8[8, 5], %s: f32[2, 5]) -> (f32[3, 5]) {
          %0: f32[3, 2, 4] = reshape %x {shape=[3, 2, 4]}
          %1: i8[2, 4, 5] = reshape %q {shape=[2, 4, 5]}
          %2: f32[2, 4, 5] = cast %1 {dtype=f32}
          %3: f32[2, 4, 5] = broadcast %s {axes=[0, 2], shape=[2, 4, 5]}
          %4: f32[2, 4, 5] = mul %2, %3
          %5: f32[3, 5] = dot_general %0, %4 {dtype=f32, x_batch=[], x_contract=[1, 2], y_batch=[], y_contract=[0, 1]}
          return %5
        }
        """,
    ),
    (
        "blocks of the left operand, beside rows of the right one",
        """
        func @f(%q: i8[3, 8], %s: f32[3, 2], %p: i8[8, 5], %t: f32[5]) -> (f32[3, 5]) {
          %0: i8[3, 2, 4] = reshape %q {shape=[3, 2, 4]}
          %1: f32[3, 2, 4] = cast %0 {dtype=f32}
          %2: f32[3, 2, 4] = broadcast %s {axes=[0, 1], shape=[3, 2, 4]}
          %3: f32[3, 2, 4] = mul %1, %2
          %4: f32[3, 8] = reshape %3 {shape=[3, 8]}
          %5: f32[8, 5] = cast %p {dtype=f32}
          %6: f32[8, 5] = broadcast %t {axes=[1], shape=[8, 5]}
          %7: f32[8, 5] = mul %5, %6
          %8: f32[3, 5] = dot_general %4, %7 {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          return %8
        }
        """,
        """
        func @f(%q: i8[3, 8], %s: f32[3, 2], %p: i8[8, 5], %t: f32[5]) -> (f32[3, 5]) {
          %0: i8[2, 4, 5] = reshape %p {shape=[2, 4, 5]}
          %1: f32[2, 4, 5] = cast %0 {dtype=f32}
          %2: f32[2, 4, 5] = broadcast %t {axes=[2], shape=[2, 4, 5]}
          %3: f32[2, 4, 5] = mul %1, %2
          %4: i8[3, 2, 4] = reshape %q {shape=[3, 2, 4]}
          %5: f32[3, 2, 4] = cast %4 {dtype=f32}
          %6: f32[3, 2, 4] = broadcast %s {axes=[0, 1], shape=[3, 2, 4]}
          %7: f32[3, 2, 4] = mul %5, %6
          %8: f32[3, 5] = dot_general %7, %3 {dtype=f32, x_batch=[], x_contract=[1, 2], y_batch=[], y_contract=[0, 1]}
          return %8
        }
        """,
    ),
    (
        "halves of bytes become products",
        """
        func @f(%x: f32[3, 8], %p: u8[4, 5], %m: u8[4, 5]) -> (f32[3, 5]) {
          %0: u8[4, 5] = and %p, %m
          %1: u8[4, 5] = shr %p, %m
          %2: u8[8, 5] = concat %0, %1 {axis=0}
          %3: f32[8, 5] = cast %2 {dtype=f32}
          %4: f32[3, 5] = dot_general %x, %3 {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          return %4
        }
        """,
        """
        func @f(%x: f32[3, 8], %p: u8[4, 5], %m: u8[4, 5]) -> (f32[3, 5]) {
          %0: f32[3, 2, 4] = reshape %x {shape=[3, 2, 4]}
          %1: f32[3, 1, 4] = slice %0 {start=[0, 0, 0], step=[1, 1, 1], stop=[3, 1, 4]}
          %2: f32[3, 4] = reshape %1 {shape=[3, 4]}
          %3: u8[4, 5] = and %p, %m
          %4: f32[4, 5] = cast %3 {dtype=f32}
          %5: f32[3, 5] = dot_general %2, %4 {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %6: f32[3, 2, 4] = reshape %x {shape=[3, 2, 4]}
          %7: f32[3, 1, 4] = slice %6 {start=[0, 1, 0], step=[1, 1, 1], stop=[3, 2, 4]}
          %8: f32[3, 4] = reshape %7 {shape=[3, 4]}
          %9: u8[4, 5] = shr %p, %m
          %10: f32[4, 5] = cast %9 {dtype=f32}
          %11: f32[3, 5] = dot_general %8, %10 {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %12: f32[3, 5] = add %5, %11
          return %12
        }
        """,
    ),
]
KEPT = {
    "nothing narrow": SCALED.replace("i8[8, 5]", "f64[8, 5]"),
    "read twice": SCALED.replace("(f32[3, 5]) {", "(f32[3, 5], f32[8, 5]) {").replace(
        "return %4", "return %4, %3"
    ),
}


@pytest.mark.parametrize("name, before, after", PAIRS, ids=[p[0] for p in PAIRS])
def test_pair(name: str, before: str, after: str) -> None:
    check_pair("groups", before, after)


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    check_pair("groups", KEPT[name], KEPT[name])
