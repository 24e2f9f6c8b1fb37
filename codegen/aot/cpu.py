"""The check of the CPU at a library's first call, in the word language and baseline instructions.

x86-64 asks CPUID and XGETBV, as the Intel manual describes (volume 1, 14.3): a feature of wide
registers counts only where the system saves them. aarch64 asks the kernel's hardware words.
Linux lets a process use AMX's tiles when it has asked for them, so the check asks.
"""

from __future__ import annotations

from graphmill.codegen.aot.elf import ALLOC, EXECUTE, Elf, Section
from graphmill.codegen.artifact import Artifact
from graphmill.codegen.cpu.contract.amx import PREFIX as AMX_PREFIX
from graphmill.codegen.cpu.permission import ARCH_REQ_XCOMP_PERM, SYS_ARCH_PRCTL, XTILEDATA
from graphmill.codegen.cpu.target import Target

_EAX, _EBX, _ECX, _EDX = range(4)
_YMM, _ZMM, _TILES = 0x06, 0xE6, 0x60000

# LLVM feature: (leaf, subleaf, register, bit, state that the system must save). What LLVM selects
# only when told to (AES, SHA, ADX, …) is left out: generated code never does.
_X86: dict[str, tuple[int, int, int, int, int]] = {
    "sse3": (1, 0, _ECX, 0, 0),
    "ssse3": (1, 0, _ECX, 9, 0),
    "fma": (1, 0, _ECX, 12, _YMM),
    "cx16": (1, 0, _ECX, 13, 0),
    "sse4.1": (1, 0, _ECX, 19, 0),
    "sse4.2": (1, 0, _ECX, 20, 0),
    "movbe": (1, 0, _ECX, 22, 0),
    "popcnt": (1, 0, _ECX, 23, 0),
    "avx": (1, 0, _ECX, 28, _YMM),
    "f16c": (1, 0, _ECX, 29, _YMM),
    "bmi": (7, 0, _EBX, 3, 0),
    "avx2": (7, 0, _EBX, 5, _YMM),
    "bmi2": (7, 0, _EBX, 8, 0),
    "avx512f": (7, 0, _EBX, 16, _ZMM),
    "avx512dq": (7, 0, _EBX, 17, _ZMM),
    "avx512ifma": (7, 0, _EBX, 21, _ZMM),
    "avx512cd": (7, 0, _EBX, 28, _ZMM),
    "avx512bw": (7, 0, _EBX, 30, _ZMM),
    "avx512vl": (7, 0, _EBX, 31, _ZMM),
    "avx512vbmi": (7, 0, _ECX, 1, _ZMM),
    "avx512vbmi2": (7, 0, _ECX, 6, _ZMM),
    "gfni": (7, 0, _ECX, 8, 0),
    "avx512vnni": (7, 0, _ECX, 11, _ZMM),
    "avx512bitalg": (7, 0, _ECX, 12, _ZMM),
    "avx512vpopcntdq": (7, 0, _ECX, 14, _ZMM),
    "avx512fp16": (7, 0, _EDX, 23, _ZMM),
    "amx-bf16": (7, 0, _EDX, 22, _TILES),
    "amx-tile": (7, 0, _EDX, 24, _TILES),
    "amx-int8": (7, 0, _EDX, 25, _TILES),
    "avxvnni": (7, 1, _EAX, 4, _YMM),
    "avx512bf16": (7, 1, _EAX, 5, _ZMM),
    "avxifma": (7, 1, _EAX, 23, _YMM),
    "avxvnniint8": (7, 1, _EDX, 4, _YMM),
    "avxneconvert": (7, 1, _EDX, 5, _YMM),
    "avxvnniint16": (7, 1, _EDX, 10, _YMM),
    "lzcnt": (0x80000001, 0, _ECX, 5, 0),
    "sse4a": (0x80000001, 0, _ECX, 6, 0),
    "xop": (0x80000001, 0, _ECX, 11, _YMM),
    "fma4": (0x80000001, 0, _ECX, 16, _YMM),
    "tbm": (0x80000001, 0, _ECX, 21, 0),
}

# LLVM feature: (AT_HWCAP or AT_HWCAP2, bit), from Linux' asm/hwcap.h
_HWCAP, _HWCAP2 = 16, 26
_AARCH64: dict[str, tuple[int, int]] = {
    "fp-armv8": (_HWCAP, 0),
    "neon": (_HWCAP, 1),
    "lse": (_HWCAP, 8),
    "fullfp16": (_HWCAP, 10),
    "rdm": (_HWCAP, 12),
    "complxnum": (_HWCAP, 14),
    "rcpc": (_HWCAP, 15),
    "sha3": (_HWCAP, 17),
    "dotprod": (_HWCAP, 20),
    "sve": (_HWCAP, 22),
    "fp16fml": (_HWCAP, 23),
    "sve2": (_HWCAP2, 1),
    "i8mm": (_HWCAP2, 13),
    "bf16": (_HWCAP2, 14),
}

# gm_cpuid(leaf, subleaf, p): the four registers go to p[0..3]; gm_xgetbv(): the state mask.
# As bytes, because LLVM assembles no text for an architecture other than its own here.
_CPUID = bytes.fromhex(
    "53"  # push rbx
    "89f8 89f1 4989d0 0fa2"  # mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid
    "498900 49895808 49894810 49895018"  # mov [r8], rax; [r8+8], rbx; [r8+16], rcx; [r8+24], rdx
    "5b c3"  # pop rbx; ret
)
_XGETBV = bytes.fromhex("31c9 0f01d0 48c1e220 4809d0 c3")  # ecx = 0; rax = edx:eax; ret


def architecture(target: Target) -> str:
    """`x86_64` or `aarch64`."""
    return target.triple.split("-")[0]


def features(target: Target) -> list[str]:
    """The features that the target's code may use and that the check can ask for."""
    table = _X86 if architecture(target) == "x86_64" else _AARCH64
    enabled = {f[1:] for f in target.features.split(",") if f.startswith("+")}
    return [name for name in table if name in enabled]


def uses_tiles(artifact: Artifact) -> bool:
    """Whether the code has AMX instructions."""
    images = map(Elf, (artifact.object, *artifact.parts))
    return any(name.startswith(AMX_PREFIX) for i in images for name, *_ in i.symbols(local=True))


def machine_code(target: Target) -> list[Section]:
    """The section with `gm_cpuid` and `gm_xgetbv`; none where the check needs no such code."""
    if architecture(target) != "x86_64":
        return []
    code = _CPUID.ljust(32, b"\xcc")
    symbols = {"gm_cpuid": 0, "gm_xgetbv": len(code)}
    return [Section(".text.gm_cpu", ALLOC | EXECUTE, (code, _XGETBV), symbols, align=16)]


def words(target: Target) -> str:
    """Source of `gm_missing()`: the name of the first feature the CPU lacks, or 0."""
    if architecture(target) == "x86_64":
        return _x86_words(features(target))
    lines = ["from libc import getauxval", "def gm_missing():"]
    for name in features(target):
        kind, bit = _AARCH64[name]
        lines += [f"    if (getauxval({kind}) >> {bit}) & 1 == 0:", f"        return {name!r}"]
    return "\n".join([*lines, "    return 0", ""])


def _x86_words(names: list[str]) -> str:
    tiles = "amx-tile" in names
    lines = ["from libc import syscall"] if tiles else []
    lines += ["from cpu import gm_cpuid, gm_xgetbv", "def gm_missing():", "    r = stack(4)"]
    lines += ["    state = 0", "    gm_cpuid(1, 0, r)"]
    lines += ["    if (r[2] >> 27) & 1:", "        state = gm_xgetbv()"]
    for leaf, subleaf in sorted({_X86[name][:2] for name in names}):
        # beyond its highest leaf a CPU answers with another leaf's bits
        lines += [f"    gm_cpuid({leaf & 0x80000000}, 0, r)", f"    known = r[0] >= {leaf}"]
        lines += [f"    gm_cpuid({leaf}, {subleaf}, r)"]
        for name in names:
            if _X86[name][:2] == (leaf, subleaf):
                _, _, register, bit, state = _X86[name]
                has = f"known and (r[{register}] >> {bit}) & 1 and state & {state} == {state}"
                lines += [f"    if not ({has}):", f"        return {name!r}"]
    if tiles:
        ask = f"syscall({SYS_ARCH_PRCTL}, {ARCH_REQ_XCOMP_PERM}, {XTILEDATA})"
        lines += [f"    if {ask}:", "        return 'amx-tile: the system does not permit it'"]
    return "\n".join([*lines, "    return 0", ""])
