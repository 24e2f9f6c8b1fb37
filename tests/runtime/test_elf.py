"""Linking x86-64 objects in memory: like LLVM's linker does, and never anything damaged."""

import ctypes
import os
import random
import struct
from pathlib import Path

import pytest

from graphmill.codegen.artifact import ArtifactError
from graphmill.runtime import loader
from graphmill.runtime.elf import Linked, Object

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="objects are for x86-64")

# an own constant, variable and zeroed variable, a table of own addresses, a function in the other
# object, one of libm by call and by address
FIRST = """
@gm_variable = global i64 5
@gm_zeros = global [1000 x i64] zeroinitializer, align 64
@table = internal constant [2 x ptr] [ptr @gm_seven, ptr @floor]
declare hidden i64 @gm_seven()
declare double @floor(double)
define i64 @gm_sum(i64 %i, double %x) {
  %y = call double @floor(double %x)
  %a = fptosi double %y to i64
  %p = getelementptr [2 x ptr], ptr @table, i64 0, i64 %i
  %f = load ptr, ptr %p
  %b = call i64 %f()
  %v = load i64, ptr @gm_variable
  %w = add i64 %v, 1
  store i64 %w, ptr @gm_variable
  %z = load i64, ptr getelementptr ([1000 x i64], ptr @gm_zeros, i64 0, i64 999)
  %c = add i64 %a, %b
  %d = add i64 %c, %v
  %e = add i64 %d, %z
  ret i64 %e
}
"""
SECOND = "define hidden i64 @gm_seven() {\n  ret i64 7\n}\n"


def compiled(text: str, model: str = "small") -> bytes:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.Target.from_default_triple()
    machine = triple.create_target_machine(opt=0, reloc="pic", codemodel=model)
    code: bytes = machine.emit_object(llvm.parse_assembly(text, llvm.create_context()))
    return code


def summing(address: int) -> tuple[int, int]:
    """Two calls: the variable counts them."""
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_double)(address)
    return function(0, 100.5), function(0, 200.5)


@pytest.mark.parametrize("link", [loader._link_here, loader._link_with_llvm])
def test_both_linkers_give_the_same_program(link: object) -> None:
    images = compiled(FIRST), compiled(SECOND)
    assert callable(link)
    kept, addresses = link(images, ("gm_sum",))
    assert summing(addresses["gm_sum"]) == (112, 213)
    del kept


def test_code_and_constants_cannot_be_written() -> None:
    linked = Linked([Object(compiled(FIRST)), Object(compiled(SECOND))], loader._resolve)
    modes = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        for name in ("gm_sum", "gm_variable"):
            if start <= linked.addresses[name] < end:
                modes[name] = line.split()[1]
    assert modes == {"gm_sum": "r-xp", "gm_variable": "rw-p"}


WRONG = {
    "large": (lambda: [compiled(FIRST, "large"), compiled(SECOND)], "relocation of kind"),
    "twice": (lambda: [compiled(SECOND)] * 2, "gm_seven is defined twice"),
    "alone": (lambda: [compiled(FIRST)], "no gm_seven"),
    "local to threads": (
        lambda: [compiled("@gm_t = thread_local global i64 5\n")],
        "thread-local",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_linked_is_refused(case: str) -> None:
    make, message = WRONG[case]
    with pytest.raises(ArtifactError, match=message):
        Linked([Object(code) for code in make()], loader._resolve)


def test_another_machine_and_a_missing_symbol_are_refused() -> None:
    code = compiled(SECOND)
    with pytest.raises(ArtifactError, match="does not define gm_eight"):
        loader.LoadedObject(code, ["gm_eight"])
    with pytest.raises(ArtifactError, match="another machine"):
        loader.LoadedObject(code[:18] + struct.pack("<H", 183) + code[20:], ["gm_seven"])


def test_damaged_objects_never_do_more_than_raise() -> None:
    whole, other = compiled(FIRST), Object(compiled(SECOND))
    generator = random.Random(1)
    refused = 0
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(generator.choice((1, 3))):
            at = generator.randrange(len(whole))
            damaged[at] = generator.choice((0, 1, 127, 128, 255, damaged[at] ^ 4))
        cut = generator.choice((len(whole), generator.randrange(len(whole))))
        try:
            Linked([Object(bytes(damaged[:cut])), other], loader._resolve)
        except ArtifactError:
            refused += 1
    assert refused > 300
