"""The whole table on other targets: what they call, and that a CPU without FMA computes as well."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from graphmill.codegen.cpu import llvm, mlir
from graphmill.codegen.cpu.convert import cast
from graphmill.codegen.cpu.scalar import UnsupportedOp, supported
from graphmill.codegen.cpu.target import target
from graphmill.ir.dtypes import DType, bf16, f16, f32, f64
from graphmill.ir.ops.base import all_ops
from tests.codegen import test_math
from tests.codegen.harness import Kernels
from tests.codegen.reference import ulps
from tests.codegen.test_scalar import arity, out_type

LIBM = {"sin", "cos", "tan", "fmod", "sinf", "cosf", "tanf", "fmodf"}
WIDEST = {"b": "bool", "i": "i64", "u": "u32", "f": "f64", "c": "c128"}
ONLY_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="runs x86-64 code")


def float_batch(name: str, words: Sequence[str]) -> Kernels:
    """All float ops, and casts between the float types, for target `name`."""
    batch = Kernels(target=target(name), keep_text=True)
    for op, kind in sorted(supported()):
        if kind == "f" and op not in ("cast", "bitcast", "complex"):
            n = 2 if op in test_math.BINARY or op == "logaddexp" else arity(op)
            for word in words:
                ins = ["bool" if op == "select" else word, *[word] * (n - 1)]
                batch.add_op(op, ins, out_type(op, word), f"{op}_{word}")
    for a in (f16, bf16, f32, f64):
        for b in (f16, bf16, f32, f64):
            batch.add(f"cast_{a}_{b}", [a], b, lambda c, args, a=a, b=b: cast(c, args[0], a, b))
    return batch


@cache
def baseline() -> Kernels:
    return float_batch("x86-64-v2", ("f32", "f64"))


def called(assembly: str) -> set[str]:
    """The external symbols that the assembly calls or jumps to."""
    return set(re.findall(r"\t(?:callq?|jmp|bl|b)\t\*?((?!gm[_.])[A-Za-z_]\w*)", assembly))


@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64"])
def test_only_libm_is_called(name: str) -> None:
    batch = float_batch(name, ("f64",))
    text = mlir.lower(batch.unit.text())
    assembly = llvm.compile_ir(text, batch.target, keep_text=True).assembly
    assert "sin" in called(assembly) <= LIBM


@ONLY_X86
def test_only_libm_is_called_without_fused_multiply_add() -> None:
    batch = baseline()
    if batch.engine is None:
        batch.compile()
    assert "fmodf" in called(batch.compiled.assembly) <= LIBM


@ONLY_X86
@pytest.mark.parametrize("kind", test_math.DTYPES)
@pytest.mark.parametrize("op", test_math.UNARY)
def test_bounds_hold_without_fused_multiply_add(op: str, kind: str) -> None:
    function, *bounds = test_math.UNARY[op]
    x = test_math.samples(kind)[::11]
    with np.errstate(all="ignore"):
        error = ulps(baseline()(f"{op}_{kind}", x), function(x))
    assert error.max() <= bounds[kind == "f64"] + 0.4, x[error.argmax()]


@ONLY_X86
@pytest.mark.parametrize("half", [f16, bf16])
def test_every_half_without_the_instruction(half: DType) -> None:
    words = np.arange(1 << 16, dtype=np.uint16)
    values = words.view(half.numpy)
    wide = baseline()(f"cast_{half}_f32", values)
    np.testing.assert_array_equal(wide, values.astype(np.float32))
    with np.errstate(all="ignore"):
        near = np.concatenate([np.nextafter(wide, np.float32(s)) for s in (-9e9, 9e9)])
        middle = np.concatenate([wide[:-1] / 2 + wide[1:] / 2, near, wide])
        want = middle.astype(half.numpy)
    got = baseline()(f"cast_f32_{half}", middle)
    np.testing.assert_array_equal(got.astype(np.float32), want.astype(np.float32))


def test_table_covers_the_elementwise_ops_of_the_ir() -> None:
    missing = {
        (op.name, kind)
        for op in all_ops().values()
        if op.family == "elementwise"
        for kind in op.kinds
        if (op.name, kind) not in supported()
    }
    assert not missing


@pytest.mark.parametrize("lanes", [4, 16])
def test_every_op_lowers_at_other_widths(lanes: int) -> None:
    batch = Kernels(lanes=lanes)
    for op, kind in sorted(supported()):
        if op in ("cast", "bitcast", "complex", "real", "imag", "abs") or kind == "c":
            continue
        word = WIDEST[kind]
        n = 2 if op in test_math.BINARY or op == "logaddexp" else arity(op)
        ins = ["bool" if op == "select" else word, *[word] * (n - 1)]
        batch.add_op(op, ins, out_type(op, word), f"{op}_{word}")
    assert "gm_exp_f64" in mlir.lower(batch.unit.text())


def test_an_unknown_op_is_refused() -> None:
    with pytest.raises(UnsupportedOp, match="no CPU lowering of sin for bool"):
        Kernels().add_op("sin", ["bool"], "bool")
