"""What the C functions refuse, called as C calls them: pointers, dims, sizes, memory."""

import ctypes

import numpy as np
import pytest

from graphmill.codegen.aot.dimtext import WORDS, C, translate
from graphmill.codegen.aot.library import build_library
from graphmill.codegen.aot.signature import BuildError
from graphmill.codegen.artifact import ArgSpec, Artifact, DimSpec
from graphmill.codegen.cpu.target import target
from graphmill.runtime.dims import evaluate
from tests.aot import kernels

OK, BAD_ARGUMENT, BAD_DIM, OUT_OF_MEMORY = range(4)

NOTHING = """
define i32 @gm_{name}(ptr %ctx, ptr %args, ptr %dims) {{ ret i32 {status} }}
define i64 @gm_{name}_arena(ptr %dims, i64 %threads) {{ ret i64 {arena} }}
"""

EXPRESSIONS = (
    "n", "0", "n + m", "n - 3", "2*n*m - 7", "-n + 4", "floordiv(n - 3, 2) + 1", "n // 2 - m",
    "mod(n - 5, 3)", "(n - 5) % 3", "max(n, m) - 4", "min(n - 2, m)", "n*n*m - m*m", "n - m*2",
    "floordiv(n, m)*m + mod(n, m) - n",
)  # fmt: skip


def library(folder, parts):
    """The built functions through ctypes, and the last error's text."""
    built = build_library(parts, folder / "libw.so", target=target(), prefix="")
    code = ctypes.CDLL(str(built.path))
    message = ctypes.CFUNCTYPE(ctypes.c_char_p)(("gml_w_last_error", code))
    return code, lambda: message().decode()


def nothing(name, shape, dims, status=0, arena=0, dtype="f32"):
    code = kernels.compiled(NOTHING, name=name, status=status, arena=arena)
    specs = (ArgSpec("x", dtype, shape),)
    return Artifact(name, f"gm_{name}", "native", code, specs, (), dims, arena_bytes=None)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """One function per expression: its input has that many elements."""
    dims = (DimSpec("n"), DimSpec("m", 1))
    parts = [nothing(f"f{k}", (text, 1), dims) for k, text in enumerate(EXPRESSIONS)]
    return library(tmp_path_factory.mktemp("sizes"), parts)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_sizes_are_those_of_the_expression(sizes, text):
    (code, message), k = sizes, EXPRESSIONS.index(text)
    for n in range(8):
        for m in range(1, 5):
            value = evaluate(text, {"n": n, "m": m})
            wanted = BAD_DIM if value < 0 else BAD_ARGUMENT if value else OK
            got = code[f"f{k}"](None, ctypes.c_int64(n), ctypes.c_int64(m))
            assert got == wanted, (text, n, m, value, message())


def test_c_expressions_have_the_same_values():
    for text in EXPRESSIONS:
        for n in range(6):
            c = translate(text, {"n": "n", "m": "m"}, {**C, "floordiv": "({0} // {1})",
                          "max": "max({0}, {1})", "min": "min({0}, {1})"})  # fmt: skip
            assert evaluate(c, {"n": n, "m": 2}) == evaluate(text, {"n": n, "m": 2})


@pytest.mark.parametrize("text", ["k", "n ** 2", "n / 2", "f(n)", "1.5", "n +", "True", "abs(n)"])
def test_expressions_outside_the_grammar(text):
    with pytest.raises(BuildError, match="dim"):
        translate(text, {"n": "n"}, WORDS)


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    n, wide = (DimSpec("n", 0, 1 << 62),), (DimSpec("n"), DimSpec("m"), DimSpec("k"))
    parts = [
        nothing("vector", ("n",), n),
        nothing("cube", ("n", "m", "k"), wide),
        nothing("doubles", (2,), (), dtype="f64"),
        nothing("complexes", (2,), (), dtype="c128"),
        nothing("bytes", (2,), (), dtype="u8"),
        nothing("fails", (), (), status=7),
        nothing("hungry", (), (), arena=1 << 50),
        nothing("impossible", (), (), arena=-64),
        nothing("strict", ("n",), (DimSpec("n", 2, 5),)),
    ]
    return library(tmp_path_factory.mktemp("faults"), parts)


BUFFER = np.zeros(64, np.uint8)
ADDRESS = BUFFER.ctypes.data - BUFFER.ctypes.data % 16 + 16


@pytest.mark.parametrize(
    "call, at, dims, code, text",
    [
        ("vector", None, (0,), OK, ""),
        ("vector", None, (1,), BAD_ARGUMENT, "vector: x is NULL"),
        ("vector", ADDRESS + 2, (1,), BAD_ARGUMENT, "vector: x is not aligned to its element type"),
        ("vector", ADDRESS + 2, (0,), OK, ""),
        ("vector", ADDRESS, (-1,), BAD_DIM, "n is -1, it must be at least 0 and at most 4611"),
        ("vector", ADDRESS, (-(1 << 63),), BAD_DIM, f"n is {-(1 << 63)},"),
        ("vector", ADDRESS, (1 << 50,), BAD_DIM, "vector: the dims give x an impossible size"),
        ("cube", ADDRESS, (1 << 31, 1 << 31, 4), BAD_DIM, "impossible size"),
        ("cube", ADDRESS, (1 << 32, 1 << 32, 0), BAD_DIM, "impossible size"),
        ("cube", None, (0, 1 << 40, 5), OK, ""),
        ("doubles", ADDRESS + 4, (), BAD_ARGUMENT, "not aligned"),
        ("complexes", ADDRESS + 8, (), OK, ""),
        ("bytes", ADDRESS + 1, (), OK, ""),
        ("fails", ADDRESS, (), 7, "fails: failed with internal code 7"),
        ("hungry", ADDRESS, (), OUT_OF_MEMORY, f"hungry: no memory for {1 << 50} bytes"),
        ("impossible", ADDRESS, (), BAD_DIM, "impossible amount of scratch"),
        ("strict", ADDRESS, (1,), BAD_DIM, "n is 1, it must be at least 2 and at most 5"),
        ("strict", ADDRESS, (2,), OK, ""),
        ("strict", ADDRESS, (5,), OK, ""),
        ("strict", ADDRESS, (6,), BAD_DIM, "n is 6"),
    ],
    ids=[str(n) for n in range(20)],  # addresses differ between processes
)  # fmt: skip
def test_faults(faults, call, at, dims, code, text):
    functions, message = faults
    values = [ctypes.c_int64(d) for d in dims]
    assert functions[call](ctypes.c_void_p(at), *values) == code
    assert code == OK or text in message()


def test_set_threads_bounds(faults):
    functions, message = faults
    for count, code in ((0, 1), (-1, 1), (4097, 1), (4096, 0), (1, 0)):
        assert functions["gml_w_set_threads"](count) == code
    assert "between 1 and 4096, not 4097" in message()


def test_long_names_are_cut_in_messages(tmp_path):
    name = "long" * 200
    code, message = library(tmp_path, [nothing(name, ("n",), (DimSpec("n"),))])
    assert code[name](None, ctypes.c_int64(3)) == BAD_ARGUMENT
    assert message() == name[:511]
