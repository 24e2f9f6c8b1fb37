"""Order: sorting, orders, medians, the largest k, places in a sorted array."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Workload, normal

SIZE = 1_000_000
SHORT = 100_000
ROWS, COLUMNS = 1024, 1024
LISTS, WORDS, BEST = 32, 50_257, 50  # choosing among the words of a language model


def sort(xp: Any, x: Any) -> Any:
    return xp.sort(x)


def sort_torch(torch: Any, x: Any) -> Any:
    return torch.sort(x).values


def argsort(xp: Any, x: Any) -> Any:
    return xp.argsort(x)


def median(xp: Any, x: Any) -> Any:
    return xp.median(x)


def median_torch(torch: Any, x: Any) -> Any:
    low, high = (torch.kthvalue(x, SIZE // 2 + more).values for more in (0, 1))
    return (low + high) / 2


def alone(name: str) -> Callable[[Any], Any]:
    """NumPy's function of that name as Numba has it."""

    def compiled(numba: Any) -> Any:
        function = getattr(np, name)

        @numba.njit
        def run(x: Any) -> Any:
            return function(x)

        return run

    return compiled


def sort_rows_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True)
    def run(x: Any) -> Any:
        out = np.empty_like(x)
        for i in prange(x.shape[0]):
            out[i] = np.sort(x[i])
        return out

    return run


def top_k(xp: Any, x: Any) -> Any:
    return xp.sort(xp.partition(x, -BEST, axis=-1)[:, -BEST:], axis=-1)


def top_k_jax(xp: Any, x: Any) -> Any:
    import jax

    return jax.lax.top_k(x, BEST)[0][:, ::-1]


def top_k_torch(torch: Any, x: Any) -> Any:
    return torch.topk(x, BEST).values.flip(-1)


def top_k_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True)
    def run(x: Any) -> Any:
        out = np.empty((x.shape[0], BEST), x.dtype)
        for i in prange(x.shape[0]):
            out[i] = np.sort(np.partition(x[i], x.shape[1] - BEST)[-BEST:])
        return out

    return run


def searchsorted(xp: Any, edges: Any, x: Any) -> Any:
    return xp.searchsorted(edges, x)


def searchsorted_torch(torch: Any, edges: Any, x: Any) -> Any:
    return torch.searchsorted(edges, x)


def searchsorted_numba(numba: Any) -> Any:
    @numba.njit
    def run(edges: Any, x: Any) -> Any:
        return np.searchsorted(edges, x)

    return run


def whole_order(kind: str, size: int, result: str) -> str:
    """ONNX has no sort, but the smallest k of all k, in order."""
    out = "int64" if result == "places" else kind
    names = "out, order" if result == "values" else "least, out"
    return (
        f"f ({kind}[{size}] x) => ({out}[{size}] out) <int64[1] k = {{{size}}}>"
        f"{{ {names} = TopK <axis = 0, largest = 0> (x, k) }}"
    )


def line(name: str, title: str, dtype: str, size: int, code: dict[str, Any]) -> Workload:
    """Work on one line: random bits of integers, normal floats."""

    def inputs(rng: Any) -> dict[str, Any]:
        if dtype[0] == "i":
            info = np.iinfo(dtype)
            return {"x": rng.integers(info.min, info.max, size, dtype)}
        return {"x": rng.standard_normal(size).astype(dtype)}

    return Workload(
        name, f"{title}, {size:,}", inputs, code, bytes=2.0 * size * int(dtype[1]), tolerance=0.0
    )


SORT = {"array": sort, "torch": sort_torch, "numba": alone("sort")}
ROW = f"float[{ROWS},{COLUMNS}]"

WORKLOADS = (
    line("sort_f32", "sort", "f4", SIZE, SORT | {"onnx": whole_order("float", SIZE, "values")}),
    line(
        "sort_f64", "sort f64", "f8", SHORT, SORT | {"onnx": whole_order("double", SHORT, "values")}
    ),
    line("sort_i16", "sort int16", "i2", SIZE, SORT),
    line(
        "argsort_f64",
        "argsort f64",
        "f8",
        SHORT,
        {
            "array": argsort,
            "torch": lambda torch, x: torch.argsort(x),
            "numba": alone("argsort"),
            "onnx": whole_order("double", SHORT, "places"),
        },
    ),
    Workload(
        "sort_rows",
        f"sort of rows, {ROWS} × {COLUMNS}",
        lambda rng: {"x": normal(rng, ROWS, COLUMNS)},
        {
            "array": sort,
            "torch": sort_torch,
            "numba": sort_rows_numba,
            "onnx": f"f ({ROW} x) => ({ROW} out) <int64[1] k = {{{COLUMNS}}}>"
            "{ out, order = TopK <largest = 0> (x, k) }",
        },
        bytes=8.0 * ROWS * COLUMNS,
        tolerance=0.0,
    ),
    line(
        "median",
        "median f64",
        "f8",
        SIZE,
        {"array": median, "torch": median_torch, "numba": alone("median")},
    ),
    Workload(
        "top_k",
        f"largest {BEST} of {WORDS:,}, {LISTS} rows",
        lambda rng: {"x": normal(rng, LISTS, WORDS)},
        {
            "array": top_k,
            "jax": top_k_jax,
            "torch": top_k_torch,
            "numba": top_k_numba,
            "onnx": f"f (float[{LISTS},{WORDS}] x) => (float[{LISTS},{BEST}] out)"
            f" <int64[1] k = {{{BEST}}}, int64[1] axis = {{-1}}, int64[1] end = {{-{BEST + 1}}}>"
            "{ falling, order = TopK (x, k)\n out = Slice(falling, axis, end, axis, axis) }",
        },
        bytes=4.0 * LISTS * WORDS,
        tolerance=0.0,
    ),
    Workload(
        "searchsorted",
        f"places of {SIZE:,} in {SHORT:,} sorted",
        lambda rng: {"edges": np.sort(normal(rng, SHORT)), "x": normal(rng, SIZE)},
        {
            "array": searchsorted,
            "torch": searchsorted_torch,
            "numba": searchsorted_numba,
        },
        bytes=4.0 * SHORT + 12.0 * SIZE,
        tolerance=0.0,
    ),
)
