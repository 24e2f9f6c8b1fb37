"""The same generator on every target: it compiles, with that target's own vector instructions."""

import re

import pytest

from graphmill.codegen.cpu import llvm, mlir
from graphmill.codegen.cpu.contract.gemm import GemmSpec, emit_gemm
from graphmill.codegen.cpu.emit import Unit
from graphmill.codegen.cpu.target import target
from graphmill.ir import dtypes

MULTIPLY = {
    "x86-64-v2": r"mulps\s+.*%xmm", "x86-64-v3": r"vfmadd231ps\s+.*%ymm",
    "x86-64-v4": r"vfmadd\d+ps\s+.*%zmm", "aarch64": r"fmla\s+v\d+\.4s",
}  # fmt: skip


def assembly(name: str, dtype: dtypes.DType, m: int | None) -> tuple[str, int]:
    unit = Unit()
    spec = GemmSpec(dtype, dtype, dtype, dtype, m, None, None)
    emit_gemm(unit, "gm_product", spec, target(name))
    made = llvm.compile_ir(mlir.lower(unit.text()), target(name), keep_text=True)
    return made.assembly, len(made.object)


@pytest.mark.parametrize("name", MULTIPLY)
def test_vector_instructions(name: str) -> None:
    text, size = assembly(name, dtypes.f32, 240)
    start = next(re.finditer(r"^gm[._]mk_f32_\dx\d[\w.]*:", text, re.M)).start()
    kernel = text[start : text.index(".size", start)]
    assert len(re.findall(MULTIPLY[name], kernel)) >= 40
    assert "fmaf" not in text, "a call of libm instead of an instruction"
    assert size < 16_000


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4", "aarch64"])
def test_accumulators_stay_in_registers(name: str) -> None:
    """Between the first and the last multiplication nothing goes to the stack."""
    text, _ = assembly(name, dtypes.f32, 240)
    start = next(re.finditer(r"^gm[._]mk_f32_\dx\d[\w.]*:", text, re.M)).start()
    kernel = text[start : text.index(".size", start)].splitlines()
    hits = [i for i, line in enumerate(kernel) if re.search(MULTIPLY[name], line)]
    inner = kernel[hits[0] : hits[-1]]
    spills = [line for line in inner if re.search(r"[xyz]mm\d+, -?\d*\(%rsp\)|str\s+q.*sp", line)]
    assert not spills


@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16", "i8", "c64"])
@pytest.mark.parametrize("name", MULTIPLY)
def test_types_compile(name: str, dtype: str) -> None:
    text, _ = assembly(name, dtypes.dtype(dtype), 7)
    assert "gm_product" in text
