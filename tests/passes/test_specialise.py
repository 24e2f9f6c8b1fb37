"""Binding dims: text before and after."""

import pytest

from tests.passes.pairs import check_pair

PAIRS = [
    (
        "dims become numbers",
        "specialise{dims=n:3}",
        """
        func @f(%x: f32[n, m]) -> (f32[m]) dims={n: 0.., m: 0..} {
          %p: f32[2*n, m] = concat %x, %x {axis=0}
          %r: f32[m] = reduce %p {axes=[0], monoid="sum"}
          return %r
        }
        """,
        """
        func @f(%x: f32[3, m]) -> (f32[m]) dims={m: 0..} {
          %p: f32[6, m] = concat %x, %x {axis=0}
          %r: f32[m] = reduce %p {axes=[0], monoid="sum"}
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
