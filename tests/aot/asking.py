"""Small programs without a compiler: a question to this CPU, a program for aarch64."""

import ctypes

from graphmill.codegen.aot import cpu, elf, link
from graphmill.codegen.cpu.llvm import compile_ir
from graphmill.codegen.cpu.target import native
from graphmill.codegen.cpu.words import to_llvm

# calls the library on two threads, prints the ten numbers and what a wrong call says
PROGRAM = """
@format = private constant [4 x i8] c"%g \\00"
@text = private constant [4 x i8] c"%s\\0A\\00"
@x = private constant [12 x float] [{numbers}]
@out = internal global [10 x float] zeroinitializer
declare i32 @printf(ptr, ...)
declare void @exit(i32)
declare i32 @{library}_dense(ptr, ptr, i64)
declare i32 @gml_{library}_set_threads(i32)
declare ptr @gml_{library}_last_error()
define void @_start() {{
entry:
  %t = call i32 @gml_{library}_set_threads(i32 2)
  %s = call i32 @{library}_dense(ptr @x, ptr @out, i64 2)
  %sum = or i32 %s, %t
  br label %head
head:
  %i = phi i64 [0, %entry], [%next, %head]
  %p = getelementptr float, ptr @out, i64 %i
  %v = load float, ptr %p
  %d = fpext float %v to double
  call i32 (ptr, ...) @printf(ptr @format, double %d)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, 10
  br i1 %more, label %head, label %done
done:
  %wrong = call i32 @{library}_dense(ptr null, ptr @out, i64 2)
  %message = call ptr @gml_{library}_last_error()
  call i32 (ptr, ...) @printf(ptr @text, ptr %message)
  call void @exit(i32 %sum)
  unreachable
}}
"""


def ask_cpu(names, folder):
    """For each feature name, whether the library's check finds it on this CPU."""
    parts = [cpu._x86_words([n]).replace("gm_missing", f"gm_{k}") for k, n in enumerate(names)]
    code = compile_ir(to_llvm("\n".join(parts), native().triple), native()).object
    (folder / "words.o").write_bytes(code)
    elf.write_object(folder / "cpu.o", "x86_64", cpu.machine_code(native()))
    objects = [folder / "words.o", folder / "cpu.o"]
    public = [f"gm_{k}" for k in range(len(names))]
    link.shared(link.find(native()), native(), objects, folder / "libask.so", public, folder)
    library = ctypes.CDLL(str(folder / "libask.so"))
    answers = [ctypes.CFUNCTYPE(ctypes.c_char_p)((symbol, library))() for symbol in public]
    assert all(a is None or a.startswith(n.encode()) for a, n in zip(answers, names, strict=True))
    return {n for a, n in zip(answers, names, strict=True) if a is None}


def foreign_program(built, library, target, root, folder):
    """A program for `target` that calls a built library, with the C library under `root`."""
    numbers = ", ".join(f"float {i / 8:e}" for i in range(12))
    text = PROGRAM.format(library=library, numbers=numbers)
    (folder / "main.o").write_bytes(compile_ir(text, target).object)
    linker = link.find(target, "lld")
    libc = f"{root}/lib/libc.so.6"
    options = ["--dynamic-linker=/lib/ld-linux-aarch64.so.1", f"-rpath={built.path.parent}"]
    options += ["--allow-shlib-undefined", str(folder / "main.o"), str(built.path), libc]
    link.run(linker, [*options, "-o", str(folder / "program")])
    (folder / "program").chmod(0o755)
    return folder / "program"
