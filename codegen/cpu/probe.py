"""Copying with stores that bypass the caches and with plain ones, to measure which is faster."""

from __future__ import annotations

from graphmill.codegen.cpu.llvm import compile_ir
from graphmill.codegen.cpu.target import Target

PLAIN, BYPASS = "gm_probe_plain", "gm_probe_bypass"
STEP = 512  # bytes of one turn


def object_code(target: Target) -> bytes:
    """Object code of `float f(ptr to, ptr from, i64 bytes)`, once for each kind of store.

    Each copies a multiple of `STEP` bytes, aligned to 64, and then reads the copy.
    """
    fence = "call void @llvm.x86.sse.sfence()" if target.is_x86 else ""
    kinds = _probe(PLAIN, "", "") + _probe(BYPASS, ", !nontemporal !0", fence)
    declared = "declare void @llvm.x86.sse.sfence()\n" if target.is_x86 else ""
    return compile_ir(f"{declared}{kinds}!0 = !{{i32 1}}\n", target).object


def _probe(name: str, hint: str, fence: str) -> str:
    kind, parts = "<16 x float>", range(0, STEP, 64)
    copies = [
        f"{_place('%from', f'f{n}', '%i', n)}%v{n} = load {kind}, ptr %f{n}, align 64\n"
        f"{_place('%to', f't{n}', '%i', n)}store {kind} %v{n}, ptr %t{n}, align 64{hint}"
        for n in parts
    ]
    reads = [
        f"{_place('%to', f'g{n}', '%k', n)}%w{n} = load {kind}, ptr %g{n}, align 64\n"
        f"%b{n} = fadd {kind} %a{n}, %w{n}"
        for n in parts
    ]
    phis = [f"%a{n} = phi {kind} [ zeroinitializer, %read ], [ %b{n}, %second ]" for n in parts]
    sums = [f"%s{n} = fadd {kind} %b{n}, %{f's{n - 64}' if n > 64 else 'b0'}" for n in parts[1:]]
    lines = [
        f"define float @{name}(ptr %to, ptr %from, i64 %n) {{",
        "entry:", "br label %first", "first:",
        "%i = phi i64 [ 0, %entry ], [ %j, %first ]", *copies, f"%j = add i64 %i, {STEP}",
        "%more = icmp ult i64 %j, %n", "br i1 %more, label %first, label %read",
        "read:", fence, "br label %second", "second:",
        "%k = phi i64 [ 0, %read ], [ %l, %second ]", *phis, *reads, f"%l = add i64 %k, {STEP}",
        "%again = icmp ult i64 %l, %n", "br i1 %again, label %second, label %end",
        "end:", *sums, f"%sum = extractelement {kind} %s{STEP - 64}, i32 0", "ret float %sum", "}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _place(base: str, name: str, index: str, offset: int) -> str:
    return (
        f"%{name}x = getelementptr i8, ptr {base}, i64 {index}\n"
        f"%{name} = getelementptr i8, ptr %{name}x, i64 {offset}\n"
    )
