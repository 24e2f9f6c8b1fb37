"""Heat in a metal plate: a stencil written in place, as one would in NumPy, in a compiled loop.

The plate's rim is held at fixed temperatures. Each step moves every inner point towards the mean of
its four neighbours (Jacobi's method), until `steps` steps are done.
"""

import time
from typing import Any

import numpy as np

import graphmill as gm

SIDE, STEPS = 512, 500


def step(plate: Any) -> Any:
    plate[1:-1, 1:-1] = 0.25 * (
        plate[:-2, 1:-1] + plate[2:, 1:-1] + plate[1:-1, :-2] + plate[1:-1, 2:]
    )
    return plate


@gm.jit
def compiled(plate: Any) -> Any:
    return gm.fori_loop(0, STEPS, lambda i, state: step(state), plate)


def plain(plate: Any) -> Any:
    plate = plate.copy()
    for _ in range(STEPS):
        plate = step(plate)
    return plate


def timed(function: Any, plate: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function(plate)
    return result, time.perf_counter() - start


def picture(plate: Any, width: int = 64) -> str:
    """The plate as lines of grey letters."""
    rows = plate[:: plate.shape[0] // (width // 2), :: plate.shape[1] // width]
    shades = " .:-=+*#%@"
    return "\n".join("".join(shades[min(9, int(v / 10.01))] for v in row) for row in rows)


def main() -> None:
    plate = np.zeros((SIDE, SIDE), np.float32)
    plate[0], plate[:, 0], plate[-1] = 100, 75, 25
    compiled(plate)
    ours, our_seconds = timed(compiled, plate)
    numpys, numpy_seconds = timed(plain, plate)
    print(picture(ours))
    print(f"largest difference from NumPy: {np.abs(ours - numpys).max():.1e} degrees")
    print(
        f"{STEPS} steps on {SIDE} × {SIDE}: {our_seconds * 1e3:.0f} ms, "
        f"NumPy {numpy_seconds * 1e3:.0f} ms ({numpy_seconds / our_seconds:.1f} times as fast)"
    )


if __name__ == "__main__":
    main()
