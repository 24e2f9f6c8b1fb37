"""Placing storages: nothing live overlaps, for fixed and symbolic sizes, in little memory."""

from itertools import combinations

import numpy as np
import pytest

from graphmill.ir.dims import Dim, DimLike, evaluate
from graphmill.passes.arena import ALIGNMENT, Storage, aligned, allocate

N, M = Dim.of("n"), Dim.of("m")
SYMBOLIC: list[DimLike] = [4 * N, 4 * N, 8 * N * M, N * M + 3, 4 * M, 100, 4096, 0]


def storages(seed: int, symbolic: bool) -> list[Storage]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(60):
        start = int(rng.integers(0, 100))
        size = (
            SYMBOLIC[int(rng.integers(len(SYMBOLIC)))] if symbolic else int(rng.integers(0, 5000))
        )
        made.append(Storage(size, start, start + int(rng.integers(0, 25))))
    return made


def least(made: list[Storage], sizes: dict[str, int]) -> int:
    """The bytes live at the fullest time."""
    return max(
        sum(evaluate(aligned(s.size), sizes) for s in made if s.start <= t <= s.end)
        for t in range(130)
    )


def check(made: list[Storage], total: DimLike, sizes: dict[str, int]) -> None:
    placed = []
    for storage in made:
        assert storage.offset is not None
        low = evaluate(storage.offset, sizes)
        high = low + evaluate(storage.size, sizes)
        assert low % ALIGNMENT == 0 and high <= evaluate(total, sizes)
        placed.append((low, high, storage))
    for (low, high, a), (start, stop, b) in combinations(placed, 2):
        if a.start <= b.end and b.start <= a.end:
            assert high <= start or stop <= low or low == high or start == stop


@pytest.mark.parametrize("seed", range(40))
def test_fixed_sizes(seed: int) -> None:
    made = storages(seed, symbolic=False)
    total = allocate(made)
    check(made, total, {})
    assert isinstance(total, int) and least(made, {}) <= total <= 1.3 * least(made, {})


@pytest.mark.parametrize("sizes", [(1, 1), (7, 3), (64, 1000), (0, 5)])
@pytest.mark.parametrize("seed", range(15))
def test_symbolic_sizes(seed: int, sizes: tuple[int, int]) -> None:
    made = storages(seed, symbolic=True)
    check(made, allocate(made), {"n": sizes[0], "m": sizes[1]})


def test_sequential_values_share() -> None:
    made = [Storage(1000, t, t) for t in range(9)]
    assert allocate(made) == 1024
    symbolic = [Storage(4 * N, t, t) for t in range(9)]
    assert evaluate(allocate(symbolic), {"n": 16}) == 64
