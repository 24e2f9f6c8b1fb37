"""Graphmill in a minute: compile a NumPy function, look at it, keep a size open, run a loop."""

from typing import Any

import numpy as np

import graphmill as gm


@gm.jit
def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x * x * x)))


@gm.jit(dynamic={"x": ("rows", None)})
def standardise(x: Any) -> Any:
    """One compile serves every number of rows."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)


@gm.jit
def square_root(a: Any) -> Any:
    """Newton's iteration: the loop is part of the compiled program."""
    return gm.fori_loop(0, 20, lambda i, x: 0.5 * (x + a / x), a)


def main() -> None:
    x = np.linspace(-4, 4, 1_000_000, dtype=np.float32)
    print("gelu:", gelu(x)[:3])
    print("as the compiler sees it, fused:")
    print(gelu.lower(x).ir("fuse"))

    rng = np.random.default_rng(0)
    for rows in (1, 7, 1000):
        y = standardise(rng.standard_normal((rows, 64), dtype=np.float32))
        print(f"standardise {rows} rows: mean {abs(y.mean()):.1e}, deviation {y.std():.4f}")

    print("square roots:", square_root(np.array([1, 2, 9], np.float32)))


if __name__ == "__main__":
    main()
