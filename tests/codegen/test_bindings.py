"""LLVM and MLIR through their C interfaces: what goes wrong is an exception, and nothing leaks."""

import ctypes
import subprocess
import sys
import textwrap

import pytest

from graphmill.codegen.cpu import bindings, llvm, mlir
from graphmill.codegen.cpu.target import Target, native, target

ADD = "define i64 @gm_f(i64 %a) {\n  %b = add i64 %a, 7\n  ret i64 %b\n}\n"


@pytest.mark.parametrize(
    "text",
    ["define i64 @gm_f() {", "define i64 @gm_f() {\n  ret i32 1\n}\n", "what\n"],
)
def test_malformed_llvm_ir_is_refused(text):
    with pytest.raises(llvm.LLVMError, match="malformed"):
        llvm.compile_ir(text, native())


def test_llvm_ir_that_does_not_verify_is_refused():
    text = "define i64 @gm_f() {\n  %a = add i64 %b, 1\n  %b = add i64 %a, 1\n  ret i64 %b\n}\n"
    with pytest.raises(llvm.LLVMError, match="dominate"):
        llvm.compile_ir(text, native())


def test_an_unknown_target_is_refused():
    with pytest.raises(llvm.LLVMError, match="nowhere"):
        llvm.compile_ir(ADD, Target("x", "nowhere-none-none", "", "", 128, 16))


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "aarch64"])
@pytest.mark.parametrize("kind", ["straight", "plain", "any"])
def test_objects_and_texts_of_other_targets(name, kind):
    made = llvm.compile_ir(ADD, target(name), kind=kind, keep_text=True)
    assert made.object[:4] == b"\x7fELF"
    assert "gm_f" in made.llvm_ir and "gm_f:" in made.assembly


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("module { llvm.func @f() { llvm.retur } }", "llvm.retur"),
        ('module { "arith.addi"() : () -> i64 }', "operand"),
        ("module {", "malformed"),
        ("module { func.func private @f(tensor<4xf32>) }", "outside the llvm dialect"),
    ],
)
def test_malformed_mlir_is_refused_with_the_reason(text, reason):
    with pytest.raises(mlir.LoweringError, match=reason) as caught:
        mlir.lower(text)
    assert caught.value.text == text


def test_another_llvmlite_is_called_as_it_declares_its_functions():
    script = f"""
        from graphmill.codegen.cpu import bindings, llvm
        from graphmill.codegen.cpu.target import native
        plain = llvm.compile_ir({ADD!r}, native(), keep_text=True)
        bindings.TESTED = ("0.1.",)
        bindings.llvm.cache_clear()
        assert llvm.compile_ir({ADD!r}, native(), keep_text=True).object == plain.object
        assert llvm.compile_ir({ADD!r}, native(), kind="straight").object
        assert llvm.compile_ir({ADD!r}, native(), kind="plain").object
        try:
            llvm.compile_ir("what", native())
        except llvm.LLVMError:
            print("same")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert run.stdout.strip() == "same", run.stderr


def test_the_installed_llvmlite_is_a_tested_one():
    """When this fails, compare `bindings._LLVM` with what the new llvmlite declares, and add it."""
    import llvmlite.binding

    assert llvmlite.__version__.startswith(bindings.TESTED)
    library = llvmlite.binding.ffi.lib
    for name, (_, arguments) in bindings._LLVM.items():
        declared = getattr(library, f"LLVMPY_{name}").argtypes
        if declared is not None:
            assert [*map(ctypes.sizeof, declared)] == [*map(ctypes.sizeof, arguments)], name


class Enough(Exception):
    pass


def test_what_a_signals_handler_raises_comes_out_of_mlir():
    """At every step: none of them is in a function that MLIR calls, which would lose it."""
    text = "func.func @gm_f(%a: i64) -> i64 {\n  %b = arith.addi %a, %a : i64\n  return %b : i64\n}"
    lowered, before, steps = mlir.lower(text), sys.gettrace(), 0

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename != mlir.__file__:
            return None
        left -= event == "line"
        if left == 0:
            raise Enough
        return trace

    while True:
        steps += 1
        left = steps
        try:
            sys.settrace(trace)
            assert mlir.lower(text) == lowered
            break
        except Enough:
            pass
        finally:
            sys.settrace(before)
        assert left == 0
    assert steps > 50
    assert left > 0
